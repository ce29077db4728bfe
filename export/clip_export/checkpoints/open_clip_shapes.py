"""Architecture of a file of open_clip's weights, told from the names and shapes of its tensors."""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from safetensors import SafetensorError, safe_open

from clip_client.errors import InvalidInput
from clip_export.checkpoints.root_logger import without_warnings

Shapes = Mapping[str, tuple[int, ...]]

_QUICK = "-quickgelu"
"""End of the names of models whose activation is OpenAI's; their weights have the shapes of those without it."""

_TEXT = ("text_projection", "positional_embedding", "token_embedding", "transformer", "ln_final", "cls_emb")
_FREE = ("logit_scale", "text.transformer.embeddings.position_ids")  # open_clip takes them in several shapes, or drops them


def architecture(weights: Path, file: Path, *, openai: bool) -> str:
    """Return open_clip's name of the only model that has exactly these tensors.

    Args:
        weights: in safetensors.
        file: that the user passed.
        openai: the activation is OpenAI's; the name is that of the model without it, whose configuration it overrides.

    Raises:
        InvalidInput: if none fits, or several, which differ in what shapes don't show.
    """
    own = _plain(_shapes(weights))
    names = [name for name in fitting(own) if not openai or not name.endswith(_QUICK)]
    if len(names) == 1:
        return names[0]
    if names:
        raise InvalidInput(
            f"{file} fits {len(names)} of open_clip's models, whose tensors have the same shapes: {', '.join(names)}; pass "
            + " or ".join(f"open_clip:{name}/{file}" for name in names[:2])
        )
    raise InvalidInput(
        f"{file} has tensors such as {', '.join([*own][:2]) or 'none'}, which fit none of open_clip's models exactly: pass "
        "open_clip:MODEL/FILE, or a folder with the checkpoint's configuration"
    )


def fitting(own: Shapes) -> list[str]:
    """Return the names of the models that have exactly these tensors."""
    import open_clip

    names: list[str] = open_clip.list_models()
    return [name for name in names if _may_be(open_clip.get_model_config(name), own) and of_model(name) == own]


def _shapes(weights: Path) -> Shapes:
    try:
        with safe_open(weights, framework="pt") as file:
            return {name: tuple(file.get_slice(name).get_shape()) for name in file.keys()}  # noqa: SIM118  (not a dict)
    except SafetensorError as problem:
        raise InvalidInput(f"{weights} can't be read ({problem}): is the file whole?") from problem


def _plain(shapes: Shapes) -> Shapes:
    """Return the shapes under the names of a model whose text tower is a part of its own."""
    named = {f"text.{name}" if name.startswith(_TEXT) else name: shape for name, shape in shapes.items()}
    return {name: shape for name, shape in named.items() if name not in _FREE}


def _may_be(config: Mapping[str, Any], own: Shapes) -> bool:
    """Compare what a configuration says at once: the kind of image tower, the token table and the context.

    The shapes of a text model of Hugging Face's would have to be asked for on the hub; those aren't told.
    """
    text, vision = config["text_cfg"], config["vision_cfg"]
    if ("visual.trunk." in " ".join(own)) != bool(vision.get("timm_model_name")) or text.get("hf_model_name"):
        return False
    import open_clip

    text = {**dataclasses.asdict(open_clip.CLIPTextCfg()), **text}
    length = text["context_length"] + text["embed_cls"]
    expected = {
        "text.token_embedding.weight": (text["vocab_size"], text["width"]),
        "text.positional_embedding": (length, text["width"]),
    }
    return all(own.get(name) == shape for name, shape in expected.items())


def of_model(name: str) -> Shapes:
    """Return the shapes of a model, made without memory for its numbers."""
    import open_clip
    import torch

    with without_warnings(), torch.device("meta"):
        model = open_clip.create_model(name, load_weights=False, device="meta")
    return _plain({key: tuple(tensor.shape) for key, tensor in model.state_dict().items()})
