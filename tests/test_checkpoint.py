"""Checkpoints that can't be used say what is missing and where to get it."""

from __future__ import annotations

import json
import shutil
from pathlib import Path
from typing import Any

import checkpoints
import pytest
import torch
from safetensors.torch import load_file, save_file

from clip_client import InvalidInput
from clip_export import cli, families
from clip_export.checkpoints import find as checkpoint_files


@pytest.fixture
def copy(checkpoint: Path, tmp_path: Path) -> Path:
    """A copy of the small checkpoint, to be damaged."""
    return Path(shutil.copytree(checkpoint, tmp_path / "copy"))


def describe(folder: Path) -> None:
    found = checkpoint_files.find(str(folder), None)
    families.of(found).spec(found, "clip")


def edit(path: Path, **changes: Any) -> None:
    path.write_text(json.dumps({**json.loads(path.read_text()), **changes}))


@pytest.mark.parametrize("model", ["./nowhere", "/no/such/folder", "~/no-such-folder", "a/b/c"])
def test_a_missing_folder(model: str) -> None:
    with pytest.raises(InvalidInput, match=f"no checkpoint folder {model}"):
        checkpoint_files.find(model, None)


def test_an_unreachable_hub(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> None:
    monkeypatch.setattr("huggingface_hub.constants.HF_HUB_OFFLINE", True)
    monkeypatch.chdir(tmp_path)
    assert cli.main(["--model", "openai/clip-vit-base-patch32"]) == cli.BAD_INPUT
    assert "pass --model FOLDER" in capsys.readouterr().err


@pytest.mark.parametrize(
    ("name", "message"),
    [
        ("config.json", "has no config.json"),
        ("preprocessor_config.json", "nor a preprocessor_config.json"),
        ("model.safetensors", "has no weights: expected model.safetensors"),
        ("tokenizer.json", "has no tokenizer.json, nor a vocab.json"),
    ],
)
def test_a_missing_file(name: str, message: str, copy: Path) -> None:
    (copy / name).unlink()
    with pytest.raises(InvalidInput, match=message):
        describe(copy)


def test_pickled_weights_only(copy: Path) -> None:
    (copy / "model.safetensors").unlink()
    torch.save({}, copy / "pytorch_model.bin")
    with pytest.raises(InvalidInput, match=r"pickled weights only \(pytorch_model\.bin\), which can run code"):
        describe(copy)


@pytest.mark.parametrize("name", ["config.json", "preprocessor_config.json"])
def test_a_damaged_config(name: str, copy: Path) -> None:
    (copy / name).write_text('{"model_type": ')
    with pytest.raises(InvalidInput, match=r"isn't a JSON object .* is the file whole\?"):
        describe(copy)


def test_damaged_weights(copy: Path) -> None:
    whole = (copy / "model.safetensors").read_bytes()
    (copy / "model.safetensors").write_bytes(whole[: len(whole) // 2])
    with pytest.raises(InvalidInput, match=r"model\.safetensors can't be read"):
        describe(copy)


def test_weights_of_another_shape(copy: Path, tmp_path: Path) -> None:
    wider = checkpoints.make(tmp_path / "wider", projection=320)
    shutil.copy(wider / "model.safetensors", copy / "model.safetensors")
    found = checkpoint_files.find(str(copy), None)
    family = families.of(found)
    with pytest.raises(InvalidInput, match=r"\[320, 64\] in the weights and \[512, 64\] by the configuration"):
        family.towers(found, family.spec(found, "clip"))


def test_another_family(copy: Path) -> None:
    edit(copy / "config.json", model_type="siglop")
    with pytest.raises(InvalidInput, match=r"is a 'siglop' checkpoint, expected one of: siglip, .*chinese_clip"):
        describe(copy)


@pytest.mark.parametrize("gone", ["visual_projection.weight", "text_model.encoder.layers.1.mlp.fc1.weight"])
def test_weights_with_holes(gone: str, copy: Path) -> None:
    tensors = load_file(copy / "model.safetensors")
    del tensors[gone]
    save_file(tensors, copy / "model.safetensors", metadata={"format": "pt"})
    found = checkpoint_files.find(str(copy), None)
    family = families.of(found)
    with pytest.raises(InvalidInput, match=f"the weights lack 1 tensors, the first is {gone}"):
        family.towers(found, family.spec(found, "clip"))


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"resample": "bicubic"}, "can't be followed"),
        ({"image_mean": [0.5]}, "the image processor's settings can't be read"),
        ({"size": {"longest_edge": 224}}, "can't be followed"),
        ({"crop_size": {"height": 192, "width": 192}}, "gives 192 pixels a side, the image tower takes 224"),
        ({"crop_size": {"height": 224, "width": 336}}, "expected a square"),
        ({"do_resize": False}, "do_resize off"),
        ({"do_center_crop": False}, "gives no fixed size"),
        ({"rescale_factor": "1/255"}, "the image processor's settings can't be read"),
    ],
    ids=str,
)
def test_a_processor_that_cannot_be_followed(changes: dict, message: str, copy: Path) -> None:
    edit(copy / "preprocessor_config.json", **changes)
    with pytest.raises(InvalidInput, match=message):
        describe(copy)


