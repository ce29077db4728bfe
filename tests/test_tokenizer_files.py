"""However a checkpoint keeps its tokenizer, the tokens are those of its own library."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np
import open_clips
import other_checkpoints
import pytest
import sentencepiece
from test_tokens import TEXTS
from transformers import AutoTokenizer

from clip_client import InvalidInput, ModelSpec
from clip_client.tokens import Tokenizer
from clip_export import families
from clip_export.checkpoints import find as checkpoint_files
from clip_export.checkpoints.open_clip_tokenizer import read as of_open_clip
from clip_export.checkpoints.tokenizer import read

MORE = {
    **TEXTS,
    "upper case": "A PHOTO OF A CAT",
    "all marks": "!\"#$%&'()*+,-./:;<=>?@[\\]^_`{|}~",
    "marks before words": '... hello, #WORLD!!! -- it\'s (a) "quoted" under_score',
    "sigmas": "ΣΑΣ ΟΔΟΣ Σ ΑΣ. ς",
    "spaces": "  a\u00a0b\u2003c\x1cd\u3000e  ",
    "Chinese": "一只猫的照片，杰尼龟",
    "full width": "Ｈｅｌｌｏ ｗｏｒｌｄ ﬁ ½ …",
    "Turkish": "İstanbul ışık",
    "BERT's": "[CLS] a [MASK] b [SEP] c [PAD]",
}
BROKEN = {
    "quotes": "it’s “quoted” ‘too’ — dash",
    "entities": "fish &amp; chips &lt;3 &quot;x&quot; &nbsp;y",
    "byte order": "\ufeffcat",
}


def made(name: str, folder: Path) -> checkpoint_files.Checkpoint:
    return checkpoint_files.find(str(getattr(other_checkpoints, name)(folder / name)), None)


def own(found: checkpoint_files.Checkpoint) -> tuple[Tokenizer, ModelSpec]:
    spec = families.of(found).spec(found, "clip")
    return Tokenizer(found.tokenizer_json, spec), spec


@pytest.fixture(scope="module", params=["siglip", "siglip2", "chinese_clip"])
def transformers_kind(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Any:
    found = made(request.param, tmp_path_factory.mktemp("tokenizers"))
    return *own(found), AutoTokenizer.from_pretrained(found.folder)


@pytest.mark.parametrize("kind", MORE)
def test_tokens_are_those_of_transformers(kind: str, transformers_kind: Any) -> None:
    tokenizer, spec, library = transformers_kind
    settings = {"max_length": spec.context_length, "truncation": True, "padding": spec.padding == "full" and "max_length"}
    expected = library(MORE[kind], **settings)["input_ids"]
    tokens, errors = tokenizer([MORE[kind].encode()])
    assert errors == [""]
    np.testing.assert_array_equal(tokens[0, : len(expected)], expected)
    assert (tokens[0, len(expected) :] == spec.pad_token).all()


@pytest.fixture(scope="module", params=["resnet", "siglip", "multilingual"])
def open_clip_kind(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Any:
    open_clip, folder = open_clips.library(), tmp_path_factory.mktemp("tokenizers") / request.param
    getattr(open_clips, request.param)(folder)
    return *own(checkpoint_files.find(f"open_clip:{folder}", None)), open_clip.get_tokenizer(f"local-dir:{folder}")


@pytest.mark.parametrize("kind", [*MORE, *BROKEN])
def test_tokens_are_those_of_open_clip(kind: str, open_clip_kind: Any) -> None:
    tokenizer, spec, library = open_clip_kind
    text = {**MORE, **BROKEN}[kind]
    expected = library([text])[0].numpy()
    tokens, errors = tokenizer([text.encode()])
    assert errors == [""]
    np.testing.assert_array_equal(tokens[0], expected[: tokens.shape[1]])
    assert (expected[tokens.shape[1] :] == spec.pad_token).all()


def test_gemmas_tokenizer_is_lower_cased_where_siglip2_asks_for_it(tmp_path: Path) -> None:
    found = made("siglip2", tmp_path)
    content = json.loads((found.folder / "tokenizer.json").read_text())
    content["normalizer"] = {"type": "Replace", "pattern": {"String": " "}, "content": "▁"}  # as on the hub
    (found.folder / "tokenizer.json").write_text(json.dumps(content))
    tokenizer, _ = own(found)
    tokens, _ = tokenizer([b"A CAT", b"a cat"])
    np.testing.assert_array_equal(tokens[0], tokens[1])


def test_a_sentencepiece_model_of_another_kind(tmp_path: Path) -> None:
    settings = {"vocab_size": 90, "model_type": "bpe", "minloglevel": 2, "model_prefix": str(tmp_path / "spiece")}
    sentencepiece.SentencePieceTrainer.train(sentence_iterator=iter(other_checkpoints.CORPUS), **settings)
    (tmp_path / "config.json").write_text('{"model_type": "siglip"}')
    with pytest.raises(InvalidInput, match="isn't a unigram model, as SigLIP's is"):
        read(tmp_path, "it")


def test_a_damaged_sentencepiece_model(tmp_path: Path) -> None:
    (tmp_path / "spiece.model").write_bytes(b"\xff\xff not a protobuf")
    (tmp_path / "config.json").write_text('{"model_type": "siglip"}')
    with pytest.raises(InvalidInput, match=r"it: the tokenizer can't be read \(.*\): is the checkpoint whole\?"):
        read(tmp_path, "it")


def test_no_tokenizer_at_all(tmp_path: Path) -> None:
    with pytest.raises(InvalidInput, match=r"it has no tokenizer\.json, nor a vocab\.json, vocab\.txt or spiece\.model"):
        read(tmp_path, "it")


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ({"tokenizer_kwargs": {"clean": "nltk"}}, "settings nltk can't be followed, expected clean as one of whitespace"),
        ({"tokenizer_kwargs": {"reduction_mask": "random"}}, "the reduction_mask 'random', .* are cut off at their end"),
        ({"tokenizer_kwargs": {"reduction_mask": "syntax"}}, "the reduction_mask 'syntax', .* are cut off at their end"),
        ({"tokenizer_kwargs": {"strip_sep_token": True}}, "'strip_sep_token': True"),
        ({"tokenizer_kwargs": {"trust_remote_code": True}, "hf_tokenizer_name": "bert"}, "'trust_remote_code': True"),
        ({"tokenizer_mode": "clips", "hf_tokenizer_name": "bert"}, "'tokenizer_mode': 'clips'"),
    ],
    ids=str,
)
def test_a_tokenizer_that_cannot_be_followed(text: dict, message: str, tmp_path: Path) -> None:
    with pytest.raises(InvalidInput, match=message):
        of_open_clip(text, tmp_path, "it")
