"""SigLIP's tokenizer, which transformers runs in Python around a sentencepiece model -> ``tokenizer.json``."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from tokenizers import AddedToken, Regex, Tokenizer, normalizers, pre_tokenizers, processors
from tokenizers.models import Unigram

from clip_client.errors import InvalidInput
from clip_export.checkpoints.text_normalizers import LOWER, NO_PUNCTUATION, ONE_SPACE

_SPACE = "▁"  # sentencepiece's sign for one
_FIRST, _WORD = "\ufdd0", "\ufdd1"  # noncharacters: marks of the text's beginning, and of a part's first word
_UNKNOWN = "\ufdd2"  # replaces both where a text holds them

_BEGIN = normalizers.Sequence(
    [normalizers.Replace(" ", _SPACE), normalizers.Replace(Regex(rf"\A(?=[^{_SPACE}])"), _WORD + _SPACE)]
)
"""A word begins at the start of each part, until :data:`_WORDS` knows which part begins the text."""

_WORDS = pre_tokenizers.Sequence(
    [
        pre_tokenizers.Metaspace(replacement=_FIRST, prepend_scheme="first", split=False),
        pre_tokenizers.Split(Regex(rf"\A{_FIRST}{_WORD}?"), "removed"),
        pre_tokenizers.Split(Regex(rf"\A{_WORD}{_SPACE}"), "removed"),
        pre_tokenizers.Split(_SPACE, "merged_with_next"),
    ]
)
"""Words. One begins where the text does, whatever was dropped there, but not where text follows an added token: normalizers
see a part without its place, pre-tokenizers where it begins. So each part is marked first, and those that follow are mended."""


def converted(library: Any, label: str) -> str:
    """Write a ``SiglipTokenizer`` as ``tokenizer.json``: canonical text, its pieces, one end token.

    Args:
        library: transformers' tokenizer, loaded.
        label: the checkpoint's name, for messages.

    Raises:
        InvalidInput: if its sentencepiece model isn't a unigram model, or its added tokens can't be followed.
    """
    pieces = _sentencepiece(Path(library.vocab_file))
    tokenizer = Tokenizer(Unigram([(p.piece, p.score) for p in pieces.pieces], unk_id=pieces.trainer_spec.unk_id))
    own = pieces.normalizer_spec.precompiled_charsmap
    tokenizer.normalizer = normalizers.Sequence(
        [
            normalizers.Replace(Regex(f"[{_FIRST}{_WORD}]"), _UNKNOWN),
            normalizers.Replace(_SPACE, " "),
            *(LOWER if library.do_lower_case else []),
            *NO_PUNCTUATION,
            *ONE_SPACE,
            *([normalizers.Precompiled(own)] if own else []),
            normalizers.Replace(Regex(" +"), " "),
            normalizers.Strip(left=False),
            _BEGIN,
        ]
    )
    tokenizer.pre_tokenizer = _WORDS
    _add(library, tokenizer, label)
    end = str(library.eos_token)
    tokenizer.post_processor = processors.TemplateProcessing(single=f"$A {end}", special_tokens=[(end, library.eos_token_id)])
    return str(tokenizer.to_str())


def _add(library: Any, tokenizer: Tokenizer, label: str) -> None:
    """Add the tokens that are found before a text is made canonical, under the ids that they have.

    White space beside one is dropped, as canonical text begins and ends with none.
    """
    for number, token in sorted(library.added_tokens_decoder.items()):
        raw = AddedToken(token.content, lstrip=True, rstrip=True, normalized=False, special=token.special)
        (tokenizer.add_special_tokens if token.special else tokenizer.add_tokens)([raw])
        if tokenizer.token_to_id(token.content) != number or token.single_word:
            raise InvalidInput(
                f"{label}: the added token {token.content!r} of SigLIP's tokenizer (id {number}) can't be followed: expected "
                "ids one after the other behind the vocabulary, and no single_word"
            )


def _sentencepiece(path: Path) -> Any:
    """Parse the file as its protobuf, whose Python classes transformers carries.

    Raises:
        InvalidInput: if it isn't a unigram model.
    """
    from transformers.utils import sentencepiece_model_pb2_new as protobuf

    model = protobuf.ModelProto.FromString(path.read_bytes())  # type: ignore[attr-defined]
    if model.trainer_spec.model_type != model.trainer_spec.UNIGRAM:
        raise InvalidInput(f"{path} isn't a unigram model, as SigLIP's is: save the checkpoint's tokenizer as tokenizer.json")
    return model