def test_a_tokenizer_of_other_weights(copy: Path) -> None:
    config = json.loads((copy / "config.json").read_text())
    edit(copy / "config.json", text_config={**config["text_config"], "eos_token_id": 9})
    with pytest.raises(InvalidInput, match=f"ends texts with token 9, the tokenizer with {checkpoints.END}"):
        describe(copy)


def test_a_damaged_tokenizer(copy: Path) -> None:
    (copy / "tokenizer.json").write_text("{}")
    with pytest.raises(
        InvalidInput, match=r"the tokenizer can't be read \(KeyError: 'added_tokens'\): is the checkpoint whole"
    ):
        describe(copy)


def test_a_config_that_is_none_of_clip(copy: Path) -> None:
    edit(copy / "config.json", text_config="x")
    with pytest.raises(InvalidInput, match=r"config\.json isn't one of CLIP"):
        describe(copy)


def test_what_a_config_leaves_open_is_the_librarys_default(copy: Path) -> None:
    config = json.loads((copy / "config.json").read_text())
    del config["projection_dim"]
    (copy / "config.json").write_text(json.dumps(config))
    edit(copy / "tokenizer_config.json", model_max_length=None)
    describe(copy)


def test_a_revision_of_a_folder(copy: Path) -> None:
    with pytest.raises(InvalidInput, match="--revision main is for checkpoints on the hub"):
        checkpoint_files.find(str(copy), "main")


def test_vocabulary_and_merges_will_do(copy: Path) -> None:
    whole = checkpoint_files.find(str(copy), None).tokenizer_json
    tokenizer = json.loads(whole)["model"]
    (copy / "vocab.json").write_text(json.dumps(tokenizer["vocab"]))
    merges = [pair if isinstance(pair, str) else " ".join(pair) for pair in tokenizer["merges"]]
    (copy / "merges.txt").write_text("#version: 0.2\n" + "\n".join(merges) + "\n")
    (copy / "tokenizer.json").unlink()
    made = checkpoint_files.find(str(copy), None).tokenizer_json
    assert json.loads(made)["model"]["vocab"] == tokenizer["vocab"]


def test_processor_settings_in_the_newer_file(copy: Path) -> None:
    settings = json.loads((copy / "preprocessor_config.json").read_text())
    (copy / "preprocessor_config.json").unlink()
    (copy / "processor_config.json").write_text(json.dumps({"image_processor": {**settings, "resample": 2}}))
    found = checkpoint_files.find(str(copy), None)
    assert families.of(found).spec(found, "clip").interpolation == "bilinear"
