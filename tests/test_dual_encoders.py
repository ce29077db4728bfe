"""Dual encoders besides CLIP's and SigLIP's give the embeddings of their library, or are refused with the reason."""

from __future__ import annotations

import copy
import json
import re
import shutil
from pathlib import Path
from typing import Any

import checkpoints
import dual_encoders
import numpy as np
import pytest
import tips
import torch
import transformers
from dual_encoders import ROBERTA, vision_text
from other_checkpoints import VISION
from test_checkpoint import describe, edit
from test_families import SMALL_IMAGES
from test_oracle import compared

from clip_client import InvalidInput
from clip_client.spec import TOWERS
from clip_export import families
from clip_export.checkpoints.find import find
from clip_export.libraries.flava import FlavaLibrary
from clip_export.variants.base import Artefact, Source
from clip_export.variants.onnx_fp32 import OnnxFp32

MAKERS = [
    dual_encoders.clip_italian,
    dual_encoders.koclip,
    dual_encoders.vit_bert,
    dual_encoders.dinov2_xlm_roberta,
    dual_encoders.align,
    dual_encoders.flava,
    dual_encoders.clipseg,
    dual_encoders.owlvit,
]


@pytest.fixture(scope="module")
def originals(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """One checkpoint of each kind."""
    folder = tmp_path_factory.mktemp("dual_encoders")
    for make in MAKERS:
        make(folder / make.__name__)
    return folder


@pytest.fixture
def copies(originals: Path, tmp_path: Path) -> Path:
    """Copies of them, to be damaged."""
    return Path(shutil.copytree(originals, tmp_path / "copies"))


@pytest.mark.parametrize("name", [make.__name__ for make in MAKERS])
def test_a_dual_encoder_is_that_of_its_library(name: str, originals: Path, tmp_path: Path) -> None:
    for tower, verdict in compared(["--model", str(originals / name)], tmp_path / "artifacts").items():
        assert (tower, verdict.missing, verdict.differences, verdict.notes) == (tower, "", (), ())
        assert verdict.cosine_min > 0.99999
        assert verdict.items >= 12


def test_flava_scores_pairs_as_its_training_does(originals: Path) -> None:
    """``FlavaForPreTraining`` compares the same positions behind the same projections."""
    folder = originals / "flava"
    model = transformers.FlavaForPreTraining.from_pretrained(folder).eval()
    library = FlavaLibrary(folder, padded=False)
    pixels, tokens = torch.randn(2, 3, 64, 64), torch.tensor([[2, 7, 9, 3], [2, 8, 7, 3]])
    with torch.inference_mode():
        scores = model(pixel_values=pixels, input_ids=tokens, return_loss=False).contrastive_logits_per_image
        image = library._model.get_image_features(pixel_values=pixels).pooler_output[:, 0]
        text = library._model.get_text_features(input_ids=tokens).pooler_output[:, 0]
    cosines = torch.nn.functional.normalize(image, dim=1) @ torch.nn.functional.normalize(text, dim=1).T
    checkpoint = find(str(folder), None)
    scale = families.of(checkpoint).spec(checkpoint, "clip").logit_scale
    np.testing.assert_allclose(scale * cosines.numpy(), scores.numpy(), rtol=1e-4, atol=1e-4)


def test_align_divides_by_its_temperature(originals: Path) -> None:
    checkpoint = find(str(originals / "align"), None)
    spec = families.of(checkpoint).spec(checkpoint, "clip")
    assert spec.logit_scale == pytest.approx(1 / transformers.AlignConfig().temperature_init_value, rel=0.1)


@pytest.mark.parametrize("name", ["koclip", "dinov2_xlm_roberta"])
def test_a_dual_encoder_becomes_onnx(name: str, originals: Path, tmp_path: Path) -> None:
    checkpoint = find(str(originals / name), None)
    family = families.of(checkpoint)
    spec = family.spec(checkpoint, "clip")
    towers = family.towers(checkpoint, spec)
    pixels = np.random.default_rng(0).integers(0, 255, (3, 64, 64, 3), np.uint8)
    tokens = np.array([[0, 5, 9, 12, spec.end_token], [0, 7, spec.end_token, *[spec.pad_token] * 2]], np.int32)
    for tower, given in (("image", pixels), ("text", tokens)):
        (folder := tmp_path / tower).mkdir()
        module = towers[tower]
        nothing: Any = None
        OnnxFp32().build(Source(tower, spec, lambda module=module: copy.deepcopy(module), nothing, nothing, nothing), folder)
        made = OnnxFp32().load(Artefact(folder, tower, nothing))(given)
        with torch.inference_mode():
            expected = module(torch.from_numpy(given)).numpy()
        assert (made * expected).sum(axis=1).min() > 0.9999


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ({"model_type": "distilbert"}, "its text_config is of a 'distilbert', which can't be followed: expected bert, roberta"),
        ({"model_type": "bert", "is_decoder": True}, "its bert has is_decoder on"),
    ],
    ids=str,
)
def test_a_text_model_that_cannot_be_followed(text: dict[str, Any], message: str, tmp_path: Path) -> None:
    folder = vision_text(tmp_path / "other", transformers.ViTConfig(**VISION), text)
    shutil.copyfile(dual_encoders.vit_bert(tmp_path / "same") / "preprocessor_config.json", folder / "preprocessor_config.json")
    with pytest.raises(InvalidInput, match=message):
        describe(folder)


