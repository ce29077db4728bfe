"""Whatever a checkpoint keeps its tokenizer in -> one ``tokenizer.json`` that gives the same tokens."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from tokenizers import AddedToken, Regex, Tokenizer, normalizers, pre_tokenizers, processors
from tokenizers.models import Unigram

from clip_client.errors import InvalidInput
from clip_client.spec import TOKENIZER_FILE

_SPACE = "▁"  # what sentencepiece writes for one

LOWER = [normalizers.Replace(Regex(r"(?<=\p{L})Σ(?!\p{L})"), "ς"), normalizers.Lowercase()]
"""``str.lower()``, which knows the sigma at the end of a word."""

NO_PUNCTUATION = [normalizers.Replace(Regex(r"[!-/:-@\[-`{-~]"), "")]
"""Without ``string.punctuation``."""

ONE_SPACE = [normalizers.Replace(Regex(r"[\s\x1c-\x1f]+"), " "), normalizers.Strip()]
"""Runs of what Python takes for white space -> one space, none at the ends."""


def tokenizer_json(folder: Path, label: str, config: Mapping[str, Any]) -> str:
    """Read or make the ``tokenizer.json`` of a checkpoint's folder.

    Args:
        folder: where the files are.
        label: the checkpoint's name, for messages.
        config: its ``tokenizer_config.json``.

    Raises:
        InvalidInput: no file of a kind that is known.
    """
    if (folder / TOKENIZER_FILE).exists():
        return _as_declared((folder / TOKENIZER_FILE).read_text(encoding="utf-8"), config)
    if (folder / "spiece.model").exists():
        return _from_sentencepiece(folder / "spiece.model", config)
    if (folder / "vocab.txt").exists():
        return _from_transformers("BertTokenizer", folder)
    if (folder / "vocab.json").exists():
        return _from_transformers("CLIPTokenizer", folder)
    raise InvalidInput(
        f"{label} has no tokenizer.json, nor a vocab.json, vocab.txt or spiece.model: save the checkpoint's tokenizer too"
    )


def _from_transformers(name: str, folder: Path) -> str:
    import transformers

    tokenizer = getattr(transformers, name).from_pretrained(folder, local_files_only=True)
    return str(tokenizer.backend_tokenizer.to_str())


def _as_declared(content: str, config: Mapping[str, Any]) -> str:
    """SigLIP 2's class lower-cases, which the Gemma ``tokenizer.json`` beside it may not say."""
    if config.get("tokenizer_class") not in ("Siglip2Tokenizer", "Siglip2TokenizerFast"):
        return content
    return prepended(content, [normalizers.Lowercase()])


def prepended(content: str, steps: Sequence[normalizers.Normalizer]) -> str:
    """A ``tokenizer.json`` that does some steps to a text before its own."""
    tokenizer = Tokenizer.from_str(content)
    own = [tokenizer.normalizer] if tokenizer.normalizer else []
    tokenizer.normalizer = normalizers.Sequence([*steps, *own])
    return str(tokenizer.to_str())


def _from_sentencepiece(path: Path, config: Mapping[str, Any]) -> str:
    """What transformers' SiglipTokenizer does with a unigram model: canonical text, its pieces, one end token.

    It differs behind an end token that somebody writes out: there a word begins, here and not there.
    """
    pieces = _sentencepiece(path)
    tokenizer = Tokenizer(Unigram([(p.piece, p.score) for p in pieces.pieces], unk_id=pieces.trainer_spec.unk_id))
    own = pieces.normalizer_spec.precompiled_charsmap
    tokenizer.normalizer = normalizers.Sequence(
        [
            normalizers.Replace(_SPACE, " "),
            *(LOWER if config.get("do_lower_case", True) else []),
            *NO_PUNCTUATION,
            *ONE_SPACE,
            *([normalizers.Precompiled(own)] if own else []),
            *ONE_SPACE,
            normalizers.Prepend(_SPACE),
        ]
    )
    tokenizer.pre_tokenizer = pre_tokenizers.Metaspace(replacement=_SPACE, prepend_scheme="never")
    special = [AddedToken(token, lstrip=True, rstrip=True, normalized=False) for token in ("</s>", "<unk>")]
    tokenizer.add_special_tokens(special)
    tokenizer.post_processor = processors.TemplateProcessing(
        single="$A </s>", special_tokens=[("</s>", tokenizer.token_to_id("</s>"))]
    )
    return str(tokenizer.to_str())


def _sentencepiece(path: Path) -> Any:
    """The file as its protobuf, whose Python classes transformers carries.

    Raises:
        InvalidInput: not such a file, or not a unigram model.
    """
    from google.protobuf.message import DecodeError
    from transformers.utils import sentencepiece_model_pb2_new as protobuf

    try:
        model = protobuf.ModelProto.FromString(path.read_bytes())  # type: ignore[attr-defined]
    except DecodeError as problem:
        raise InvalidInput(f"{path} isn't a sentencepiece model ({problem}): is the file whole?") from problem
    if model.trainer_spec.model_type != model.trainer_spec.UNIGRAM:
        raise InvalidInput(f"{path} isn't a unigram model, as SigLIP's is: save the checkpoint's tokenizer as tokenizer.json")
    return model
