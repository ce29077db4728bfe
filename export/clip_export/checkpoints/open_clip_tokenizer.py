"""open_clip's tokenizers as one ``tokenizer.json`` each.

open_clip first cleans a text in Python. Replacements of characters are followed, and HTML's common entities. Two steps are
left out: ftfy's repair of wrongly decoded text, and HTML's rarer entities.
"""

from __future__ import annotations

import dataclasses
import json
import math
from collections.abc import Iterator, Mapping, Sequence
from html.entities import html5
from pathlib import Path
from typing import Any

from tokenizers import Regex, Tokenizer, normalizers

from clip_client.errors import InvalidInput
from clip_export.checkpoints import tokenizer
from clip_export.checkpoints.text_normalizers import LOWER, NO_PUNCTUATION, ONE_SPACE, prepended
from clip_export.checkpoints.tokenizer import TextTokenizer
from clip_export.library_errors import reading

_CLEAN = {
    "whitespace": ONE_SPACE,
    "lower": [*ONE_SPACE, *LOWER],
    "canonicalize": [normalizers.Replace("_", " "), *NO_PUNCTUATION, *LOWER, *ONE_SPACE],
}
_NAMED = (
    *("lt", "gt", "quot", "apos", "nbsp", "ndash", "mdash", "hellip", "lsquo", "rsquo", "ldquo", "rdquo", "bull", "middot"),
    *("copy", "reg", "trade", "deg", "times", "euro", "pound", "eacute", "egrave", "agrave", "ccedil", "uuml", "ouml", "auml"),
    *("szlig", "ntilde", "oacute", "aacute", "iacute", "uacute", "ecirc", "acirc", "frac12"),
)
"""HTML's entities that captions hold most."""


@dataclasses.dataclass(frozen=True)
class _Settings:
    """Settings of a ``text_cfg`` that shape tokens.

    Attributes:
        clean: name of the cleaning.
        named: the tokenizer is one of Hugging Face's.
        no_separator: the separator becomes token 0.
    """

    clean: str
    named: bool
    no_separator: bool

    @classmethod
    def of(cls, text: Mapping[str, Any], label: str) -> _Settings:
        """Parse; raises InvalidInput for a setting that a ``tokenizer.json`` can't follow."""
        named = bool(text.get("hf_tokenizer_name"))
        left = {
            name: value for name, value in dict(text.get("tokenizer_kwargs") or {}).items() if value not in (None, "", False)
        }
        clean = left.pop("clean", "whitespace" if named else "lower")
        no_separator = left.pop("strip_sep_token", False) if named else False
        if language := left.get("language"):
            raise InvalidInput(
                f"{label}: the tokenizer has the language {language!r}, which transformers takes back before every text: "
                "remove it from tokenizer_kwargs, and texts are in the tokenizer's own language, as open_clip has them"
            )
        if mask := left.get("reduction_mask"):
            raise InvalidInput(
                f"{label}: the tokenizer has the reduction_mask {mask!r}, which chooses words of long texts while a model is "
                "trained: remove it from tokenizer_kwargs, and long texts are cut off at their end"
            )
        if mode := text.get("tokenizer_mode"):
            left["tokenizer_mode"] = mode
        if clean not in _CLEAN or left:
            raise InvalidInput(
                f"{label}: the tokenizer's settings {left or clean} can't be followed, expected clean as one of "
                f"{', '.join(_CLEAN)}, and with a tokenizer of Hugging Face's strip_sep_token, and nothing else"
            )
        return cls(clean, named, bool(no_separator))


def read(text: Mapping[str, Any], folder: Path, label: str) -> TextTokenizer:
    """Make the tokenizer that a ``text_cfg`` asks for.

    Args:
        text: open_clip's configuration of the text tower.
        folder: of Hugging Face's tokenizer, if it is one.
        label: the checkpoint's name, for messages.

    Raises:
        InvalidInput: if it does something that a ``tokenizer.json`` can't.
    """
    settings = _Settings.of(text, label)
    own = tokenizer.read(folder, label) if settings.named else _simple()
    steps = _CLEAN[settings.clean]
    return dataclasses.replace(own, content=prepended(_cleaned_first(_reachable(own.content, steps)), [*_repaired(), *steps]))


def separator(text: Mapping[str, Any], folder: Path, label: str) -> int | None:
    """Return the token that open_clip replaces by 0 behind the tokenizer; None where it replaces none.

    Raises:
        InvalidInput: if the tokenizer has no separator.
    """
    if not _Settings.of(text, label).no_separator:
        return None
    from transformers import AutoTokenizer

    with reading(label, "the tokenizer"):
        token = AutoTokenizer.from_pretrained(folder, local_files_only=True, trust_remote_code=False).sep_token_id
    if token is None:
        raise InvalidInput(
            f"{label}: strip_sep_token is on and the tokenizer has no sep_token: name it in tokenizer_config.json"
        )
    return int(token)


def _reachable(content: str, steps: Sequence[normalizers.Normalizer]) -> str:
    """Remove the added tokens that no cleaned text can hold, such as those in brackets that lose them."""
    cleaned = normalizers.Sequence([*steps])
    state = json.loads(content)
    kept = [token for token in state["added_tokens"] if cleaned.normalize_str(token["content"]) == token["content"]]
    return content if kept == state["added_tokens"] else json.dumps({**state, "added_tokens": kept})


def _cleaned_first(content: str) -> str:
    """Find added tokens in cleaned text, where white space beside them counts, since each part would be stripped otherwise."""
    tokenizer, state = Tokenizer.from_str(content), json.loads(content)
    own = tokenizer.normalizer
    for token in state["added_tokens"]:
        name = token["content"]
        beside = tokenizer.encode(f"a {name} a").ids != tokenizer.encode(f"a{name}a").ids
        token["normalized"] |= beside and (own is None or own.normalize_str(name) == name)
    return json.dumps(state)


def _simple() -> TextTokenizer:
    """Make ``open_clip.SimpleTokenizer``: OpenAI's byte pairs, with other names of the end tokens than transformers."""
    import open_clip
    from transformers import CLIPTokenizer

    simple = open_clip.SimpleTokenizer()
    start, end = (simple.decoder[token] for token in (simple.sot_token_id, simple.eot_token_id))
    names = {"bos_token": start, "eos_token": end, "unk_token": end, "pad_token": end}
    tokenizer = CLIPTokenizer(vocab=simple.encoder, merges=list(simple.bpe_ranks), **names)
    return TextTokenizer(str(tokenizer.backend_tokenizer.to_str()), 0, math.inf, "right", ("input_ids",))


def _repaired() -> Iterator[normalizers.Normalizer]:
    """Yield the steps of ``ftfy.fix_text`` for entities, ligatures, full width, curled quotes and control characters."""
    from ftfy import chardata

    yield normalizers.Replace(Regex("&(amp;)+"), "&")
    for name in _NAMED:
        character = html5[f"{name};"]
        yield normalizers.Replace(Regex(f"&(?:{name}|#0*{ord(character)}|#[xX]0*(?i:{ord(character):x}));"), character)
    for code, characters in {**chardata.LIGATURES, **chardata.WIDTH_MAP}.items():
        yield normalizers.Replace(chr(code), characters)
    yield normalizers.Replace(Regex("[\u02bc\u2018-\u201b]"), "'")
    yield normalizers.Replace(Regex("[\u201c-\u201f]"), '"')
    yield normalizers.Replace(Regex("[\x00-\x08\x0b\x0e-\x1f\x7f\ufeff]"), "")
    yield normalizers.NFC()
