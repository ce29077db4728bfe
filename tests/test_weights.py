"""Weights that don't belong to their configuration, or aren't numbers, are refused with the name of the first tensor."""

from __future__ import annotations

import hashlib
import json
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import open_clips
import other_checkpoints
import pytest
import torch
from safetensors.torch import load_file, save_file
from test_checkpoint import edit
from torch import Tensor

from clip_client import InvalidInput
from clip_export import families
from clip_export.checkpoints import find as checkpoint_files
from clip_export.checkpoints import weight_digest


@pytest.fixture
def copy(checkpoint: Path, tmp_path: Path) -> Path:
    """A copy of the small checkpoint, to be damaged."""
    return Path(shutil.copytree(checkpoint, tmp_path / "copy"))


@pytest.fixture(scope="module")
def resnet(tmp_path_factory: pytest.TempPathFactory) -> Path:
    open_clips.library()
    folder = tmp_path_factory.mktemp("open_clip") / "resnet"
    open_clips.resnet(folder)
    return folder


def rewrite(file: Path, change: Callable[[dict[str, Tensor]], Any]) -> None:
    tensors = load_file(file)
    change(tensors)
    save_file(tensors, file, metadata={"format": "pt"})


def load(model: str, text: str | None = None) -> None:
    found = checkpoint_files.find(model, None, text)
    family = families.of(found)
    family.towers(found, family.spec(found, "clip"))


def narrow(config: dict[str, Any]) -> dict[str, Any]:
    return {"vision_config": {**config["vision_config"], "intermediate_size": 96}}


def shallow(config: dict[str, Any]) -> dict[str, Any]:
    return {"text_config": {**config["text_config"], "num_hidden_layers": 1}}


def deep(config: dict[str, Any]) -> dict[str, Any]:
    return {"text_config": {**config["text_config"], "num_hidden_layers": 3}}


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (
            narrow,
            r"vision_model\.encoder\.layers\.0\.mlp\.fc1\.weight is \[128, 64\] in the weights and \[96, 64\] by the "
            "configuration, the first of 6 that differ",
        ),
        (
            shallow,
            r"the weights have text_model\.encoder\.layers\.1\.\S+ and 15 more tensors of layers that config\.json lacks",
        ),
        (deep, r"the weights lack 16 tensors, the first is text_model\.encoder\.layers\.2\.layer_norm1\.bias"),
    ],
)
def test_a_configuration_of_other_weights(change: Callable[[dict[str, Any]], Any], message: str, copy: Path) -> None:
    edit(copy / "config.json", **change(json.loads((copy / "config.json").read_text())))
    with pytest.raises(InvalidInput, match=message) as raised:
        load(str(copy))
    assert "\n" not in str(raised.value)


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"embed_dim": 32}, r"\S+ is \[\S.*\] in the weights and \[.*\] by the configuration, the first of \d+ that differ"),
        (
            {"text_cfg": {**open_clips.TEXT, "layers": 1}},
            r"the weights have 12 tensors that \S+ has no place for, the first is \S+",
        ),
        (
            {"text_cfg": {**open_clips.TEXT, "layers": 3}},
            r"the weights lack 12 tensors, the first is transformer\.resblocks\.2\.\S+",
        ),
    ],
)
def test_a_configuration_of_other_weights_of_open_clip(changes: Any, message: str, resnet: Path, tmp_path: Path) -> None:
    copy = Path(shutil.copytree(resnet, tmp_path / "copy"))
    config = json.loads((copy / "open_clip_config.json").read_text())
    edit(copy / "open_clip_config.json", model_cfg={**config["model_cfg"], **changes})
    with pytest.raises(InvalidInput, match=message) as raised:
        load(f"open_clip:{copy}")
    assert "\n" not in str(raised.value)


@pytest.mark.parametrize("dtype", [torch.float32, torch.float16, torch.bfloat16, torch.float64])
@pytest.mark.parametrize(("number", "flaw"), [(float("nan"), "NaN"), (float("-inf"), "infinity")])
def test_numbers_that_are_none_are_named(number: float, flaw: str, dtype: torch.dtype, copy: Path) -> None:
    name = "vision_model.encoder.layers.1.mlp.fc2.weight"

    def damage(tensors: dict[str, Tensor]) -> None:
        tensors[name] = tensors[name].to(dtype)
        tensors[name][-1, -1] = number

    rewrite(copy / "model.safetensors", damage)
    with pytest.raises(InvalidInput, match=rf"the image tower's {name} holds {flaw}, expected finite numbers"):
        load(str(copy))


def test_numbers_that_nobody_computes_with_may_be_none(copy: Path) -> None:
    rewrite(copy / "model.safetensors", lambda tensors: tensors.update({"text_model.mask": torch.full((3, 3), -torch.inf)}))
    load(str(copy))


def test_a_scale_that_is_no_number(copy: Path) -> None:
    rewrite(copy / "model.safetensors", lambda tensors: tensors["logit_scale"].fill_(torch.nan))
    with pytest.raises(InvalidInput, match="logit_scale is nan, expected a number"):
        load(str(copy))


def test_numbers_that_are_none_in_open_clip(resnet: Path, tmp_path: Path) -> None:
    copy = Path(shutil.copytree(resnet, tmp_path / "copy"))
    weights = copy / "open_clip_model.safetensors"
    rewrite(weights, lambda tensors: tensors["transformer.resblocks.1.attn.in_proj_weight"][0].fill_(torch.nan))
    with pytest.raises(InvalidInput, match=r"the text tower's transformer\.resblocks\.1\.attn\.in_proj_weight holds NaN"):
        load(f"open_clip:{copy}")


def test_numbers_that_are_none_in_a_dense_layer(checkpoint: Path, tmp_path: Path) -> None:
    other_checkpoints.sentence_transformer(tmp_path / "text")
    rewrite(tmp_path / "text" / "2_Dense" / "model.safetensors", lambda tensors: tensors["linear.weight"][0].fill_(torch.inf))
    with pytest.raises(InvalidInput, match=r"the text tower's linear\.weight holds infinity"):
        load(str(checkpoint), str(tmp_path / "text"))


def test_the_digest_is_that_of_the_whole_files(copy: Path, tmp_path: Path) -> None:
    large = {"a": torch.randn(1500, 1000), "b": torch.arange(3), "c": torch.tensor([1.0, torch.nan]).bfloat16()}
    save_file(large, tmp_path / "large.safetensors")
    files = [copy / "model.safetensors", tmp_path / "large.safetensors"]
    read = weight_digest.digested(files)
    assert (
        read.sha256 == weight_digest.digest(files) == hashlib.sha256(b"".join(path.read_bytes() for path in files)).hexdigest()
    )
    assert read.unsound == {"c": "NaN"}


@pytest.mark.parametrize("size", [0, 5, 8, 200, -1])
def test_the_digest_of_half_a_file(size: int, copy: Path) -> None:
    half = (copy / "model.safetensors").read_bytes()[:size]
    (copy / "model.safetensors").write_bytes(half)
    assert weight_digest.digested([copy / "model.safetensors"]).sha256 == hashlib.sha256(half).hexdigest()


def test_tensors_that_have_no_place_are_told(copy: Path) -> None:
    rewrite(
        copy / "model.safetensors", lambda tensors: tensors.update({"head.weight": torch.ones(2), "head.bias": torch.ones(2)})
    )
    found = checkpoint_files.find(str(copy), None)
    family = families.of(found)
    family.towers(found, family.spec(found, "clip"))
    told = "weights: the model has no place for 2 of the checkpoint's tensors, the first is head.bias"
    assert found.origins.lines() == [told]
