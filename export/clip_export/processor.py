"""Hugging Face image processor settings -> the image fields of a ModelSpec."""

from __future__ import annotations

from typing import Any

from PIL import Image

from clip_client.errors import InvalidInput


def image_fields(config: dict[str, Any], label: str) -> dict[str, Any]:
    """Translate a ``preprocessor_config.json``, its defaults filled in.

    Returns:
        image_size, resize_mode, resize_size, interpolation, mean, std.

    Raises:
        InvalidInput: a setting that the preprocessing here can't follow exactly.
    """
    try:
        return _image_fields(config, label)
    except (TypeError, KeyError, AttributeError, ValueError) as problem:
        if isinstance(problem, InvalidInput):
            raise
        raise InvalidInput(f"{label}: the image processor's settings can't be followed: {problem!r}") from problem


def _image_fields(config: dict[str, Any], label: str) -> dict[str, Any]:
    _check_steps(config, label)
    size = _square(config["size"], label)
    squash = "shortest_edge" not in _as_size(config["size"])
    crop = size if squash or not config.get("do_center_crop", True) else _square(config["crop_size"], label)
    if not squash and not config.get("do_center_crop", True):
        raise InvalidInput(f"{label}: a resize of the shortest edge without a crop gives no fixed size")
    normalize = config.get("do_normalize", True)
    return {
        "image_size": crop,
        "resize_mode": "squash" if squash else "shortest_edge",
        "resize_size": size,
        "interpolation": Image.Resampling(config["resample"]).name.lower(),
        "mean": tuple(config["image_mean"]) if normalize else (0.0, 0.0, 0.0),
        "std": tuple(config["image_std"]) if normalize else (1.0, 1.0, 1.0),
    }


def _check_steps(config: dict[str, Any], label: str) -> None:
    for step in ("do_resize", "do_rescale"):
        if not config.get(step, True):
            raise InvalidInput(f"{label}: the image processor has {step} off, which isn't supported")
    if abs(config.get("rescale_factor", 1 / 255) * 255 - 1) > 1e-6:
        raise InvalidInput(f"{label}: the image processor's rescale_factor is {config['rescale_factor']}, expected 1/255")


def _as_size(size: Any) -> dict[str, int]:
    return size if isinstance(size, dict) else {"shortest_edge": size}


def _square(size: Any, label: str) -> int:
    """One side from 5, {"shortest_edge": 5} or {"height": 5, "width": 5}."""
    if isinstance(size, int):
        return size
    if "shortest_edge" in size:
        return int(size["shortest_edge"])
    if size.get("height") != size.get("width") or "height" not in size:
        raise InvalidInput(f"{label}: the image processor's size is {size}, expected a square")
    return int(size["height"])
