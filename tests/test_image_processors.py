"""Every image processor of transformers is followed to the pixel, with its own defaults, or refused by name."""

from __future__ import annotations

import json
import shutil
from pathlib import Path
from typing import Any

import checkpoints
import numpy as np
import pytest
import torch
from libraries import Ours, pixels
from other_checkpoints import siglip
from test_checkpoint import edit
from transformers import AutoModel

import pictures
from clip_client import InvalidInput
from clip_client.preprocess import preprocess
from clip_export import families
from clip_export.checkpoints import find as checkpoint_files
from clip_export.checkpoints import image_processor

AWKWARD = pictures.awkward()
KINDS = (
    "cmyk jpeg",
    "exif turned",
    "rgba png",
    "palette png with transparency",
    "rgb png with a transparent colour",
    "1 bit png",
)
FILES = [AWKWARD[kind] for kind in (*KINDS, "16 bit png", "smaller than the crop", "one pixel", "1 x n", "odd sides", "square")]
SIDE = 64
SMALL = {"vision": {"image_size": SIDE, "patch_size": 16, "num_hidden_layers": 1}, "text": {"num_hidden_layers": 1}}
EDGE, SQUARE = {"shortest_edge": SIDE}, {"height": SIDE, "width": SIDE}

FOLLOWED: dict[str, dict[str, Any]] = {
    "CLIPImageProcessor": {"size": EDGE, "crop_size": SQUARE},
    "CLIPImageProcessorFast": {"size": EDGE, "crop_size": SIDE},
    "CLIPFeatureExtractor": {"size": SIDE, "crop_size": SIDE},
    "ChineseCLIPImageProcessor": {"size": EDGE, "crop_size": SQUARE},
    "SiglipImageProcessor": {"size": SQUARE},
    "SiglipImageProcessorFast": {"size": EDGE, "do_center_crop": True, "crop_size": SQUARE},
    "ViTImageProcessor": {"size": SQUARE},
    "ViTImageProcessorFast": {"size": SIDE},
    "ViTFeatureExtractor": {"size": SIDE, "resample": 2},
    "DeiTImageProcessor": {"size": {"height": 73, "width": 73}, "crop_size": SQUARE},
    "BlipImageProcessor": {"size": SQUARE},
    "BitImageProcessor": {"size": {"shortest_edge": 73}, "crop_size": SQUARE},
    "PvtImageProcessor": {"size": SQUARE},
    "MobileNetV1ImageProcessor": {"size": {"shortest_edge": 70}, "crop_size": SQUARE},
    "MobileNetV2ImageProcessor": {"size": {"shortest_edge": 70}, "crop_size": SQUARE},
    "BeitImageProcessor": {"size": {"height": 80, "width": 80}, "crop_size": SQUARE, "do_center_crop": True},
    "SegformerImageProcessor": {"size": SQUARE},
    "ConvNextImageProcessor": {"size": EDGE},
    "ConvNextFeatureExtractor": {"size": EDGE, "crop_pct": 0.5},
    "ConvNextImageProcessorFast": {"size": EDGE, "crop_pct": 0.95, "do_center_crop": True, "crop_size": SQUARE},
    "LevitImageProcessor": {"size": EDGE, "crop_size": SQUARE},
    "PoolFormerImageProcessor": {"size": EDGE, "crop_size": SQUARE},
    "EfficientNetImageProcessor": {"size": SQUARE, "rescale_offset": True, "rescale_factor": 1 / 127.5},
    "OwlViTImageProcessor": {"size": SQUARE, "do_center_crop": False},
}
SETTINGS: dict[str, dict[str, Any]] = {
    "no normalising": {"do_normalize": False},
    "no rescaling": {"do_rescale": False},
    "another factor": {"rescale_factor": 1.0},
    "one mean for all": {"image_mean": 0.5, "image_std": 0.25},
    "a list for a size": {"size": [SIDE, SIDE]},
    "transparent stays": {"do_convert_rgb": False},
    "crop beyond the picture": {"size": {"shortest_edge": 40}},
    "a square, then a crop": {"size": {"height": 90, "width": 90}},
    "lanczos": {"resample": 1},
    "box": {"resample": 4},
    "hamming": {"resample": 5},
    "unknown words": {"crop_pct": 0.5, "feature_extractor_type": "ViTFeatureExtractor"},
}
REFUSED: dict[str, tuple[dict[str, Any], str]] = {
    "a processor of several crops": ({"image_processor_type": "LlavaNextImageProcessor"}, "is a LlavaNextImageProcessor"),
    "colours flipped": ({"image_processor_type": "MobileViTImageProcessor"}, "is a MobileViTImageProcessor"),
    "a crop first": ({"image_processor_type": "PerceiverImageProcessor"}, "is a PerceiverImageProcessor"),
    "two crops": (
        {"image_processor_type": "ConvNextImageProcessor", "do_center_crop": True, "crop_size": {"height": 32, "width": 32}},
        "crops to 64 pixels and then to 32",
    ),
    "padding": ({"do_pad": True, "pad_size": {"height": 80, "width": 80}}, "has do_pad on"),
    "two edges": ({"size": {"shortest_edge": SIDE, "longest_edge": 90}}, "'longest_edge': 90"),
    "an oblong": ({"size": {"height": SIDE, "width": 90}}, "expected a square"),
    "no crop": ({"do_center_crop": False}, "gives no fixed size"),
    "no resize": ({"do_resize": False}, "do_resize off"),
    "a filter's name": ({"resample": "bicubic"}, "resample 'bicubic'"),
    "a crop of nothing": ({"crop_size": {"height": 0, "width": 0}}, "the crop_size"),
    "not a number": ({"image_mean": [0.5, float("nan"), 0.5]}, "expected finite numbers"),
    "no deviation": ({"image_std": [0, 0, 0]}, "std not 0"),
    "a factor of nothing": ({"rescale_factor": 0}, "can't be read|expected finite"),
    "text for a mean": ({"image_mean": "abc"}, "can't be read"),
    "a method's name": ({"resize": 7}, "in a way of its own"),
    "nobody's": ({"image_processor_type": "NobodysImageProcessor", "auto_map": {"AutoImageProcessor": "x.Y"}}, ""),
}


