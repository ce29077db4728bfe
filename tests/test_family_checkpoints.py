"""Checkpoints of other families that can't be used say what was found, what was expected and what to do."""

from __future__ import annotations

import json
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import checkpoints
import numpy as np
import open_clips
import other_checkpoints
import pytest
import references
import torch
from libraries import Ours
from safetensors.torch import load_file, save_file
from test_checkpoint import describe, edit
from transformers import AutoModel, AutoTokenizer

from clip_client import InvalidInput
from clip_client.errors import Unavailable
from clip_export import cli, families
from clip_export.checkpoints import find as checkpoint_files

TEXTS = ["", "a photo of a cat", "一只猫的照片", "many words " * 100]


@pytest.fixture(scope="module")
def originals(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """One checkpoint of each kind."""
    folder = tmp_path_factory.mktemp("originals")
    for make in (other_checkpoints.siglip, other_checkpoints.sentence_transformer, other_checkpoints.m_clip):
        make(folder / make.__name__)
    checkpoints.make(folder / "clip", vision={"image_size": 224})
    open_clips.library()
    open_clips.resnet(folder / "open_clip")
    return folder


@pytest.fixture
def copies(originals: Path, tmp_path: Path) -> Path:
    """Copies of them, to be damaged."""
    return Path(shutil.copytree(originals, tmp_path / "copies"))


def pair(image: Path, text: Path) -> None:
    found = checkpoint_files.find(str(image), None, str(text))
    families.of(found).spec(found, "clip")


def load(found: checkpoint_files.Checkpoint) -> None:
    family = families.of(found)
    family.towers(found, family.spec(found, "clip"))


def test_a_text_model_of_other_dimensions(copies: Path) -> None:
    edit(copies / "sentence_transformer" / "2_Dense" / "config.json", out_features=384)
    with pytest.raises(InvalidInput, match=r"gives texts 384 dimensions, clip gives images 512: pass the text model"):
        pair(copies / "clip", copies / "sentence_transformer")


def test_a_text_model_of_an_unknown_kind(copies: Path) -> None:
    with pytest.raises(InvalidInput, match=r"--text-model siglip is a 'siglip' checkpoint: expected M-CLIP, or a model"):
        pair(copies / "clip", copies / "siglip")


def change_modules(folder: Path) -> None:
    modules = json.loads((folder / "modules.json").read_text())
    (folder / "modules.json").write_text(
        json.dumps([*modules, {"path": "3_LSTM", "type": "sentence_transformers.models.LSTM"}])
    )


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (change_modules, "modules.json has LSTM, expected Transformer, Pooling, Dense and Normalize only"),
        (lambda it: (it / "2_Dense" / "model.safetensors").unlink(), "pickled weights, which can run code, aren't loaded"),
        (
            lambda it: edit(it / "1_Pooling" / "config.json", pooling_mode_max_tokens=True),
            "pools by mean, max, expected one of mean, cls",
        ),
        (lambda it: edit(it / "2_Dense" / "config.json", activation_function="torch.nn.ReLU"), "expected Identity or Tanh"),
        (lambda it: edit(it / "sentence_bert_config.json", do_lower_case=True), "lower-cases texts before its tokenizer"),
        (lambda it: (it / "1_Pooling" / "config.json").unlink(), "has no 1_Pooling/config.json"),
    ],
    ids=["module", "pickled", "pooling", "activation", "lower case", "missing"],
)
def test_a_sentence_transformer_that_cannot_be_followed(change: Callable[[Path], Any], message: str, copies: Path) -> None:
    change(copies / "sentence_transformer")
    found = checkpoint_files.find(str(copies / "clip"), None, str(copies / "sentence_transformer"))
    with pytest.raises(InvalidInput, match=message):
        load(found)


