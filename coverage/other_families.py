"""Recipes of the families beside CLIP, of text towers for CLIP's image towers, and of what isn't a dual encoder."""

from __future__ import annotations

import json
import shutil
from collections.abc import Callable
from functools import partial
from pathlib import Path
from typing import Any

import checkpoints
import dual_encoders
import more_checkpoints
import other_checkpoints
import torch
import transformers
from safetensors.torch import load_file, save_file

import text_models
from recipe import FLAX_AND_TENSORFLOW, Layout, Recipe, changed, stirred, write

Make = Callable[[Path], object]


def write_sized(folder: Path, make: Make, image: int, patch: int = 0) -> None:
    """Write a checkpoint with the real sides of pictures and patches; its vocabulary and widths stay small."""
    make(folder)
    config = transformers.AutoConfig.from_pretrained(folder)
    vision = config.vision_config
    vision.image_size, vision.patch_size = image, patch or vision.patch_size
    model = transformers.AutoModel.from_config(config)
    more_checkpoints.save(model, folder)
    _resize(folder / "preprocessor_config.json", image)


def _resize(path: Path, side: int) -> None:
    settings = json.loads(path.read_text(encoding="utf-8"))
    for key in ("size", "crop_size"):
        if isinstance(settings.get(key), dict):
            settings[key] = dict.fromkeys(settings[key], side)
        elif key in settings:
            settings[key] = side
    write(path, settings)


def write_align(folder: Path) -> None:
    """Write an ALIGN with large weights, whose batch norms know the pictures' spread, else all embeddings are alike."""
    dual_encoders.align(folder)
    model = transformers.AlignModel.from_pretrained(folder).train()
    colours = torch.rand(16, 3, 1, 1) * 2 - 1
    with torch.no_grad():
        for parameter in model.parameters():
            if parameter.dim() > 1:
                parameter.copy_(torch.randn_like(parameter) / parameter[0].numel() ** 0.5)
        model.vision_model(colours + torch.randn(16, 3, 64, 64) / 3)
    model.save_pretrained(folder)


def write_chinese_clip(folder: Path) -> None:
    """Write the model in two formats, whose second is the training's own archive; its tokenizer is a vocabulary alone."""
    write_sized(folder, other_checkpoints.chinese_clip, 224, 16)
    torch.save({"state_dict": {"module.visual.proj": torch.zeros(2, 2)}}, folder / "clip_cn_vit-b-16.pt")


def write_m_clip(folder: Path) -> None:
    """Write a text tower that names its base model on the hub."""
    other_checkpoints.m_clip(folder)
    shutil.rmtree(folder / "small-xlm-roberta")
    changed(folder / "config.json", modelBase="xlm-roberta-large", numDims=512, transformerDimensions=64)
    tensors = load_file(folder / "model.safetensors")
    save_file(tensors, folder / "model.safetensors", {"format": "pt"})


def write_xlm_roberta_large(folder: Path) -> None:
    """Write the base model of M-CLIP's text tower, with the shape of :func:`other_checkpoints.m_clip`."""
    folder.mkdir(parents=True)
    shape = {**other_checkpoints.SMALL, "max_position_embeddings": 100, "pad_token_id": 1, "type_vocab_size": 1}
    shape["vocab_size"] = other_checkpoints.write_xlm_roberta(folder)
    transformers.XLMRobertaModel(transformers.XLMRobertaConfig(**shape)).save_pretrained(folder)


def write_own_code(folder: Path, model_type: str, module: str, text: str, **config: Any) -> None:
    """Write a repository whose classes are code in it, or in another one that ``auto_map`` names; none of it may run."""
    folder.mkdir(parents=True)
    text_models.write_tokenizer(folder, text)
    auto = {"AutoConfig": f"{module}.OwnConfig", "AutoModel": f"{module}.OwnModel"}
    write(folder / "config.json", {"architectures": ["OwnModel"], "auto_map": auto, "model_type": model_type, **config})
    write(folder / "preprocessor_config.json", {**checkpoints.PROCESSOR, "auto_map": {"AutoImageProcessor": f"{module}.Own"}})
    generator = torch.Generator().manual_seed(0)
    tensors = {f"{tower}.weight": torch.randn(8, 8, generator=generator) for tower in ("text_model", "vision_model")}
    save_file({**tensors, "logit_scale": torch.tensor(2.6)}, folder / "model.safetensors", {"format": "pt"})
    for file in ("custom_st.py", "modeling_own.py"):
        (folder / file).write_text("raise SystemExit('code of a repository was run')\n")


def write_model(folder: Path, config: Any, processor: dict[str, Any] | None, text: str) -> None:
    """Write a model of transformers, with a tokenizer where a kind is given."""
    folder.mkdir(parents=True)
    if text:
        size = text_models.write_tokenizer(folder, text)
        for part in (config, getattr(config, "text_config", None)):
            if hasattr(part, "vocab_size"):
                part.vocab_size = size
    stirred(transformers.AutoModel.from_config(config)).save_pretrained(folder)
    if processor:
        write(folder / "preprocessor_config.json", processor)


def write_long_clip_archive(folder: Path) -> None:
    """Write a state dict alone, as LongCLIP's authors published it."""
    folder.mkdir(parents=True)
    torch.save({"positional_embedding": torch.zeros(248, 8), "visual.proj": torch.zeros(8, 8)}, folder / "longclip-B.pt")


