"""Layouts of checkpoints told from the names of their files, as much-used repositories have them."""

from __future__ import annotations

from typing import Any

import pytest

from clip_client.errors import InvalidInput
from clip_export.checkpoints import layouts
from clip_export.checkpoints.layouts import Layout, Tree

CLIP = {"model_type": "clip", "text_config": {}, "vision_config": {}}
TOKENIZER = ["merges.txt", "preprocessor_config.json", "special_tokens_map.json", "tokenizer_config.json", "vocab.json"]
OTHERS = [".gitattributes", "README.md", "flax_model.msgpack", "tf_model.h5"]
OWN_CODE = {"model_type": "marqo", "auto_map": {"AutoModel": "marqo.MarqoModel"}}
MODULES = [
    {"idx": 0, "path": "", "type": "sentence_transformers.models.Transformer"},
    {"idx": 1, "path": "1_Pooling", "type": "sentence_transformers.models.Pooling"},
    {"idx": 2, "path": "2_Dense", "type": "sentence_transformers.models.Dense"},
]
GMP = "zer0int/CLIP-GmP-ViT-L-14"
GMP_FILES = [
    "ViT-L-14-BEST-smooth-GmP-HF-format.safetensors",
    "ViT-L-14-BEST-smooth-GmP-TE-only-HF-format.safetensors",
    "ViT-L-14-BEST-smooth-GmP-ft.safetensors",
    "ViT-L-14-TEXT-detail-improved-hiT-GmP-TE-only-HF.safetensors",
    "ViT-L-14-TEXT-detail-improved-hiT-GmP-pickle-OpenAI.pt",
]


def of(*names: str, chosen: str = "", label: str = "org/name", **contents: Any) -> Layout:
    """Layout of names; contents by name, with __ for / and _ for . before json."""
    files = {name.replace("__", "/").replace("_json", ".json"): content for name, content in contents.items()}
    return layouts.of(Tree(label, f"hf://{label}", frozenset(names) | files.keys(), files.__getitem__), chosen)


@pytest.mark.parametrize(
    ("weights", "expected"),
    [
        (["model.safetensors", "pytorch_model.bin", *OTHERS], {"model.safetensors": "model.safetensors"}),
        (["pytorch_model.bin", *OTHERS], {"pytorch_model.bin": "pytorch_model.bin"}),
        (["model.safetensors", *GMP_FILES], {"model.safetensors": "model.safetensors"}),
        (["model.fp16.safetensors"], {"model.safetensors": "model.fp16.safetensors"}),
        (["model.fp16.safetensors", "model.safetensors"], {"model.safetensors": "model.safetensors"}),
        (["clip.safetensors", "clip.fp16.safetensors"], {"model.safetensors": "clip.safetensors"}),
        (["ViT-L-14-ft.safetensors", "ViT-L-14-ft-TE-only.safetensors"], {"model.safetensors": "ViT-L-14-ft.safetensors"}),
        (["model.safetensors", "adapter_model.safetensors"], {"model.safetensors": "model.safetensors"}),
        (["pytorch_model.bin", "training_args.bin", "optimizer.pt"], {"pytorch_model.bin": "pytorch_model.bin"}),
        (GMP_FILES, {"model.safetensors": "ViT-L-14-BEST-smooth-GmP-HF-format.safetensors"}),
    ],
)
def test_transformers_weights(weights: list[str], expected: dict[str, str]) -> None:
    layout = of(*weights, *TOKENIZER, config_json=CLIP)
    assert layout.kind == "hugging_face"
    assert {name: layout.files[name] for name in layout.weights} == expected
    assert sorted(layout.files.keys() - {*layout.weights}) == sorted(["config.json", *TOKENIZER])


def test_shards_are_those_that_the_index_names() -> None:
    index = {"weight_map": {"a": "model-00001-of-00002.safetensors", "b": "model-00002-of-00002.safetensors"}}
    shards = [*index["weight_map"].values()]
    others = ["model-00003-of-00003.safetensors", "old.safetensors"]
    layout = of(*shards, *others, config_json=CLIP, **{"model.safetensors.index_json": index})
    assert sorted(layout.weights) == sorted([*shards, "model.safetensors.index.json"])
    assert layout.pickled == ()
    with pytest.raises(InvalidInput, match=r"names 2 files, of which model-00002-of-00002\.safetensors isn't there"):
        of(shards[0], config_json=CLIP, **{"model.safetensors.index_json": index})


