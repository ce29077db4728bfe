"""Tokens are the checkpoint's own, and texts of any kind get some."""

from __future__ import annotations

import dataclasses
from pathlib import Path

import checkpoints
import numpy as np
import pytest
from transformers import CLIPTokenizer

from clip_client import ContractMismatch, ModelSpec
from clip_client.tokens import BUCKETS, TEXT_BYTES, Tokenizer
from clip_export import families
from clip_export.checkpoints.find import find

TEXTS = {
    "plain": "a photo of a cat",
    "empty": "",
    "spaces": "  \t\n ",
    "capitals and marks": "It's THE end, isn't it?!",
    "emoji": "🎂 happy birthday 👨‍👩‍👧‍👦 🇩🇪",
    "accents": "Ångström naïve cafe\u0301 ﬁ",
    "other scripts": "日本語のテキスト Привет мир שלום مرحبا",
    "nul": "before\x00after",
    "control": "\x01\x02\x7f",
    "special tokens": "<|startoftext|> sneaky <|endoftext|> tail",
    "exactly the context": "cat " * 75,
    "one too many": "cat " * 76,
    "10,000 words": "word " * 10_000,
    "one long word": "x" * 5_000,
    "a long word before others": "x" * 60_000 + " and more",
    "mostly spaces": " \n" * 30_000 + "a cat at last " + "\t" * 30_000,
    "marks and accents": "e\u0301! ?! \u1100\u1161\u11a8 " * 6_000,
    "long words": "supercalifragilisticexpialidocious " * 3_000,
    "long pieces": "😂" * 20 + " " + "ha" * 2_000 + " " + "!!!! " * 20_000,
}


@pytest.fixture(scope="module")
def checkpoint(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A checkpoint with the whole vocabulary."""
    return checkpoints.make(tmp_path_factory.mktemp("tokens") / "clip", merges=checkpoints.ALL_MERGES)


@pytest.fixture(scope="module")
def spec(checkpoint: Path) -> ModelSpec:
    found = find(str(checkpoint), None)
    return families.of(found).spec(found, "clip")


@pytest.fixture(scope="module")
def tokenizer(checkpoint: Path, spec: ModelSpec) -> Tokenizer:
    return Tokenizer((checkpoint / "tokenizer.json").read_text(), spec)


@pytest.mark.parametrize("kind", TEXTS)
def test_tokens_are_those_of_transformers(kind: str, tokenizer: Tokenizer, checkpoint: Path, spec: ModelSpec) -> None:
    expected = CLIPTokenizer.from_pretrained(checkpoint)(TEXTS[kind], truncation=True, max_length=77)["input_ids"]
    tokens, errors = tokenizer([TEXTS[kind].encode()])
    assert errors == [""]
    np.testing.assert_array_equal(tokens[0, : len(expected)], expected)
    assert (tokens[0, len(expected) :] == spec.pad_token).all()


@pytest.mark.parametrize(("words", "length"), [(1, 8), (8, 12), (14, 16), (15, 24), (40, 48), (70, 77), (200, 77)])
def test_a_batch_is_as_long_as_its_longest_text_needs(words: int, length: int, tokenizer: Tokenizer) -> None:
    tokens, _ = tokenizer([b"cat", b"cat " * words])
    assert tokens.shape == (2, length)
    assert tokens.dtype == np.int32


def test_a_short_context_has_no_longer_buckets(checkpoint: Path, spec: ModelSpec) -> None:
    short = Tokenizer((checkpoint / "tokenizer.json").read_text(), dataclasses.replace(spec, context_length=20))
    assert short([b"cat"])[0].shape == (1, BUCKETS[0])
    assert short([b"cat " * 30])[0].shape == (1, 20)


def test_padded_towers_get_the_whole_context(checkpoint: Path, spec: ModelSpec) -> None:
    full = Tokenizer((checkpoint / "tokenizer.json").read_text(), dataclasses.replace(spec, padding="full"))
    assert full([b"cat"])[0].shape == (1, 77)


@pytest.mark.parametrize(
    ("text", "message"), [(b"caf\xe9", "isn't UTF-8"), (b"x" * (TEXT_BYTES + 1), "131,073 bytes, at most 131,072")]
)
def test_a_bad_text_leaves_its_neighbours_alone(text: bytes, message: str, tokenizer: Tokenizer, spec: ModelSpec) -> None:
    alone, _ = tokenizer([b"a cat"])
    tokens, errors = tokenizer([b"a cat", text, b"a dog"])
    np.testing.assert_array_equal(tokens[0], alone[0])
    assert message in errors[1]
    assert (errors[0], errors[2]) == ("", "")
    assert spec.end_token not in tokens[1]


def test_what_is_no_tokenizer_is_refused(spec: ModelSpec) -> None:
    with pytest.raises(ContractMismatch, match=r"tokenizer\.json can't be read"):
        Tokenizer("{}", spec)
