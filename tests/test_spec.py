"""The spec survives storage, knows its embedding space, and none of its fields is idle."""

from __future__ import annotations

import dataclasses
import json
import os
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import checkpoints
import numpy as np
import pytest
import torch

import pictures
from clip_client import ContractMismatch, InvalidInput, ModelSpec, bundled, repository_check
from clip_client.comparison import probabilities
from clip_client.preprocess import preprocess
from clip_client.spec import SPEC_FILE
from clip_client.tokens import Tokenizer
from clip_export import families
from clip_export.checkpoints import find as checkpoint_files
from clip_export.publish import triton_config
from clip_export.towers.image_tower import ImageTower
from clip_export.towers.text_towers import CausalTextTower
from clip_export.variants import named

TEXTS = [b"a photo of a cat", b"hello", b"one two three four five six seven eight nine ten eleven twelve " * 8]

CHANGED = {
    "image_size": [192],
    "resize_mode": ["squash", "longest_edge", "shortest_edge_torchvision"],
    "resize_size": [240],
    "interpolation": ["bilinear", "nearest"],
    "mean": [(0.5, 0.5, 0.5)],
    "std": [(0.2, 0.3, 0.4)],
    "context_length": [40],
    "padding": ["full"],
    "pad_token": [0],
    "end_token": [7],
    "embedding_size": [256],
    "logit_scale": [50.0],
    "logit_bias": [-10.0],
    "activation": ["sigmoid"],
    "transparency": ["ignored"],
}
"""Other values for every field that shapes pixels, tokens, embeddings, probabilities, or a published configuration."""

LOADED = {"family": "siglip", "weights_sha256": "0" * 64, "tokenizer_sha256": "1" * 64}
"""Fields that say what was loaded: they can't be changed without loading something else, and are held against it."""

PATCHES = [
    {"resize_mode": "patches", "resize_size": most, "patch_size": patch, "image_size": side}
    for most, patch, side in [(36, 16, 97), (36, 32, 193), (20, 16, 81)]
]
"""Fields that change together: ``patch_size`` belongs to one way to resize."""

IDENTITY = {
    "name": "other",
    "checkpoint": "elsewhere",
    "revision": "main",
    "notice": "For drawings.",
    "approximation": "fewer tokens",
    "image_sha256": "2" * 64,
    "text_sha256": "3" * 64,
    "inherited_space": "4" * 16,
}


Outputs = Callable[[ModelSpec], dict[str, np.ndarray]]


@pytest.fixture(scope="module")
def outputs(checkpoint: Path, spec: ModelSpec) -> Outputs:
    """A function from a spec to everything that it shapes."""
    found = checkpoint_files.find(str(checkpoint), None)
    towers = families.of(found).towers(found, spec)

    def compute(changed: ModelSpec) -> dict[str, np.ndarray]:
        image = pictures.encoded(pictures.picture(303, 200))
        pixels = [preprocess(file, changed) for file in (image, pictures.awkward()["palette png with transparency"])]
        tokenizer = Tokenizer(found.tokenizer_json, changed)
        (short, _), (tokens, _) = tokenizer(TEXTS[:1]), tokenizer(TEXTS)
        same_size = preprocess(image, dataclasses.replace(changed, image_size=spec.image_size))
        with torch.inference_mode():
            image_tower = ImageTower(towers.image.encoder, dataclasses.replace(changed, image_size=spec.image_size))
            text_tower = CausalTextTower(towers.text.model, towers.text.projection, changed)
            embeddings = image_tower(torch.from_numpy(same_size[None].copy())), text_tower(torch.from_numpy(tokens))
        image_embedding, text_embeddings = (embedding.numpy() for embedding in embeddings)
        scores = probabilities(np.array([[0.3, 0.2, 0.1]], np.float32), changed)
        config = np.array(triton_config.to_text(triton_config.encoder_config(changed, "image", named("onnx-fp32"))))
        tensors = {"pixels": np.stack(pixels), "short": short, "tokens": tokens, "config": config}
        return {**tensors, "image": image_embedding, "text": text_embeddings, "scores": scores}

    return compute