@pytest.fixture(scope="module")
def original(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return checkpoints.make(tmp_path_factory.mktemp("processors") / "clip", **SMALL)


@pytest.fixture
def copy(original: Path, tmp_path: Path) -> Path:
    return Path(shutil.copytree(original, tmp_path / "copy"))


def save(folder: Path, settings: dict[str, Any], kind: str | None = None) -> None:
    """Write a preprocessor_config.json, the type as older or newer versions name it."""
    key = "feature_extractor_type" if kind and kind.endswith("FeatureExtractor") else "image_processor_type"
    (folder / "preprocessor_config.json").write_text(json.dumps({**({key: kind} if kind else {}), **settings}))


def check(folder: Path) -> None:
    np.testing.assert_allclose(Ours.read(folder).pixels(FILES), pixels(folder, FILES), atol=2e-5, rtol=1e-5)


@pytest.mark.parametrize("kind", FOLLOWED)
def test_pixels_are_those_of_each_type(kind: str, copy: Path) -> None:
    save(copy, FOLLOWED[kind], kind)
    check(copy)


@pytest.mark.parametrize("kind", SETTINGS)
def test_pixels_are_those_of_each_setting(kind: str, copy: Path) -> None:
    save(copy, {"size": EDGE, "crop_size": SQUARE, **SETTINGS[kind]}, "CLIPImageProcessor")
    check(copy)


def test_a_type_is_read_wherever_it_is_saved(copy: Path) -> None:
    """Nested in processor_config.json it goes before preprocessor_config.json."""
    nested = {
        "image_processor": {"image_processor_type": "ViTImageProcessor", "size": SQUARE},
        "processor_class": "CLIPProcessor",
    }
    (copy / "processor_config.json").write_text(json.dumps(nested))
    check(copy)
    (copy / "preprocessor_config.json").unlink()
    check(copy)
    save(copy, {"size": EDGE, "crop_size": SQUARE, "processor_class": "SiglipProcessor"})
    (copy / "processor_config.json").write_text('{"processor_class": "CLIPProcessor"}')
    check(copy)


def test_a_clip_processor_in_a_siglip(tmp_path: Path) -> None:
    folder = siglip(tmp_path / "siglip")
    save(folder, {"size": EDGE, "crop_size": SQUARE}, "CLIPImageProcessor")
    check(folder)
    ours = Ours.read(folder)
    tower = families.of(ours.found).towers(ours.found, ours.spec).image
    raw = np.stack([preprocess(file, ours.spec) for file in FILES])
    with torch.inference_mode():
        library = AutoModel.from_pretrained(folder).eval().get_image_features(torch.from_numpy(pixels(folder, FILES)))
        cosines = torch.nn.functional.cosine_similarity(tower(torch.from_numpy(raw)), library.pooler_output)
    assert cosines.min() >= 0.9999


@pytest.mark.parametrize("kind", REFUSED)
def test_what_cannot_be_followed_is_refused(kind: str, copy: Path) -> None:
    settings, message = REFUSED[kind]
    save(copy, {"image_processor_type": "CLIPImageProcessor", "size": EDGE, "crop_size": SQUARE, **settings})
    with pytest.raises(InvalidInput, match=message):
        Ours.read(copy)


def every_type() -> list[str]:
    """The base names of all types that transformers registers."""
    from transformers.models.auto.image_processing_auto import IMAGE_PROCESSOR_MAPPING_NAMES

    names = {name for backends in IMAGE_PROCESSOR_MAPPING_NAMES.values() for name in backends.values() if name}
    return sorted({name.removesuffix("Pil") for name in names})


def test_every_type_of_the_library_is_followed_or_refused(copy: Path) -> None:
    """With its own defaults, whatever size they give."""
    outcomes: dict[str, list[str]] = {"followed": [], "refused": []}
    files = [AWKWARD["odd sides"], AWKWARD["palette png with transparency"]]
    for kind in every_type():
        save(copy, {}, kind)
        found = checkpoint_files.find(str(copy), None)
        try:
            fields = image_processor.image_fields(found.processor, kind)
        except InvalidInput:
            outcomes["refused"].append(kind)
            continue
        edit(copy / "config.json", vision_config={**found.config["vision_config"], "image_size": fields["image_size"]})
        np.testing.assert_allclose(Ours.read(copy).pixels(files), pixels(copy, files), atol=2e-5, err_msg=kind)
        outcomes["followed"].append(kind)
    assert {"CLIPImageProcessor", "ViTImageProcessor", "ConvNextImageProcessor"} <= {*outcomes["followed"]}
    assert len(outcomes["refused"]) > 50
