"""Model repositories that a test makes from others."""

from __future__ import annotations

import dataclasses
import shutil
from pathlib import Path

import numpy as np
import onnx
from onnx import numpy_helper

from clip_client import ModelSpec
from clip_client.model_repository import encoder, preparer
from clip_client.spec import TOWERS, Tower
from clip_export.publish import triton_config
from clip_export.variants import REFERENCE
from clip_inside_triton import PREPARERS


def other_checkpoint(models: Path, folder: Path, spec: ModelSpec) -> Path:
    """A copy of six models that says it is of another checkpoint."""
    shutil.copytree(models, folder)
    changed = dataclasses.replace(spec, logit_scale=50.0)
    for model in folder.iterdir():
        changed.save(model / "1" / "spec.json")
    for tower in ("image", "text"):
        config = triton_config.to_text(triton_config.ensemble_config(changed, tower, REFERENCE))
        (folder / changed.ensemble(tower) / "config.pbtxt").write_text(config)
    config = triton_config.to_text(triton_config.preparer_config(changed, "image", "exact"))
    (folder / preparer(changed.name, "image") / "config.pbtxt").write_text(config)
    return folder


def named_anew(models: Path, folder: Path, *, space: str = "", image_sha256: str = "", weights: str = "0" * 64) -> Path:
    """A copy of six models under configurations of today: a checkpoint of its own, or one of a parent's space.

    Its text encoder's weights are changed a little where that is ONNX.
    """
    shutil.copytree(models, folder)
    before = ModelSpec.load(folder / "clip_text" / "1" / "spec.json")
    spec = dataclasses.replace(
        before, weights_sha256=weights, image_sha256=image_sha256, text_sha256=weights, inherited_space=space
    )
    for tower in TOWERS:
        for config in (
            triton_config.ensemble_config(spec, tower, REFERENCE),
            triton_config.preparer_config(spec, tower, "exact"),
        ):
            (folder / config.name / "config.pbtxt").write_text(triton_config.to_text(config))
            if config.backend:
                shutil.copyfile(PREPARERS[tower], folder / config.name / "1" / "model.py")
    for model in folder.iterdir():
        spec.save(model / "1" / "spec.json")
    return folder


def changed_weights(repository: Path, tower: Tower) -> None:
    """Change an ONNX encoder's last matrix a little, in a file of its own."""
    path = repository / encoder("clip", tower) / "1" / "model.onnx"
    model = onnx.load(path)
    weights = [one for one in model.graph.initializer if len(one.dims) == 2][-1]
    values = numpy_helper.to_array(weights)
    noise = np.random.default_rng(0).standard_normal(values.shape)
    weights.CopyFrom(numpy_helper.from_array((values + 0.3 * values.std() * noise).astype(values.dtype), weights.name))
    path.unlink()  # it may be linked
    onnx.save(model, path)
