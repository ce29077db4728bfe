"""Memory of large towers while they are loaded, built and compared."""

from __future__ import annotations

import subprocess
import sys
import weakref
from collections.abc import Callable
from functools import partial
from pathlib import Path

import checkpoints
import pytest
import torch
from torch import nn

from clip_client.spec import Tower
from clip_export import families, memory
from clip_export.builds.judge import Artifacts
from clip_export.checkpoints.find import find
from clip_export.evaluation import items
from clip_export.evaluation.gate import Allowed
from clip_export.variants import named

pytestmark = pytest.mark.long

_WIDE = {"hidden_size": 1024, "intermediate_size": 8192, "num_hidden_layers": 2, "num_attention_heads": 4}

_GROWTH = """
import sys, transformers
from pathlib import Path
from clip_export import families
from clip_export.checkpoints.find import find
from clip_export.libraries.hugging_face import loaded

def copied():
    return next(1024 * int(line.split()[1]) for line in Path("/proc/self/status").read_text().splitlines() if "RssAnon" in line)

def load():
    if sys.argv[2] == "library":
        return loaded(transformers.AutoModel, checkpoint.folder)
    return families.of(checkpoint).load(checkpoint, spec)

checkpoint = find(sys.argv[1], None)
spec = families.of(checkpoint).spec(checkpoint, "clip")
transformers.CLIPModel  # what comes with its module is no memory of the weights
before = copied()
towers = load()
print(copied() - before)
"""


@pytest.mark.parametrize("side", ["ours", pytest.param("library", marks=pytest.mark.slow)])
def test_weights_are_mapped_and_not_copied(side: str, tmp_path: Path) -> None:
    folder = checkpoints.make(tmp_path / "wide", vision=_WIDE)
    weights = (folder / "model.safetensors").stat().st_size
    command = [sys.executable, "-c", _GROWTH, str(folder), side]
    grown = int(subprocess.run(command, capture_output=True, text=True, check=True).stdout)
    assert grown < 0.2 * weights


def test_a_built_tower_is_let_go(checkpoint: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(memory, "_KEPT_BYTES", 0)
    files = find(str(checkpoint), None)
    family = families.of(files)
    spec = family.spec(files, "clip")
    weights: list[weakref.ref[torch.Tensor]] = []

    class Watched(Artifacts):
        def module(self, tower: Tower) -> Callable[[], nn.Module]:
            load = super().module(tower)

            def watched() -> nn.Module:
                module = load()
                weights.extend(map(weakref.ref, module.parameters()))
                return module

            return watched

    artifacts = Watched(tmp_path, spec, partial(family.towers, files, spec), lambda step: None)
    judge = artifacts.judge(*items.load(None, None, None, items.Inputs(spec, files.tokenizer_json)), Allowed())
    judge.judged(named("onnx-fp32"), "image")
    assert weights
    assert not [weight for weight in weights if (tensor := weight()) is not None and tensor.numel()]