@pytest.fixture(scope="module")
def unchanged(outputs: Outputs, spec: ModelSpec) -> dict[str, np.ndarray]:
    return outputs(spec)


def test_every_field_is_accounted_for() -> None:
    known = CHANGED.keys() | LOADED.keys() | PATCHES[0].keys() | IDENTITY.keys()
    assert {field.name for field in dataclasses.fields(ModelSpec)} == known


def test_patches_shape_pixels_and_the_fingerprint(spec: ModelSpec) -> None:
    specs = [spec, *(dataclasses.replace(spec, **fields) for fields in PATCHES)]
    image = pictures.encoded(pictures.picture(303, 200))
    assert len({preprocess(image, one).tobytes() for one in specs}) == len({one.fingerprint for one in specs}) == len(specs)
    assert [ModelSpec.from_json(one.to_json()) for one in specs] == specs


@pytest.mark.parametrize(("field", "value"), [(field, value) for field, values in CHANGED.items() for value in values])
def test_a_changed_field_changes_an_output(
    field: str, value: Any, spec: ModelSpec, outputs: Outputs, unchanged: dict[str, np.ndarray]
) -> None:
    changed = outputs(dataclasses.replace(spec, **{field: value}))
    assert any(not np.array_equal(unchanged[key], changed[key]) for key in unchanged)


@pytest.mark.parametrize(("field", "value"), [*LOADED.items(), *((field, values[0]) for field, values in CHANGED.items())])
def test_towers_of_specs_that_differ_are_not_served(
    field: str, value: Any, spec: ModelSpec, repository: Path, tmp_path: Path
) -> None:
    changed = dataclasses.replace(spec, **{field: value})
    assert changed.fingerprint != spec.fingerprint
    mixed = shutil.copytree(repository, tmp_path / "mixed", copy_function=os.link)
    (mixed / "clip_text_encoder" / "1" / SPEC_FILE).unlink()
    changed.save(mixed / "clip_text_encoder" / "1" / SPEC_FILE)
    with pytest.raises(ContractMismatch, match="models of different checkpoints under one name"):
        repository_check.check(mixed)


def test_another_tokenizer_is_refused(checkpoint: Path, spec: ModelSpec) -> None:
    content = (checkpoint / "tokenizer.json").read_text()
    with pytest.raises(ContractMismatch, match="isn't the one that the model spec was made with"):
        Tokenizer(content, dataclasses.replace(spec, tokenizer_sha256=LOADED["tokenizer_sha256"]))


def test_a_copy_under_another_name_is_the_same_space(spec: ModelSpec) -> None:
    assert dataclasses.replace(spec, **IDENTITY).fingerprint == spec.fingerprint


def test_it_survives_json_and_parameters(spec: ModelSpec) -> None:
    assert ModelSpec.from_json(spec.to_json()) == spec
    assert ModelSpec.from_parameters(spec.to_parameters()) == spec


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"format": 0}, "isn't of format 1"),
        ({"image_size": 111}, "edited by hand"),
        ({"colour": "blue"}, "doesn't know: colour"),
    ],
    ids=str,
)
def test_a_foreign_spec_is_refused(change: dict, message: str, spec: ModelSpec) -> None:
    with pytest.raises(ContractMismatch, match=message):
        ModelSpec.from_json(json.dumps({**json.loads(spec.to_json()), **change}))


