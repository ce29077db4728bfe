"""Checkpoints of many shapes, exported side by side, published and served by one Triton, agree with transformers."""

from __future__ import annotations

import io
import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import checkpoints
import numpy as np
import pytest
import torch
from PIL import Image
from servers import Server, running
from transformers import CLIPModel, CLIPTokenizer
from transformers.image_utils import load_image
from transformers.models.clip.image_processing_pil_clip import CLIPImageProcessorPil

import pictures
from clip_client import Clip, ModelSpec
from clip_export import cli

SHAPES: dict[str, dict[str, Any]] = {
    "b16": {"vision": {"patch_size": 16}, "text": {"eos_token_id": 2}},
    "l14": {"vision": {"patch_size": 14, "hidden_size": 96, "num_attention_heads": 6}, "projection": 768},
    "l14_336": {
        "vision": {"patch_size": 14, "image_size": 336},
        "projection": 768,
        "processor": {
            "size": {"shortest_edge": 336},
            "crop_size": {"height": 336, "width": 336},
            "image_mean": [0.5, 0.4, 0.3],
            "image_std": [0.5, 0.6, 0.7],
            "resample": 2,
        },
    },
    "squash": {
        "vision": {"patch_size": 8, "image_size": 64},
        "text": {"max_position_embeddings": 24, "eos_token_id": 2},
        "processor": {"size": {"height": 64, "width": 64}, "do_center_crop": False, "resample": 1},
        "pad_token": "!",
    },
}
IMAGES = [*pictures.jpegs(6), *pictures.awkward().values()]
TEXTS = ["", "a photo of a cat", "LOUD & <|endoftext|> odd", "🎂", "ten words " * 5, "many words " * 200]


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tmp_path_factory.mktemp("families")


@pytest.fixture(scope="module")
def reports(folder: Path) -> dict[str, dict[str, Any]]:
    """Every shape exported into one repository; the JSON report of each."""
    found = {}
    for name, shape in SHAPES.items():
        checkpoints.make(folder / name, **shape)
        where = ["--artifacts", str(folder / "artifacts"), "--repository", str(folder / "repository")]
        report = folder / f"{name}.json"
        arguments = ["--model", str(folder / name), "--name", name, *where, "--variants", "onnx-fp32", "--json", str(report)]
        assert cli.main(arguments) == 0
        found[name] = json.loads(report.read_text())
    return found


@pytest.fixture(scope="module")
def all_served(folder: Path, reports: dict) -> Iterator[Server]:
    with running(folder / "repository") as server:
        yield server


@pytest.mark.parametrize("name", SHAPES)
def test_embeddings_are_those_of_transformers(name: str, folder: Path, all_served: Server, reports: dict) -> None:
    with Clip(all_served.address, name=name) as clip:
        ours = clip.embed_image(IMAGES), clip.embed_text(TEXTS)
        assert clip.spec == ModelSpec.from_fields(reports[name]["spec"])
    for embeddings, expected in zip(ours, transformers_embeddings(folder / name), strict=True):
        np.testing.assert_allclose(np.linalg.norm(embeddings, axis=1), 1, atol=1e-5)
        assert (embeddings * expected).sum(axis=1).min() >= 0.9999


@pytest.mark.parametrize("name", SHAPES)
def test_the_report_says_the_same(name: str, reports: dict) -> None:
    for row in reports[name]["variants"]:
        assert row["cosine_min"] >= 0.9999
        assert row["batch_invariance"] >= 0.9999
        assert row["failures"] == []
        assert row["published"]
    assert min(row["padding_invariance"] for row in reports[name]["variants"] if row["tower"] == "text") >= 0.9999


def test_one_checkpoint_refuses_the_name_of_none(all_served: Server) -> None:
    with Clip(all_served.address, name="nobody") as clip, pytest.raises(ValueError, match="serves no model nobody_image"):
        clip.embed_text("x")


def transformers_embeddings(folder: Path) -> tuple[np.ndarray, np.ndarray]:
    """Unit embeddings of IMAGES and TEXTS, the library's own way."""
    model = CLIPModel.from_pretrained(folder).eval()
    pixels = CLIPImageProcessorPil.from_pretrained(folder)(
        images=[load_image(Image.open(io.BytesIO(image))) for image in IMAGES], return_tensors="pt"
    )
    length = min(model.config.text_config.max_position_embeddings, 77)
    tokenizer = CLIPTokenizer.from_pretrained(folder)
    tokens = tokenizer(TEXTS, padding="max_length", max_length=length, truncation=True, return_tensors="pt")
    with torch.inference_mode():
        features = model.get_image_features(**pixels).pooler_output, model.get_text_features(**tokens).pooler_output
    image, text = (torch.nn.functional.normalize(one, dim=1).numpy() for one in features)
    return image, text