@pytest.mark.parametrize("index", [[], {}, {"weight_map": [1]}, {"weight_map": {"a": 1}}, {"weight_map": {"a": "../../x"}}])
def test_an_index_that_is_none(index: Any) -> None:
    with pytest.raises(InvalidInput, match=r"model\.safetensors\.index\.json"):
        of(config_json=CLIP, **{"model.safetensors.index_json": index})


def test_pickled_shards() -> None:
    index = {"weight_map": {"a": "pytorch_model-00001-of-00001.bin"}}
    layout = of("pytorch_model-00001-of-00001.bin", config_json=CLIP, **{"pytorch_model.bin.index_json": index})
    assert layout.pickled == ("pytorch_model-00001-of-00001.bin",)


@pytest.mark.parametrize(
    ("config", "weights", "kind", "name"),
    [
        (CLIP, ["model.safetensors", "open_clip_model.safetensors"], "hugging_face", "model.safetensors"),
        (CLIP, ["pytorch_model.bin", "open_clip_model.safetensors"], "open_clip", "open_clip_model.safetensors"),
        (CLIP, ["model.safetensors", "open_clip_pytorch_model.bin"], "hugging_face", "model.safetensors"),
        (CLIP, ["pytorch_model.bin", "open_clip_pytorch_model.bin"], "hugging_face", "pytorch_model.bin"),
        (CLIP, ["open_clip_pytorch_model.bin"], "open_clip", "open_clip_pytorch_model.bin"),
        (OWN_CODE, ["model.safetensors", "open_clip_model.safetensors"], "open_clip", "open_clip_model.safetensors"),
        (OWN_CODE, ["model.safetensors", "open_clip_pytorch_model.bin"], "open_clip", "open_clip_pytorch_model.bin"),
        (OWN_CODE, ["model.safetensors", "marqo.py"], "open_clip", "model.safetensors"),
        ({}, ["open_clip_model.safetensors", "model.safetensors"], "open_clip", "open_clip_model.safetensors"),
        ({"architectures": ["X"]}, ["model.safetensors"], "open_clip", "model.safetensors"),
    ],
)
def test_both_formats_in_one_repository(config: dict[str, Any], weights: list[str], kind: str, name: str) -> None:
    layout = of(*weights, *TOKENIZER, config_json=config, open_clip_config_json={})
    assert (layout.kind, layout.weights) == (kind, (name,))
    assert "marqo.py" not in layout.files


def test_sentence_transformers_around_a_clip() -> None:
    inside = [f"0_CLIPModel/{name}" for name in ("model.safetensors", "pytorch_model.bin", *TOKENIZER)]
    modules = [{"idx": 0, "path": "0_CLIPModel", "type": "sentence_transformers.models.CLIPModel"}]
    layout = of("README.md", *inside, modules_json=modules, **{"0_CLIPModel__config_json": CLIP})
    assert (layout.kind, layout.folder, layout.in_place) == ("hugging_face", "0_CLIPModel", True)
    assert layout.files["model.safetensors"] == "0_CLIPModel/model.safetensors"


def test_sentence_transformers_text_model() -> None:
    dense = ["2_Dense/pytorch_model.bin", "2_Dense/config.json"]
    names = ["model.safetensors", "onnx/model.onnx", "openvino/openvino_model.bin", "1_Pooling/config.json", *dense, *TOKENIZER]
    layout = of(*names, modules_json=MODULES, config_json={"model_type": "distilbert"})
    assert (layout.kind, layout.pickled, layout.in_place) == ("sentence_transformers", ("2_Dense/pytorch_model.bin",), True)
    assert {"1_Pooling/config.json", "2_Dense/config.json", "model.safetensors", "modules.json"} <= layout.files.keys()
    assert not [name for name in layout.files if "onnx" in name or "openvino" in name]


@pytest.mark.parametrize("modules", [{}, [], ["x"], [{"path": 1}], "x"])
def test_modules_that_are_none(modules: Any) -> None:
    with pytest.raises(
        InvalidInput, match=r"modules\.json (isn't a JSON object of list|has the entry .*, expected a type and a path)"
    ):
        of("model.safetensors", modules_json=modules, config_json=CLIP)


