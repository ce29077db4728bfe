"""LoRA adapters are merged into the base that they name as peft itself merges them, or refused by name."""

from __future__ import annotations

import json
import os
import re
import shutil
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import checkpoints
import numpy as np
import peft_adapters
import pytest
import torch
from safetensors.torch import load_file, save_file
from test_checkpoint import edit
from transformers import CLIPModel

from clip_client import InvalidInput
from clip_client.errors import Unavailable
from clip_client.spec import TOWERS
from clip_export import cli, families
from clip_export.checkpoints.find import find

CONFIG, WEIGHTS = "adapter_config.json", "adapter_model.safetensors"
SMALL = {
    "vision": {"patch_size": 16, "image_size": 64, "hidden_size": 32, "intermediate_size": 64},
    "text": {"hidden_size": 48, "intermediate_size": 64},
    "processor": {"size": {"shortest_edge": 64}, "crop_size": {"height": 64, "width": 64}},
    "projection": 24,
    "merges": 0,
}


@pytest.fixture(scope="module")
def made(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A base and an adapter of it for each variant, with peft's own embeddings."""
    folder = tmp_path_factory.mktemp("adapters")
    return peft_adapters.made(checkpoints.make(folder / "base", **SMALL), folder)


@pytest.fixture
def adapter(made: Path, tmp_path: Path) -> Path:
    """A copy of the plain adapter, to be damaged."""
    return Path(shutil.copytree(made / "plain", tmp_path / "adapter"))


@pytest.mark.parametrize("name", peft_adapters.VARIANTS)
def test_an_adapter_is_merged_as_peft_does(name: str, made: Path, tmp_path: Path) -> None:
    expected = np.load(made / "expected.npz")
    merged = find(str(made / name), None, merged=tmp_path)
    model = CLIPModel.from_pretrained(merged.folder).eval()
    with torch.inference_mode():
        image = model.get_image_features(pixel_values=torch.from_numpy(expected[f"{name}/pixels"])).pooler_output
        text = model.get_text_features(input_ids=torch.tensor(peft_adapters.IDS)).pooler_output
    np.testing.assert_allclose(image, expected[f"{name}/image"], atol=1e-5)
    np.testing.assert_allclose(text, expected[f"{name}/text"], atol=1e-5)
    base = CLIPModel.from_pretrained(made / "base").get_image_features(torch.from_numpy(expected[f"{name}/pixels"]))
    assert name in ("a regular expression",) or not np.allclose(image, base.pooler_output.detach(), atol=1e-3)


def test_an_adapter_has_a_name_and_a_fingerprint_of_its_own(made: Path, tmp_path: Path) -> None:
    merged, base = find(str(made / "plain"), None, merged=tmp_path), find(str(made / "base"), None)
    specs = [families.of(checkpoint).spec(checkpoint, "clip") for checkpoint in (merged, base)]
    assert specs[0].checkpoint == "plain"
    assert specs[0].fingerprint != specs[1].fingerprint
    assert find(str(made / "plain"), None, merged=tmp_path).folder == merged.folder
    assert [folder.name for folder in tmp_path.iterdir()] == [merged.folder.name]


def test_another_base_makes_another_folder(made: Path, adapter: Path, tmp_path: Path) -> None:
    base = Path(shutil.copytree(made / "base", tmp_path / "base"))
    weights = load_file(base / "model.safetensors")
    save_file({**weights, "logit_scale": weights["logit_scale"] + 1}, base / "model.safetensors", {"format": "pt"})
    edit(adapter / CONFIG, base_model_name_or_path=str(base))
    folders = {find(str(model), None, merged=tmp_path / "merged").folder for model in (adapter, made / "plain")}
    assert len(folders) == 2


def test_the_adapters_own_tokenizer_goes_before_the_bases(made: Path, adapter: Path, tmp_path: Path) -> None:
    settings = json.loads((made / "base" / "tokenizer_config.json").read_text())
    (adapter / "tokenizer_config.json").write_text(json.dumps({**settings, "model_max_length": 9}))
    merged = find(str(adapter), None, merged=tmp_path / "merged")
    assert families.of(merged).spec(merged, "clip").context_length == 9


def test_an_adapter_of_one_tower_changes_that_one(made: Path, adapter: Path, tmp_path: Path) -> None:
    """As trained on a CLIPVisionModel, whose own names don't tell the tower."""
    tensors = {name: tensor for name, tensor in load_file(adapter / WEIGHTS).items() if "vision_model." in name}
    _save(adapter, {name.replace("vision_model.", ""): tensor for name, tensor in tensors.items()})
    edit(adapter / CONFIG, auto_mapping={"base_model_class": "CLIPVisionModel", "parent_library": "transformers"})
    merged, whole, base = (
        load_file(folder / "model.safetensors")
        for folder in (*(find(str(model), None, merged=tmp_path).folder for model in (adapter, made / "plain")), made / "base")
    )
    for name, tensor in merged.items():
        assert torch.equal(tensor, (whole if name.startswith("vision_model.") else base)[name])


def test_a_base_of_half_precision_is_merged_in_float32(made: Path, adapter: Path, tmp_path: Path) -> None:
    base = Path(shutil.copytree(made / "base", tmp_path / "base"))
    half = {name: tensor.half() for name, tensor in load_file(base / "model.safetensors").items()}
    save_file(half, base / "model.safetensors", {"format": "pt"})
    edit(adapter / CONFIG, base_model_name_or_path=str(base))
    merged = load_file(find(str(adapter), None, merged=tmp_path / "merged").folder / "model.safetensors")
    assert {tensor.dtype for tensor in merged.values()} == {torch.float32}


COMPARE = """
import sys, pathlib
from test_oracle import compared
for tower, verdict in compared(["--model", sys.argv[1]], pathlib.Path(sys.argv[2])).items():
    print(f"{tower}: {verdict.library}: {verdict.missing}{verdict.differences}{verdict.notes}")
"""


def test_an_export_compares_with_peft_where_it_is_installed(
    made: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("PYTHONPATH", os.pathsep.join(filter(None, sys.path)))
    monkeypatch.chdir(tmp_path)
    lines = peft_adapters.run(["-c", COMPARE, str(made / "dora"), str(tmp_path / "artifacts")]).splitlines()
    for tower in TOWERS:
        assert any(re.fullmatch(rf"{tower}: transformers [\d.]+ with peft 0\.21\.\d+: \(\)\(\)", line) for line in lines)


def settings(**changes: Any) -> Callable[[Path], Any]:
    return lambda adapter: edit(adapter / CONFIG, **changes)


def without(part: str) -> Callable[[Path], Any]:
    """Drop the tensors whose names hold a part."""
    return lambda adapter: _save(adapter, {k: v for k, v in load_file(adapter / WEIGHTS).items() if part not in k})


def renamed(old: str, new: str) -> Callable[[Path], Any]:
    return lambda adapter: _save(adapter, {k.replace(old, new): v for k, v in load_file(adapter / WEIGHTS).items()})


def _save(adapter: Path, tensors: dict[str, torch.Tensor]) -> None:
    save_file(tensors, adapter / WEIGHTS)


def wider(adapter: Path) -> None:
    """Make the second matrices fit a wider base."""
    pad = torch.nn.functional.pad
    _save(adapter, {k: pad(v, (0, 0, 0, 8)) if "lora_B" in k else v for k, v in load_file(adapter / WEIGHTS).items()})


REFUSED: dict[str, tuple[Callable[[Path], Any], str]] = {
    "another method": (settings(peft_type="LOHA"), r"an adapter of type LOHA, expected LORA: merge it where it was trained"),
    "a start that changes the base": (settings(init_lora_weights="pissa"), "init_lora_weights 'pissa', which changes the base"),
    "a transposed base": (settings(fan_in_fan_out=True), "has fan_in_fan_out in its adapter_config.json, which isn't followed"),
    "trained tokens": (settings(trainable_token_indices=[1, 2]), "has trainable_token_indices"),
    "activated": (settings(alora_invocation_tokens=[5]), "has alora_invocation_tokens"),
    "layers twice": (settings(layer_replication=[[0, 1], [0, 2]]), "has layer_replication"),
    "a setting of tomorrow": (settings(use_wonder=True), "has use_wonder"),
    "another rank": (settings(r=9), "has the rank 4, adapter_config.json says 9"),
    "no base": (settings(base_model_name_or_path=None), r"base_model_name_or_path None, expected the folder or hub id"),
    "a base elsewhere": (settings(base_model_name_or_path="/home/me/clip"), r"is an adapter of /home/me/clip: no checkpoint f"),
    "no weights": (lambda adapter: (adapter / WEIGHTS).unlink(), "adapter_config.json without adapter_model.safetensors"),
    "half of a pair": (without("lora_B"), "amiss is lora_B"),
    "a model around the base": (
        renamed("self_attn", "attention"),
        r"which the base holds 0 times: expected an adapter of this",
    ),
    "another width": (wider, r"has the shape \[56, 48\] for .*, the base \[48, 48\]"),
    "damaged weights": (lambda adapter: (adapter / WEIGHTS).write_bytes(b"x" * 99), "its adapter can't be read"),
    "damaged settings": (lambda adapter: (adapter / CONFIG).write_text("{"), "isn't a JSON object"),
    "a rank of zero": (settings(r=0, rank_pattern={}), "has the rank 4, adapter_config.json says 0"),
    "a broken pattern": (settings(rank_pattern={"(": 4}), r"can't be read \("),
}


@pytest.mark.parametrize("kind", REFUSED)
def test_an_adapter_that_cannot_be_followed(kind: str, adapter: Path, tmp_path: Path) -> None:
    change, message = REFUSED[kind]
    change(adapter)
    with pytest.raises(InvalidInput, match=message):
        find(str(adapter), None, merged=tmp_path / "merged")
    assert not (tmp_path / "merged").exists() or not [*(tmp_path / "merged").iterdir()]


def test_an_adapter_of_an_adapter(made: Path, adapter: Path, tmp_path: Path) -> None:
    edit(adapter / CONFIG, base_model_name_or_path=str(made / "dora"))
    with pytest.raises(InvalidInput, match="is an adapter of dora, which is an adapter itself: merge that one first"):
        find(str(adapter), None, merged=tmp_path)


def test_an_adapter_of_itself(adapter: Path, tmp_path: Path) -> None:
    edit(adapter / CONFIG, base_model_name_or_path=str(adapter))
    with pytest.raises(InvalidInput, match="which is an adapter itself"):
        find(str(adapter), None, merged=tmp_path)


def test_whole_weights_beside_an_adapter(made: Path, adapter: Path) -> None:
    shutil.copyfile(made / "base" / "model.safetensors", adapter / "model.safetensors")
    with pytest.raises(InvalidInput, match=r"has whole weights and an adapter .*, expected one of them"):
        find(str(adapter), None)


def test_the_base_is_on_a_hub_that_cannot_be_reached(adapter: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("huggingface_hub.constants.HF_HUB_OFFLINE", True)
    edit(adapter / CONFIG, base_model_name_or_path="openai/clip-vit-base-patch32")
    with pytest.raises(Unavailable, match="it can't be had from the hub, HF_HUB_OFFLINE is set"):
        find(str(adapter), None, merged=tmp_path)


def test_merged_weights_that_cannot_be_written(adapter: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    (tmp_path / "merged").write_text("a file")
    assert cli.main(["--model", str(adapter), "--artifacts", str(tmp_path)]) == cli.BAD_INPUT
    assert "the merged weights can't be written to" in capsys.readouterr().err
