"""Model repositories that a test makes from others."""

from __future__ import annotations

import dataclasses
import shutil
from pathlib import Path

from clip_client import ModelSpec
from clip_export.publish import triton_config
from clip_export.variants import REFERENCE


def other_checkpoint(models: Path, folder: Path, spec: ModelSpec) -> Path:
    """A copy of six models that says it is of another checkpoint."""
    shutil.copytree(models, folder)
    changed = dataclasses.replace(spec, logit_scale=50.0)
    for model in folder.iterdir():
        changed.save(model / "1" / "spec.json")
    for tower in ("image", "text"):
        config = triton_config.to_text(triton_config.ensemble_config(changed, tower, REFERENCE))
        (folder / changed.ensemble(tower) / "config.pbtxt").write_text(config)
    return folder