def test_m_clip_without_the_shape_of_its_base(copies: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("huggingface_hub.constants.HF_HUB_OFFLINE", True)
    shutil.rmtree(copies / "m_clip" / "small-xlm-roberta")
    with pytest.raises(Unavailable, match=r"base model small-xlm-roberta can't be fetched: put that model's config.json into"):
        pair(copies / "clip", copies / "m_clip")


def test_m_clip_with_holes(copies: Path) -> None:
    weights = load_file(copies / "m_clip" / "model.safetensors")
    del weights["transformer.encoder.layer.1.output.dense.weight"]
    save_file(weights, copies / "m_clip" / "model.safetensors")
    with pytest.raises(InvalidInput, match=r"lack 1 tensors, the first is encoder\.layer\.1\.output\.dense\.weight"):
        load(checkpoint_files.find(str(copies / "clip"), None, str(copies / "m_clip")))


def test_the_fingerprint_covers_both_towers(originals: Path, copies: Path) -> None:
    def fingerprint(folder: Path) -> str:
        found = checkpoint_files.find(str(originals / "clip"), None, str(folder))
        return families.of(found).spec(found, "clip").fingerprint

    weights = load_file(copies / "sentence_transformer" / "2_Dense" / "model.safetensors")
    assert fingerprint(copies / "sentence_transformer") == fingerprint(originals / "sentence_transformer")
    save_file(
        {"linear.weight": weights["linear.weight"] + 1}, copies / "sentence_transformer" / "2_Dense" / "model.safetensors"
    )
    assert fingerprint(copies / "sentence_transformer") != fingerprint(originals / "sentence_transformer")


def test_open_clips_models_take_a_file(copies: Path) -> None:
    config = json.loads((copies / "open_clip" / "open_clip_config.json").read_text())
    (copies / "tiny-resnet.json").write_text(json.dumps(config["model_cfg"]))
    with open_clips.own_model(copies / "tiny-resnet.json"):
        by_file = checkpoint_files.find(f"open_clip:tiny-resnet/{copies}/open_clip/open_clip_model.safetensors", None)
        by_folder = checkpoint_files.find(f"open_clip:{copies}/open_clip", None)
        load(by_file)
        specs = [families.of(files).spec(files, "clip") for files in (by_file, by_folder)]
    assert specs[0].fingerprint == specs[1].fingerprint
    assert by_file.label == "tiny-resnet-open_clip_model"


@pytest.mark.parametrize(
    ("model", "message"),
    [
        ("ViT-B-3/laion2b_e16", r"no model 'ViT-B-3', nor is there .* the nearest are: ViT-B-32"),
        ("ViT-B-32/nobody", r"no weights 'nobody' of ViT-B-32: expected one of openai, .* or a safetensors file"),
        ("ViT-B-32/none.safetensors", r"no file none\.safetensors: expected open_clip:ViT-B-32/ and a safetensors file"),
    ],
    ids=str,
)
def test_what_open_clip_does_not_have(model: str, message: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    open_clips.library()
    monkeypatch.setattr("huggingface_hub.constants.HF_HUB_OFFLINE", True)
    monkeypatch.chdir(tmp_path)
    with pytest.raises((InvalidInput, Unavailable), match=message):
        checkpoint_files.find(f"open_clip:{model}", None)


@pytest.mark.parametrize("model", ["ViT-B-32/laion2b_e16", "hf-hub:timm/ViT-B-16-SigLIP"])
def test_open_clips_hub_cannot_be_reached(model: str, monkeypatch: pytest.MonkeyPatch) -> None:
    open_clips.library()
    monkeypatch.setattr("huggingface_hub.constants.HF_HUB_OFFLINE", True)
    with pytest.raises(Unavailable, match="it can't be had from the hub, HF_HUB_OFFLINE is set"):
        checkpoint_files.find(f"open_clip:{model}", None)


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        (
            {"text_cfg": {**open_clips.TEXT, "pool_type": "eos", "eos_id": 7}},
            "read at token 7, the tokenizer ends texts with 49407",
        ),
        (
            {"text_cfg": {"hf_model_name": "x", "hf_pooler_type": "max_pooler"}},
            "pools by max_pooler, expected one of mean_pooler",
        ),
        ({"vision_cfg": {**open_clips.VISION, "image_size": [64, 96]}}, r"of size \[64, 96\] can't be followed"),
        ({"embed_dim": 32}, r"text_projection is \[64, 48\] in the weights and \[64, 32\] by the configuration"),
    ],
    ids=str,
)
def test_an_open_clip_model_that_cannot_be_served(changes: dict, message: str, copies: Path) -> None:
    config = json.loads((copies / "open_clip" / "open_clip_config.json").read_text())
    edit(copies / "open_clip" / "open_clip_config.json", model_cfg={**config["model_cfg"], **changes})
    with pytest.raises(InvalidInput, match=message):
        load(checkpoint_files.find(f"open_clip:{copies}/open_clip", None))