_SMALL_VISION = {**other_checkpoints.SMALL, "image_size": 224, "patch_size": 16}
_BLIP = transformers.BlipConfig(
    text_config={**other_checkpoints.SMALL, "encoder_hidden_size": 64, "projection_dim": 32},
    vision_config={**_SMALL_VISION, "image_size": 384}, projection_dim=32,
)  # fmt: skip

_PLAIN = Layout()


def _sized(id: str, make: Make, image: int, patch: int, layout: Layout = _PLAIN, **more: Any) -> Recipe:
    return Recipe(id=id, make=partial(write_sized, make=make, image=image, patch=patch), layout=layout, **more)


_SIGLIP, _SIGLIP2 = more_checkpoints.siglip, more_checkpoints.siglip2
_PICKLE = Layout("pickle")
_OWN_CODE = {"kind": "Hugging Face, code of its own", "library": ""}

RECIPES = [
    _sized("google/siglip-base-patch16-224", _SIGLIP, 224, 16),
    _sized("google/siglip-base-patch16-256-multilingual", _SIGLIP, 256, 16),
    _sized("google/siglip-large-patch16-384", _SIGLIP, 384, 16),
    _sized("google/siglip-so400m-patch14-384", _SIGLIP, 384, 14),
    _sized("google/siglip-so400m-patch14-224", _SIGLIP, 224, 14),
    _sized("google/siglip2-base-patch16-224", _SIGLIP2, 224, 16),
    _sized("google/siglip2-so400m-patch14-384", _SIGLIP2, 384, 14),
    Recipe(id="google/siglip2-base-patch16-naflex", make=partial(more_checkpoints.naflex, most=256), library=""),
    _sized("facebook/metaclip-2-worldwide-s16", more_checkpoints.metaclip_2, 224, 16),
    _sized("BAAI/AltCLIP", more_checkpoints.altclip, 224, 14, _PICKLE),
    Recipe(id="OFA-Sys/chinese-clip-vit-base-patch16", make=write_chinese_clip, layout=_PICKLE),
    Recipe(id="M-CLIP/XLM-Roberta-Large-Vit-B-32", make=write_m_clip, layout=_PICKLE, kind="M-CLIP", library="",
           needs=("FacebookAI/xlm-roberta-large", "openai/clip-vit-base-patch32")),
    _sized("apple/aimv2-large-patch14-224-lit", more_checkpoints.aimv2, 224, 14),
    Recipe(id="nvidia/groupvit-gcc-yfcc", make=more_checkpoints.groupvit, layout=Layout("pickle", beside=("tf_model.h5",))),
    Recipe(id="kakaobrain/align-base", make=write_align, layout=_PICKLE),
    Recipe(id="CIDAS/clipseg-rd64-refined", make=dual_encoders.clipseg, layout=_PICKLE),
    Recipe(id="google/owlvit-base-patch32", make=dual_encoders.owlvit, layout=_PICKLE),
    Recipe(id="facebook/flava-full", make=dual_encoders.flava, layout=_PICKLE, library=""),
    _sized("clip-italian/clip-italian", dual_encoders.clip_italian, 224, 32, Layout("pickle", beside=("flax_model.msgpack",))),
    _sized("koclip/koclip-base-pt", dual_encoders.koclip, 224, 32, _PICKLE),
    Recipe(id="jinaai/jina-clip-v1", layout=Layout("both", beside=("onnx/model.onnx",)), **_OWN_CODE,
           make=partial(write_own_code, model_type="jina_clip", module="jinaai/jina-clip-implementation--modeling_clip",
                        text="bert")),
    Recipe(id="jinaai/jina-clip-v2", layout=Layout("both", beside=("onnx/model.onnx",)), **_OWN_CODE,
           make=partial(write_own_code, model_type="jina_clip", module="jinaai/jina-clip-implementation--modeling_clip",
                        text="xlm")),
    Recipe(id="nomic-ai/nomic-embed-vision-v1.5", layout=Layout(beside=("onnx/model.onnx",)), **_OWN_CODE,
           make=partial(write_own_code, model_type="nomic_bert", text="bert",
                        module="nomic-ai/nomic-bert-2048--modeling_hf_nomic_bert")),
    Recipe(id="BeichenZhang/LongCLIP-B", make=write_long_clip_archive, kind="a state dict alone", library=""),
    Recipe(id="Salesforce/blip-itm-base-coco", layout=Layout("both"), library="",
           make=partial(write_model, config=_BLIP, processor={**checkpoints.PROCESSOR, "image_processor_type":
                                                              "BlipImageProcessor"}, text="bert")),
    Recipe(id="google/vit-base-patch16-224", layout=Layout("both", beside=FLAX_AND_TENSORFLOW), library="",
           kind="Hugging Face, an image tower alone",
           make=partial(write_model, config=transformers.ViTConfig(**_SMALL_VISION), text="", processor={
               **checkpoints.PROCESSOR, "image_processor_type": "ViTImageProcessor", "size": {"height": 224, "width": 224}})),
]  # fmt: skip

NAMED = [Recipe(id="FacebookAI/xlm-roberta-large", make=write_xlm_roberta_large)]
"""Repositories that others name, and that are no case of their own."""