def test_what_is_no_spec_is_refused() -> None:
    with pytest.raises(ContractMismatch, match="isn't a JSON object"):
        ModelSpec.from_json("[1, 2")
    with pytest.raises(ContractMismatch, match="isn't a JSON object"):
        ModelSpec.from_json("[1, 2]")
    with pytest.raises(ContractMismatch, match="isn't of format"):
        ModelSpec.from_parameters({"execution_mode": "0"})


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"name": "no spaces"}, "'no spaces' must be letters"),
        ({"name": "../up"}, "must be letters"),
        ({"interpolation": "area"}, "interpolation is 'area', expected one of nearest, lanczos"),
        ({"resize_mode": "fit"}, "resize_mode is 'fit'"),
        ({"padding": "left"}, "padding is 'left'"),
        ({"padding": "masked"}, "a masked tower can't tell padding from text"),
        ({"activation": "relu"}, "activation is 'relu'"),
        ({"image_size": 0}, "image_size is 0"),
        ({"patch_size": 16}, "patch_size is 16 with resize_mode shortest_edge, expected one with patches only"),
        ({"resize_mode": "patches"}, "patch_size is 0 with resize_mode patches"),
        ({**PATCHES[0], "image_size": 96}, "image_size is 96, expected 97: 36 patches of 16 pixels"),
        ({"std": (0.0, 1.0, 1.0)}, "std not 0"),
    ],
    ids=str,
)
def test_impossible_fields_are_refused(change: dict, message: str, spec: ModelSpec) -> None:
    with pytest.raises(InvalidInput, match=message):
        dataclasses.replace(spec, **change)


def test_it_is_read_from_the_checkpoint(spec: ModelSpec) -> None:
    hub = checkpoints.PROCESSOR
    assert (spec.image_size, spec.resize_size, spec.interpolation) == (224, 224, "bicubic")
    assert (list(spec.mean), list(spec.std)) == (hub["image_mean"], hub["image_std"])
    assert (spec.context_length, spec.end_token, spec.pad_token) == (77, checkpoints.END, checkpoints.END)
    assert spec.logit_scale == pytest.approx(np.exp(2.6592), rel=1e-4)


@pytest.mark.parametrize(
    ("written", "kept"),
    [
        ("Made for\ndrawings.\r\n\t", "Made for drawings."),
        ("\x1b]0;title\x07\u202eevil", "]0;title evil"),
        ("<script>alert(1)</script> [bold]", "<script>alert(1)</script> [bold]"),
        ("a" * 2**20, "a" * 299 + "…"),
        ("caf\udce9", "caf"),
        ("", ""),
    ],
)
def test_a_notice_is_one_printable_line(written: str, kept: str, spec: ModelSpec) -> None:
    noticed = dataclasses.replace(spec, notice=written)
    assert noticed.notice == kept
    assert ModelSpec.from_parameters(noticed.to_parameters()) == noticed


def test_a_spec_of_an_older_export_has_no_notice(spec: ModelSpec) -> None:
    older = dataclasses.replace(spec, notice="")
    assert "notice" not in older.to_fields()
    assert ModelSpec.from_json(older.to_json()) == older


def test_a_notice_that_is_no_text_is_refused(spec: ModelSpec) -> None:
    with pytest.raises(InvalidInput, match="notice is int, expected a text"):
        ModelSpec.from_fields({**spec.to_fields(), "notice": 5})


@pytest.mark.parametrize(("stored", "told"), [("For drawings.", "For drawings."), (None, ""), (["a"], "['a']")])
def test_a_notice_comes_from_the_configuration(
    stored: Any, told: str, checkpoint: Path, spec: ModelSpec, tmp_path: Path
) -> None:
    folder = shutil.copytree(checkpoint, tmp_path / "own", copy_function=os.link)
    config = {**json.loads((folder / "config.json").read_text()), "notice": stored}
    (folder / "config.json").unlink()
    (folder / "config.json").write_text(json.dumps(config))
    own = checkpoint_files.find(str(folder), None)
    assert own.notice == told
    assert families.of(own).spec(own, "clip").fingerprint == spec.fingerprint


def test_the_bundled_checkpoint_says_what_it_is_for() -> None:
    assert "drawings" in checkpoint_files.find(str(bundled.CHECKPOINT), None).notice
