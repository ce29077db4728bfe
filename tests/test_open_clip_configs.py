"""A sample of open_clip's own configs, and tokenizers of their kinds, beside open_clip itself."""

from __future__ import annotations

import copy
import hashlib
import json
from pathlib import Path
from typing import Any

import numpy as np
import open_clip_configs
import open_clips
import pytest
import small_tokenizers
import torch

from clip_client.errors import InvalidInput
from clip_client.tokens import Tokenizer
from clip_export import families
from clip_export.checkpoints import open_clip, open_clip_tokenizer
from clip_export.variants.base import Artefact, Source
from clip_export.variants.onnx_fp32 import OnnxFp32

SAMPLE = ("ViT-L-14-CLIPA", "nllb-clip-base", "mt5-base-ViT-B-32", "coca_ViT-B-32", "coca_roberta-ViT-B-32")
TEXTS = [
    "",
    "a photo of a cat",
    "A Photo, of TWO cats! isn't it?",
    "  white\tspace \n everywhere  ",
    "a [SEP] cat [PAD] end",
    "[sep] in small letters",
    "a <s> cat</s>on <pad> a wire",
    "&lt;s&gt; by name &amp; more",
    "一只猫的照片 🎂 naïve ﬁne",
    "many words " * 60,
]


@pytest.mark.parametrize("name", SAMPLE)
def test_a_config_is_exact(name: str, tmp_path: Path) -> None:
    result = open_clip_configs.tried(name, tmp_path / "checkpoint")
    assert (result.verdict, result.why) == ("exact", "")
    assert min(result.cosines.values()) > 0.999999


@pytest.mark.parametrize(
    ("kind", "settings"),
    [
        ("bert-base-uncased", {"strip_sep_token": True}),
        ("roberta", {"strip_sep_token": True}),
        ("bert-base-uncased", {"clean": "lower"}),
        ("nllb", {}),
        ("mt5", {}),
        ("SigLIP2", {"clean": "canonicalize"}),
    ],
    ids=str,
)
def test_tokens_are_those_of_open_clips_wrapper(kind: str, settings: dict[str, Any], tmp_path: Path) -> None:
    open_clips.library()
    small_tokenizers.write(kind, tmp_path)
    library = open_clips.library().tokenizer.HFTokenizer(str(tmp_path), context_length=40, **settings)
    text = {"hf_tokenizer_name": "its own", "tokenizer_kwargs": settings}
    ours = open_clip_tokenizer.read(text, tmp_path, "it")
    absent = open_clip_tokenizer.separator(text, tmp_path, "it")
    tokenizer = Tokenizer(ours.content, Given(ours))  # type: ignore[arg-type]
    for sentence in TEXTS:
        expected = library([sentence])[0].numpy()
        tokens, errors = tokenizer([sentence.encode()])
        assert errors == [""]
        seen = np.where(tokens[0] == (-1 if absent is None else absent), 0, tokens[0])  # as the text tower replaces it
        np.testing.assert_array_equal(seen, expected, err_msg=sentence)


class Given:
    """The fields of a spec that tokens depend on."""

    context_length, padding, end_token = 40, "full", -1

    def __init__(self, tokenizer: Any) -> None:
        self.pad_token = tokenizer.pad_token
        self.tokenizer_sha256 = hashlib.sha256(tokenizer.content.encode()).hexdigest()


@pytest.mark.parametrize(
    "entity", ["&eacute;", "&mdash;", "&rsquo;", "&#39;", "&#x2019;", "&#8211;", "&#xE9;", "&amp;amp;", "&amp;lt;"]
)
def test_entities_are_read_as_open_clip_reads_them(entity: str, tmp_path: Path) -> None:
    library = open_clips.library().SimpleTokenizer(context_length=40)
    ours = open_clip_tokenizer.read({}, tmp_path, "it")
    text = f"a caf{entity} & more"
    tokens, _ = Tokenizer(ours.content, Given(ours))([text.encode()])  # type: ignore[arg-type]
    np.testing.assert_array_equal(tokens[0], library([text])[0].numpy())


def test_a_language_that_open_clip_forgets(tmp_path: Path) -> None:
    small_tokenizers.write("nllb", tmp_path)
    library = open_clips.library().tokenizer
    other = library.HFTokenizer(str(tmp_path), context_length=40, language="jpn_Jpan")(TEXTS)
    assert torch.equal(other, library.HFTokenizer(str(tmp_path), context_length=40)(TEXTS))
    text = {"hf_tokenizer_name": "x", "tokenizer_kwargs": {"language": "jpn_Jpan"}}
    with pytest.raises(InvalidInput, match=r"the language 'jpn_Jpan', which transformers takes back .* as open_clip has them"):
        open_clip_tokenizer.read(text, tmp_path, "it")


def test_a_separator_that_the_tokenizer_lacks(tmp_path: Path) -> None:
    open_clips.library()
    small_tokenizers.write("mt5", tmp_path)
    text = {"hf_tokenizer_name": "x", "tokenizer_kwargs": {"strip_sep_token": True}}
    with pytest.raises(InvalidInput, match="strip_sep_token is on and the tokenizer has no sep_token"):
        open_clip_tokenizer.separator(text, tmp_path, "it")


@pytest.mark.parametrize("pool", ["argmax", "eos"])
def test_a_separator_that_the_tower_looks_for(pool: str, tmp_path: Path) -> None:
    open_clip_configs.write("ViT-L-14-CLIPA", tmp_path / "checkpoint")
    path = tmp_path / "checkpoint" / "open_clip_config.json"
    content = json.loads(path.read_text())
    vocabulary = json.loads((tmp_path / "checkpoint" / "tokenizer.json").read_text())["model"]["vocab"]
    content["model_cfg"]["text_cfg"] |= {
        "pool_type": pool,
        "eos_id": vocabulary["[SEP]"],
        "vocab_size": vocabulary["[SEP]"] + 1,
    }
    path.write_text(json.dumps(content))
    checkpoint = open_clip.in_folder(tmp_path / "checkpoint", "it", "")
    with pytest.raises(InvalidInput, match=f"strip_sep_token on, the text tower pools by {pool}: expected first or last"):
        families.of(checkpoint).spec(checkpoint, "clip")


@pytest.mark.long
def test_relative_positions_become_a_graph(tmp_path: Path) -> None:
    with open_clip_configs.small_timm():
        open_clip_configs.write("vit_relpos_medium_patch16_cls_224", tmp_path / "checkpoint")
        checkpoint = open_clip.in_folder(tmp_path / "checkpoint", "it", "")
        family = families.of(checkpoint)
        spec = family.spec(checkpoint, "clip")
        tower = family.towers(checkpoint, spec).image
    variant = OnnxFp32()
    variant.build(Source("image", spec, lambda: copy.deepcopy(tower), lambda _: tmp_path, list, None), tmp_path)
    pixels = np.random.default_rng(0).integers(0, 256, (3, 224, 224, 3), np.uint8)
    with torch.inference_mode():
        expected = tower(torch.from_numpy(pixels)).numpy()
    ours = variant.load(Artefact(tmp_path, "image", lambda: tower))(pixels)
    np.testing.assert_allclose(ours, expected, atol=1e-5)