def test_a_processor_of_another_size(copies: Path) -> None:
    edit(copies / "vit_bert" / "preprocessor_config.json", size={"height": 96, "width": 96})
    with pytest.raises(InvalidInput, match="the processor gives 96 pixels a side, the image tower takes 64"):
        describe(copies / "vit_bert")


def test_a_roberta_whose_tokenizer_has_no_limit_is_cut_at_its_positions(copies: Path, tmp_path: Path) -> None:
    folder = copies / "koclip"
    edit(folder / "tokenizer_config.json", model_max_length=10**30)
    verdict = compared(["--model", str(folder)], tmp_path / "artifacts")["text"]
    assert (verdict.missing, verdict.differences, verdict.notes) == ("", (), ())
    checkpoint = find(str(folder), None)
    assert families.of(checkpoint).spec(checkpoint, "clip").context_length == ROBERTA["max_position_embeddings"] - 2


REFUSED = {
    "qwen3_vl": "embeds pictures and texts with one language model",
    "colpali": "gives many vectors for a picture or a text",
    "vilt": "looks at a picture and a text together",
    "jina_clip": "towers exist only as code in its repository",
    "nomic_bert": "image tower exists only as code in its repository",
    "bridgetower": "resizes pictures to multiples of size_divisor",
    "clap": "embeds sounds",
}


@pytest.mark.parametrize("model_type", REFUSED)
def test_what_is_no_dual_encoder_is_refused_with_the_reason(model_type: str, copies: Path) -> None:
    edit(copies / "vit_bert" / "config.json", model_type=model_type)
    with pytest.raises(InvalidInput, match=rf"vit_bert .*{REFUSED[model_type]}.*expected a checkpoint with an image"):
        describe(copies / "vit_bert")


def test_a_text_model_of_rotary_positions_reads_as_far_as_its_library(tmp_path: Path) -> None:
    image = checkpoints.make(tmp_path / "clip", **{**SMALL_IMAGES, "projection": 32})
    text = dual_encoders.nomic_text(tmp_path / "nomic", 32)
    arguments = ["--model", str(image), "--text-model", str(text)]
    verdict = compared(arguments, tmp_path / "artifacts")["text"]
    assert (verdict.missing, verdict.differences, verdict.notes) == ("", (), ())
    checkpoint = find(str(image), None, str(text))
    assert families.of(checkpoint).spec(checkpoint, "clip").context_length == 120


@pytest.mark.slow
def test_tips_v2_is_that_of_its_library(tmp_path: Path) -> None:
    verdicts = tips.verdicts(tmp_path)
    assert verdicts["onnx"] > 0.9999
    for tower in TOWERS:
        assert (verdicts[tower]["missing"], verdicts[tower]["differences"]) == ("", [])
        assert verdicts[tower]["cosine_min"] > 0.9999
    [note] = verdicts["text"]["notes"]
    assert re.match("an empty text: transformers .* refuses it, .*a text without tokens has no embedding", note)


def test_a_tips_v2_of_the_repositorys_own_code(tmp_path: Path) -> None:
    """As google/tipsv2-l14 began: a config.json without towers."""
    folder = tips.make(tmp_path / "tips")
    config = {"model_type": "tipsv2", "architectures": ["TIPSv2Model"], "embed_dim": 1024, "vision_fn": "vit_large"}
    (folder / "config.json").write_text(json.dumps(config))
    with pytest.raises(InvalidInput, match=r"config\.json is that of the repository's own code, which isn't run"):
        describe(folder)
