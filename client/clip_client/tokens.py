"""Text -> tokens, exactly as the checkpoint's own tokenizer does it."""

from __future__ import annotations

import hashlib
import re
from collections.abc import Sequence

import numpy as np
import numpy.typing as npt
import tokenizers

from clip_client.errors import ContractMismatch
from clip_client.spec import ModelSpec

BUCKETS = (8, 12, 16, 24, 32, 48, 64, 128, 256)
"""Lengths that short texts are padded to, so that requests of like length batch; the last one is the context."""

_SPACE = re.compile(r"\s")

TEXT_BYTES = 2**17
"""Most bytes of one text. Beyond the context nothing is read anyway; this bounds the tokenizer's work."""


NO_TEXTS = ""
"""Content of the ``tokenizer.json`` of a model that was exported without a text tower; every text of it is an error."""

_NO_TEXTS = (
    "the model has an image tower alone (it was exported with --image-only), it embeds no texts: search by a picture, or "
    "export a checkpoint with both towers"
)


class Tokenizer:
    """A ``tokenizer.json`` with truncation and padding as the spec wants them.

    Of a truncation or padding that is stored in it only the sides are kept: a truncation ``left`` keeps the end of a text, a
    padding ``left`` fills the context before it. Where padding doesn't count it is always behind the text.

    Raises:
        ContractMismatch: it can't be read, or isn't the spec's.
    """

    def __init__(self, tokenizer_json: str, spec: ModelSpec) -> None:
        try:
            self._tokenizer = tokenizers.Tokenizer.from_str(tokenizer_json) if tokenizer_json else _nothing()
        except Exception as problem:  # tokenizers raises plain Exception
            raise ContractMismatch(f"tokenizer.json can't be read ({problem}): export the checkpoint again") from problem
        if hashlib.sha256(tokenizer_json.encode()).hexdigest() != spec.tokenizer_sha256:
            raise ContractMismatch(
                "tokenizer.json isn't the one that the model spec was made with: export the checkpoint again"
            )
        side = (self._tokenizer.truncation or {}).get("direction", "right")
        self._tokenizer.enable_truncation(max_length=spec.context_length, direction=side)
        self._pads_start = spec.padding == "full" and (self._tokenizer.padding or {}).get("direction") == "left"
        self._tokenizer.no_padding()
        self._keeps_end = side == "left"
        self._spec = spec
        self.takes_texts = tokenizer_json != NO_TEXTS
        # Characters that fill the context even in the longest pieces; twice that, since composing accents saves some.
        self._enough = 2 * spec.context_length * max(map(len, self._tokenizer.get_vocab()), default=1)
        self._byte_pairs = isinstance(self._tokenizer.model, tokenizers.models.BPE)

    def __call__(self, texts: Sequence[bytes]) -> tuple[npt.NDArray[np.int32], list[str]]:
        """Tokenise a batch of UTF-8 texts.

        Returns:
            tokens: int32 [N, L], L the shortest bucket that holds every text (the whole context where padding counts).
            errors: N strings, empty where good; the row of a bad text has no end token, its embedding is zeros.
        """
        if not self.takes_texts:
            return np.full((len(texts), 1), void_token(self._spec), np.int32), [_NO_TEXTS] * len(texts)
        decoded, errors = zip(*map(_decode, texts), strict=True)
        rows = [encoding.ids for encoding in self._tokenizer.encode_batch([self._shortened(text) for text in decoded])]
        tokens = np.full((len(rows), self._length(rows)), self._spec.pad_token, np.int32)
        for n, row in enumerate(rows):
            start = tokens.shape[1] - len(row) if self._pads_start else 0
            tokens[n, start : start + len(row)] = row
            if errors[n]:
                tokens[n] = void_token(self._spec)
        return tokens, list(errors)

    def _shortened(self, text: str) -> str:
        """Cut a very long text beyond the context; tokens don't reach across spaces, so nothing changes but the time."""
        if len(text) <= self._enough:
            return text
        if self._keeps_end:
            return self._counted_back(text) if self._byte_pairs else self._tried_back(text)
        return self._counted(text) if self._byte_pairs else self._tried(text)

    def _counted(self, text: str) -> str:
        """Cut after enough characters, also within an endless word, on which byte pairs would spend seconds."""
        seen = 0
        for word in re.finditer(r"\S+\s*", text):
            seen += len(word[0].rstrip())
            if seen > self._enough:
                return text[: min(word.end(), word.start() + self._enough)]
        return text

    def _tried(self, text: str) -> str:
        """Cut after enough words, found by trying: other models may make one token, or none, of many characters."""
        end = self._enough
        while space := _SPACE.search(text, end):
            if len(self._tokenizer.encode(text[: space.start()]).ids) == self._spec.context_length:
                return text[: space.start()]
            end = 4 * space.start()
        return text

    def _counted_back(self, text: str) -> str:
        """Cut as :meth:`_counted` does, from the end."""
        seen = 0
        for word in reversed(list(re.finditer(r"\s*\S+", text))):
            seen += len(word[0].lstrip())
            if seen > self._enough:
                return text[max(word.start(), word.end() - self._enough) :]
        return text

    def _tried_back(self, text: str) -> str:
        """Cut as :meth:`_tried` does, from the end."""
        spaces = [match.start() for match in _SPACE.finditer(text)]
        length = self._enough
        while before := [space for space in spaces if space <= len(text) - length]:
            tail = text[before[-1] :]
            if len(self._tokenizer.encode(tail).ids) == self._spec.context_length:
                return tail
            length = 4 * len(tail)
        return text

    def _length(self, rows: list[list[int]]) -> int:
        if self._spec.padding == "full":
            return self._spec.context_length
        return bucket(max(map(len, rows)), self._spec.context_length)


def _nothing() -> tokenizers.Tokenizer:
    return tokenizers.Tokenizer(tokenizers.models.WordLevel({}))


def bucket(tokens: int, context_length: int) -> int:
    """Return the shortest bucket that holds so many tokens."""
    return min(length for length in (*BUCKETS, context_length) if tokens <= length <= context_length)


def void_token(spec: ModelSpec) -> int:
    """Return a token that doesn't end a text; a row of nothing else stands for "no text"."""
    return 0 if spec.end_token != 0 else 1


def _decode(text: bytes) -> tuple[str, str]:
    """Return one text and an empty error, or an empty text and the error."""
    if len(text) > TEXT_BYTES:
        return "", f"the text has {len(text):,} bytes, at most {TEXT_BYTES:,} are taken: send a shorter one"
    try:
        return text.decode("utf-8"), ""
    except UnicodeDecodeError as problem:
        return "", f"the text isn't UTF-8 ({problem.reason} at byte {problem.start}): encode it as UTF-8"
