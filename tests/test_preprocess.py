"""Preprocessing is the hub's own, to the bit, and refuses what would hurt."""

from __future__ import annotations

import dataclasses
import io

import numpy as np
import open_clips
import pytest
from checkpoints import PROCESSOR
from PIL import Image
from transformers.image_utils import load_image
from transformers.models.clip.image_processing_pil_clip import CLIPImageProcessorPil

import pictures
from clip_client import InvalidInput, ModelSpec
from clip_client.preprocess import Limits, preprocess, void_pixels
from clip_export.checkpoints.image_processor import image_fields
from clip_export.families.open_clip import RESIZE

AWKWARD = pictures.awkward()
HOSTILE = pictures.hostile()


def reference(encoded: bytes, processor: dict) -> np.ndarray:
    """uint8 [S, S, 3] from transformers' Pillow-based processor, stopped before the scaling to floats."""
    hub = CLIPImageProcessorPil(**{**processor, "do_rescale": False, "do_normalize": False})
    pixels = hub(load_image(Image.open(io.BytesIO(encoded))), return_tensors="np")["pixel_values"][0]
    return np.moveaxis(pixels, 0, -1)


@pytest.mark.parametrize("kind", AWKWARD)
def test_awkward_files_give_the_hubs_pixels(kind: str, spec: ModelSpec) -> None:
    np.testing.assert_array_equal(preprocess(AWKWARD[kind], spec), reference(AWKWARD[kind], PROCESSOR))


def test_photos_give_the_hubs_pixels(spec: ModelSpec) -> None:
    for encoded in pictures.jpegs(40):
        np.testing.assert_array_equal(preprocess(encoded, spec), reference(encoded, PROCESSOR))


@pytest.mark.parametrize(
    "settings",
    [
        {"resample": 2},
        {"resample": 1},
        {"size": {"shortest_edge": 256}},
        {"size": {"shortest_edge": 200}},  # smaller than the crop: black edges
        {"size": {"height": 224, "width": 224}},  # squashed
        {"size": 250, "crop_size": 224},  # as old checkpoints write it
    ],
    ids=str,
)
def test_other_settings_give_the_hubs_pixels(settings: dict, spec: ModelSpec) -> None:
    processor = {**PROCESSOR, **settings}
    changed = dataclasses.replace(spec, **image_fields(CLIPImageProcessorPil(**processor), "test"))
    for encoded in [*pictures.jpegs(4), AWKWARD["n x 1"], AWKWARD["odd sides"]]:
        np.testing.assert_array_equal(preprocess(encoded, changed), reference(encoded, processor))


@pytest.mark.parametrize("mode", ["shortest", "squash", "longest"])
def test_open_clips_settings_give_open_clips_pixels(mode: str, spec: ModelSpec) -> None:
    transform = open_clips.library().transform
    settings = {"size": 96, "resize_mode": mode, "interpolation": "bilinear", "mean": (0, 0, 0), "std": (1, 1, 1)}
    theirs = transform.image_transform_v2(transform.PreprocessCfg(**settings), is_train=False)
    ours = {"image_size": 96, "resize_size": 96, "resize_mode": RESIZE[mode], "interpolation": "bilinear"}
    for encoded in [*pictures.jpegs(20), AWKWARD["odd sides"], AWKWARD["smaller than the crop"]]:
        expected = theirs(open_clips.upright(encoded)).permute(1, 2, 0).numpy() * 255
        np.testing.assert_allclose(preprocess(encoded, dataclasses.replace(spec, **ours)), expected, atol=1e-3)


def test_a_line_keeps_a_pixel_where_its_longest_edge_is_resized(spec: ModelSpec) -> None:
    pixels = preprocess(AWKWARD["1 x n"], dataclasses.replace(spec, resize_mode="longest_edge"))
    assert pixels.any()
    assert not pixels[:, : spec.image_size // 2 - 2].any()


@pytest.mark.parametrize("kind", HOSTILE)
def test_hostile_files_are_refused(kind: str, spec: ModelSpec) -> None:
    encoded, message = HOSTILE[kind]
    with pytest.raises(InvalidInput, match=message):
        preprocess(encoded, spec)


@pytest.mark.parametrize("resize_mode", ["shortest_edge", "squash"])
def test_fast_is_nearly_exact(resize_mode: str, spec: ModelSpec) -> None:
    changed = dataclasses.replace(spec, resize_mode=resize_mode)
    large = pictures.encoded(pictures.picture(1800, 1200))
    for encoded in [large, *pictures.jpegs(10), *AWKWARD.values()]:
        exact, fast = (preprocess(encoded, changed, preprocessing=how) for how in ("exact", "fast"))
        assert fast.shape == exact.shape
        assert np.abs(exact.astype(int) - fast).mean() < 4
    assert not np.array_equal(preprocess(large, changed), preprocess(large, changed, preprocessing="fast"))


@pytest.mark.parametrize("kind", HOSTILE)
def test_fast_refuses_the_same(kind: str, spec: ModelSpec) -> None:
    encoded, message = HOSTILE[kind]
    with pytest.raises(InvalidInput, match=message):
        preprocess(encoded, spec, preprocessing="fast")


def test_limits_can_be_set(spec: ModelSpec) -> None:
    jpeg = pictures.encoded(pictures.picture(300, 200))
    with pytest.raises(InvalidInput, match=r"300 x 200 pixels, at most 50,000"):
        preprocess(jpeg, spec, Limits(image_pixels=50_000))
    with pytest.raises(InvalidInput, match=r"at most 1,000 are taken"):
        preprocess(jpeg, spec, Limits(image_bytes=1000))


def test_mutated_files_are_decoded_or_refused_and_nothing_else(spec: ModelSpec) -> None:
    random = np.random.default_rng(0)
    files = [AWKWARD[kind] for kind in ("png", "webp", "gif", "tiff", "bmp", "exif turned", "palette png", "16 bit tiff")]
    outcomes = {"decoded": 0, "refused": 0}
    for n in range(400):
        mutated = bytearray(files[n % len(files)])
        for position in random.integers(0, min(len(mutated), 400), 5):
            mutated[position] = random.integers(0, 256)
        try:
            assert preprocess(bytes(mutated), spec).shape == (spec.image_size, spec.image_size, 3)
            outcomes["decoded"] += 1
        except InvalidInput:
            outcomes["refused"] += 1
    assert min(outcomes.values()) > 20


def test_void_pixels_are_no_picture(spec: ModelSpec) -> None:
    void = void_pixels(spec.image_size)
    assert void.dtype == np.uint8
    assert len(np.unique(void[0])) > 100
    assert not void[1:].any()
