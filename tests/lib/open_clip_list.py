"""The stored list of open_clip's names, made from the installed library.

python tests/lib/open_clip_list.py    # writes the list again; a model that needs the hub keeps its number of parameters
"""

from __future__ import annotations

import json
from typing import Any

import open_clips
import torch

from clip_export.checkpoints import open_clip_names

STORED = open_clip_names.FILE


def installed() -> dict[str, Any]:
    """Models, activations, tags and their repositories."""
    library = open_clips.library()
    return {
        name: {
            "quick_gelu": bool(library.get_model_config(name).get("quick_gelu")),
            "tags": {
                tag: _weights(library.get_pretrained_cfg(name, tag)) for tag in library.list_pretrained_tags_by_model(name)
            },
        }
        for name in library.list_models()
    }


def parameters(name: str) -> float:
    """In millions, of a model without weights; its text tower, where it is of the hub, must be in the cache."""
    with torch.device("meta"):
        model = open_clips.library().create_model(
            name, device="meta", load_weights=False, pretrained_hf=False, pretrained_image=False, pretrained_text=False
        )
    return round(sum(parameter.numel() for parameter in model.parameters()) / 1e6, 2)


def _weights(settings: dict[str, Any]) -> dict[str, Any]:
    return {"hub": "/".join(settings["hf_hub"].split("/")[:2]), "quick_gelu": bool(settings.get("quick_gelu"))}


def _counted(name: str, before: float) -> float:
    try:
        return parameters(name)
    except OSError:  # the hub can't be reached
        return before


def _written(content: dict[str, Any]) -> str:
    """JSON with a line for each tag."""
    models = []
    for name, model in content.items():
        tags = ",\n".join(f"   {json.dumps(tag)}: {json.dumps(weights)}" for tag, weights in model["tags"].items())
        head = f'"quick_gelu": {json.dumps(model["quick_gelu"])}, "parameters": {model["parameters"]}'
        models.append(f' {json.dumps(name)}: {{{head}, "tags": {{' + (f"\n{tags}\n " if tags else "") + "}}")
    return "{\n" + ",\n".join(models) + "\n}\n"


if __name__ == "__main__":
    stored = json.loads(STORED.read_text(encoding="utf-8"))
    content = {
        name: {**model, "parameters": _counted(name, stored.get(name, {}).get("parameters", 0))}
        for name, model in installed().items()
    }
    STORED.write_text(_written(content), encoding="utf-8")