def test_an_open_clip_folder_without_weights(copies: Path) -> None:
    (copies / "open_clip" / "open_clip_model.safetensors").unlink()
    with pytest.raises(InvalidInput, match=r"no weights: expected open_clip_model\.safetensors, in a folder"):
        checkpoint_files.find(f"open_clip:{copies}/open_clip", None)


def test_open_clip_is_not_installed(monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> None:
    monkeypatch.setitem(__import__("sys").modules, "open_clip", None)
    assert cli.main(["--model", "open_clip:ViT-B-32/laion2b_e16"]) == cli.BAD_INPUT
    assert "pip install 'clipserve[open-clip]'" in capsys.readouterr().err


def pooling(**settings: Any) -> Callable[[Path], Any]:
    """Write the pooling's settings anew."""
    return lambda folder: (folder / "1_Pooling" / "config.json").write_text(json.dumps(settings))


def normalized_first(folder: Path) -> None:
    """Unit vectors before the dense layer, which then isn't linear in the text any more."""
    modules = json.loads((folder / "modules.json").read_text())
    normalize = {"path": "1_Normalize", "type": "sentence_transformers.models.Normalize"}
    (folder / "modules.json").write_text(json.dumps([*modules[:2], normalize, *modules[2:]]))
    edit(folder / "2_Dense" / "config.json", activation_function="torch.nn.modules.activation.Tanh")


AS_BEFORE: dict[str, Callable[[Path], Any]] = {
    "one mode": pooling(embedding_dimension=64, pooling_mode="mean", include_prompt=True),
    "one in a list": pooling(embedding_dimension=64, pooling_mode=["mean"]),
    "beside the older switches": pooling(pooling_mode="mean", pooling_mode_cls_token=True),
    "none": pooling(embedding_dimension=64),
    "all switched off": pooling(pooling_mode_cls_token=False, pooling_mode_mean_tokens=False),
    "modules by their new names": lambda it: (it / "modules.json").write_text(
        (it / "modules.json").read_text().replace("models.Pooling", "sentence_transformer.modules.pooling.Pooling")
    ),
    "a prompt that isn't the default": lambda it: (it / "config_sentence_transformers.json").write_text(
        '{"prompts": {"query": "q: ", "document": ""}, "default_prompt_name": "document"}'
    ),
}


@pytest.mark.parametrize("kind", AS_BEFORE)
def test_newer_settings_of_sentence_transformers_mean_the_same(kind: str, originals: Path, copies: Path) -> None:
    AS_BEFORE[kind](copies / "sentence_transformer")
    embeddings = [embedded(folder / "sentence_transformer", originals / "clip") for folder in (originals, copies)]
    np.testing.assert_allclose(embeddings[1], embeddings[0], atol=1e-6)


def embedded(text: Path, image: Path) -> np.ndarray:
    return Ours.read(image, text).embed(TEXTS)


def library_embedded(folder: Path, pool: str, normalize_first: bool = False) -> np.ndarray:
    """Computation of sentence-transformers 6.2, written out."""
    tokens = AutoTokenizer.from_pretrained(folder)(TEXTS, padding=True, truncation=True, max_length=128, return_tensors="pt")
    with torch.inference_mode():
        hidden = AutoModel.from_pretrained(folder).eval()(**tokens).last_hidden_state
    mask = tokens["attention_mask"][:, :, None]
    pooled = hidden[:, 0] if pool == "cls" else (hidden * mask).sum(dim=1) / mask.sum(dim=1)
    weight = load_file(folder / "2_Dense" / "model.safetensors")["linear.weight"]
    rows = torch.tanh(torch.nn.functional.normalize(pooled, dim=1) @ weight.T) if normalize_first else pooled @ weight.T
    return references.unit(rows)


def test_the_first_token_by_its_new_name(originals: Path, copies: Path) -> None:
    folder = copies / "sentence_transformer"
    pooling(pooling_mode="cls")(folder)
    assert (embedded(folder, originals / "clip") * library_embedded(folder, "cls")).sum(axis=1).min() >= 0.9999


def test_modules_work_in_their_order(originals: Path, copies: Path) -> None:
    folder = copies / "sentence_transformer"
    normalized_first(folder)
    expected = library_embedded(folder, "mean", normalize_first=True)
    assert (embedded(folder, originals / "clip") * expected).sum(axis=1).min() >= 0.9999


def test_the_length_of_sentence_transformers_goes_before_the_tokenizers(originals: Path, copies: Path) -> None:
    folder = copies / "sentence_transformer"
    edit(folder / "tokenizer_config.json", model_max_length=16)
    assert Ours.read(originals / "clip", folder).spec.context_length == 128


MODULE = {"idx": 0, "name": "0", "path": "", "type": "sentence_transformers.models.Transformer"}
UNREAD: dict[str, tuple[Callable[[Path], Any], str]] = {
    "several modes": (pooling(pooling_mode=["cls", "mean"]), "pools by cls, mean, expected one of mean, cls"),
    "another mode": (pooling(pooling_mode="lasttoken"), "pools by lasttoken, expected one of mean, cls"),
    "no mode at all": (pooling(pooling_mode=None), "pools by None"),
    "a default prompt": (
        lambda it: (it / "config_sentence_transformers.json").write_text(
            '{"prompts": {"query": "query: "}, "default_prompt_name": "query"}'
        ),
        r"puts the prompt 'query: ' before every text, .* set \"default_prompt_name\" to null",
    ),
    "code of its own": (
        lambda it: (it / "modules.json").write_text(json.dumps([{**MODULE, "type": "modeling_x.Mine"}])),
        "has modeling_x.Mine, which is code of its own and isn't run",
    ),
    "a path outside": (
        lambda it: (it / "modules.json").write_text(json.dumps([{**MODULE, "path": "../x"}])),
        "expected a type and a path in the folder",
    ),
    "no objects": (lambda it: (it / "modules.json").write_text('[null, 7, "x"]'), "has the entry None, expected a type"),
    "no list": (lambda it: (it / "modules.json").write_text("{}"), "isn't a JSON object of list"),
    "no pooling": (
        lambda it: (it / "modules.json").write_text(json.dumps([MODULE])),
        "has Transformer, expected Transformer, Pooling",
    ),
    "another task": (
        lambda it: edit(it / "sentence_bert_config.json", transformer_task="text-generation"),
        "has the transformer_task text-generation",
    ),
    "other arguments": (
        lambda it: edit(it / "sentence_bert_config.json", processing_kwargs={"text": {"padding": "max_length"}}),
        "has processing_kwargs, which isn't followed",
    ),
    "an activation of its own": (
        lambda it: edit(it / "2_Dense" / "config.json", activation_function="mine.Identity"),
        "has the activation mine.Identity",
    ),
    "a residual": (lambda it: edit(it / "2_Dense" / "config.json", use_residual=True), "'use_residual': True"),
    "quantized": (
        lambda it: edit(it / "config.json", quantization_config={"quant_method": "bitsandbytes"}),
        r"has a quantization_config \(bitsandbytes\), expected weights as they were trained",
    ),
    "tokens padded at the start": (
        lambda it: edit(it / "tokenizer_config.json", padding_side="left"),
        "pads texts at the start",
    ),
}


@pytest.mark.parametrize("kind", UNREAD)
def test_what_sentence_transformers_would_do_otherwise_is_refused(kind: str, originals: Path, copies: Path) -> None:
    change, message = UNREAD[kind]
    change(copies / "sentence_transformer")
    with pytest.raises(InvalidInput, match=message):
        embedded(copies / "sentence_transformer", originals / "clip")


@pytest.mark.parametrize("part", ["", "text_config", "vision_config"])
def test_quantized_weights(part: str, copies: Path) -> None:
    config = json.loads((copies / "clip" / "config.json").read_text())
    quantized = {"quantization_config": {"quant_method": "gptq", "bits": 4}}
    edit(copies / "clip" / "config.json", **({part: {**config[part], **quantized}} if part else quantized))
    with pytest.raises(InvalidInput, match=r"has a quantization_config \(gptq\), .* export the checkpoint that this one was"):
        describe(copies / "clip")
    assert cli.main(["--model", str(copies / "clip"), "--artifacts", str(copies / "artifacts")]) == cli.BAD_INPUT