def test_a_checkpoint_in_a_sub_folder() -> None:
    layout = of("clip/model.safetensors", "onnx/model.onnx", "README.md", clip__config_json=CLIP)
    assert (layout.folder, layout.weights) == ("clip", ("model.safetensors",))


def test_weights_in_a_sub_folder_of_their_configuration() -> None:
    layout = of("safetensors/model.safetensors", "onnx/model.onnx", *TOKENIZER, config_json=CLIP)
    assert layout.files["model.safetensors"] == "safetensors/model.safetensors"
    assert not layout.in_place


@pytest.mark.parametrize(
    ("chosen", "kind", "files"),
    [
        ("ViT-L-14-BEST-smooth-GmP-ft.safetensors", "hugging_face", {"model.safetensors": GMP_FILES[2]}),
        ("b", "hugging_face", {"model.safetensors": "b/model.safetensors"}),
    ],
)
def test_a_chosen_part(chosen: str, kind: str, files: dict[str, str]) -> None:
    layout = of(*GMP_FILES, "b/model.safetensors", chosen=chosen, config_json=CLIP, b__config_json=CLIP)
    assert (layout.kind, {name: layout.files[name] for name in layout.weights}) == (kind, files)


@pytest.mark.parametrize(
    ("names", "contents", "message"),
    [
        (
            ["a.safetensors", "b.safetensors"],
            {"config_json": CLIP},
            r"has 2 files that may be the model: a\.safetensors, b\.safetensors: choose one with --model hf://org/name/a\.safet",
        ),
        (["a.pt", "b.pt"], {}, r"has 2 files that may be the model: a\.pt, b\.pt"),
        (
            ["a/model.safetensors", "b/model.safetensors"],
            {"a__config_json": CLIP, "b__config_json": CLIP},
            "holds 2 checkpoints, a, b: choose one with --model hf://org/name/a",
        ),
        (
            ["onnx/model.onnx", "onnx/text_model_quantized.onnx", *TOKENIZER],
            {"config_json": {**CLIP, "_name_or_path": "openai/clip-vit-base-patch32"}},
            r"weights in ONNX format only: it holds onnx/model\.onnx, onnx/text_model_quantized\.onnx; expected PyTorch's: "
            "pass the checkpoint that it was made from, --model openai/clip-vit-base-patch32",
        ),
        (["clip-q4.gguf", "README.md"], {}, r"weights in GGUF .* format only: it holds clip-q4\.gguf"),
        (["flax_model.msgpack", "tf_model.h5"], {"config_json": CLIP}, "weights in Flax and TensorFlow format only"),
        (["README.md", "config.json.bak"], {}, r"no config\.json and no weights, it isn't a checkpoint: it holds README\.md"),
        ([], {}, "it isn't a checkpoint: it is empty"),
        (
            [*TOKENIZER],
            {"config_json": CLIP},
            r"has no weights: expected model\.safetensors, shards with their index, or a pytorch",
        ),
        (["text_encoder/model.safetensors", "unet/x.safetensors"], {"model_index_json": {}}, "is a pipeline of diffusers"),
        (["README.md"], {"adapter_config_json": {}}, r"has an adapter_config\.json without adapter_model\.safetensors"),
        (
            ["model-00001-of-00002.safetensors"],
            {"config_json": CLIP},
            "without an index: expected model.safetensors.index.json",
        ),
        (
            ["checkpoint-500/model.safetensors", "checkpoint-1000/model.safetensors"],
            {"checkpoint-500__config_json": CLIP, "checkpoint-1000__config_json": CLIP},
            "holds 2 checkpoints, checkpoint-1000, checkpoint-500",
        ),
    ],
)
def test_trees_without_a_checkpoint(names: list[str], contents: dict[str, Any], message: str) -> None:
    with pytest.raises(InvalidInput, match=message):
        of(*names, **contents)


def test_an_adapter_and_weights_alone() -> None:
    assert of("adapter_model.safetensors", adapter_config_json={}).kind == "adapter"
    layout = of("ViT-B-32.pt", "README.md")
    assert (layout.kind, layout.files) == ("weights", {"ViT-B-32.pt": "ViT-B-32.pt"})


def test_a_choice_that_is_not_there() -> None:
    with pytest.raises(InvalidInput, match=r"org/name has no b\.safetensors: it holds a\.safetensors"):
        of("a.safetensors", chosen="b.safetensors")
