"""Architecture of a file of open_clip's weights, told from the names and shapes of its tensors."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

from safetensors import SafetensorError, safe_open

from clip_client.errors import InvalidInput

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
    import open_clip

    own = _plain(_shapes(weights))
    names: list[str] = open_clip.list_models()
    configs = {name: open_clip.get_model_config(name) for name in names}
    fitting = [name for name, config in configs.items() if _may_be(config, own) and _of_model(name) == own]
    if openai:
        fitting = [name for name in fitting if not name.endswith(_QUICK)]
    if len(fitting) == 1:
        return fitting[0]
    if fitting:
        raise InvalidInput(
            f"{file} fits {len(fitting)} of open_clip's models, whose tensors have the same shapes: {', '.join(fitting)}; pass "
            + " or ".join(f"open_clip:{name}/{file}" for name in fitting[:2])
        )
    raise InvalidInput(
        f"{file} has tensors such as {', '.join([*own][:2]) or 'none'}, which fit none of open_clip's models exactly: pass "
        "open_clip:MODEL/FILE, or a folder with the checkpoint's configuration"
    )


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
    """Compare what a configuration says at once: the kind of image tower, the token table and the context."""
    text, vision = config["text_cfg"], config["vision_cfg"]
    if ("visual.trunk." in " ".join(own)) != bool(vision.get("timm_model_name")):
        return False
    if text.get("hf_model_name"):
        return "text.token_embedding.weight" not in own
    length = text.get("context_length", 77) + bool(text.get("embed_cls"))
    expected = {
        "text.token_embedding.weight": (text.get("vocab_size", 49408), text.get("width", 512)),
        "text.positional_embedding": (length, text.get("width", 512)),
    }
    return all(own.get(name) == shape for name, shape in expected.items())


def _of_model(name: str) -> Shapes:
    """Return the shapes of a model of open_clip's, made without memory for its numbers; none if its text model is unknown."""
    import open_clip
    import torch

    try:
        with torch.device("meta"):
            model = open_clip.create_model(name, load_weights=False, pretrained_text=False, device="meta")
    except OSError:  # transformers' for a configuration that isn't on this disk
        return {}
    return _plain({key: tuple(tensor.shape) for key, tensor in model.state_dict().items()})
