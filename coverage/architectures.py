"""Cases of open_clip's own configurations: each built with fewer and narrower layers, and compared as a folder of its own."""

from __future__ import annotations

import copy
from pathlib import Path
from typing import Any

import open_clips

import case
import open_clip_models
import text_models
from case import Row
from open_clip_models import write_open_clip
from recipe import Recipe

WIDTH, HEADS, LAYERS = 64, 2, 2
_TOKENIZERS = {
    "SigLIP2": "gemma",
    "SigLIP": "t5",
    "mt5": "t5",
    "xlm": "xlm",
    "nllb": "nllb",
    "roberta": "roberta",
    "bert": "bert",
}
"""Kind of a tokenizer by the first part of its name on the hub that is known."""


def names() -> list[str]:
    """Return the names of all configurations, sorted."""
    return sorted(open_clips.library().list_models())


def version() -> str:
    """Return open_clip's."""
    return str(open_clips.library().__version__)


def tried(name: str, folder: Path) -> Row:
    """Build one configuration below a folder that is thrown away, and compare it."""
    with open_clip_models.narrow_timm():
        model = narrowed(open_clips.library().get_model_config(name), folder)
        kind = _kind(model)
        checkpoint = folder / "checkpoint"
        write_open_clip(checkpoint, model, {}, text=_tokenizer(model["text_cfg"]))
        recipe = Recipe(id=f"open_clip:{checkpoint}", make=checkpoint.mkdir, library="")
        row = case.compared(recipe, folder)
    return Row(name, row.verdict, kind, "", row.cosine, row.why)


def narrowed(config: dict[str, Any], folder: Path) -> dict[str, Any]:
    """Return a configuration with small towers; a text model of transformers is written into the folder."""
    model = {key: value for key, value in copy.deepcopy(config).items() if key != "model_type"}
    model["embed_dim"] = WIDTH
    _narrow_image(model["vision_cfg"])
    for part in ("text_cfg", "multimodal_cfg"):
        if "hf_model_name" in model.get(part, {}):
            _write_shape(model[part], folder / "shape")
        elif part in model:
            model[part] |= {"width": WIDTH, "heads": HEADS, "layers": LAYERS}
    return model


def _narrow_image(vision: dict[str, Any]) -> None:
    if "timm_model_name" in vision:
        return
    if isinstance(vision["layers"], list):
        vision |= {"layers": [1, 1, 1, 1], "width": 16}
    else:
        vision |= {"layers": LAYERS, "width": WIDTH, "head_width": WIDTH // HEADS}


def _write_shape(text: dict[str, Any], folder: Path) -> None:
    text_models.write_text_encoder(folder, _tokenizer(text))
    text["hf_model_name"] = str(folder)


def _tokenizer(text: dict[str, Any]) -> str:
    name = text.get("hf_tokenizer_name", "")
    return next((kind for part, kind in _TOKENIZERS.items() if part in name), "") if name else ""


def _kind(model: dict[str, Any]) -> str:
    vision, text = model["vision_cfg"], model["text_cfg"]
    image = vision.get("timm_model_name") or ("ResNet" if isinstance(vision["layers"], list) else "ViT")
    return f"{image}, {'text of transformers' if 'hf_model_name' in text else 'text of open_clip'}"
