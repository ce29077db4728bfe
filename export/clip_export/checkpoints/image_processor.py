"""Image processors of transformers -> the image fields of a ModelSpec."""

from __future__ import annotations

import math
from collections.abc import Callable
from pathlib import Path
from typing import Any, NamedTuple

from PIL import Image

from clip_client.errors import InvalidInput
from clip_client.spec import ResizeMode, patches_side
from clip_export.library_errors import reading

_PIXELS = (
    *("__call__", "preprocess", "fetch_images", "process_image", "convert_to_rgb", "resize", "center_crop", "rescale"),
    *("normalize", "pad", "_preprocess", "_preprocess_image_like_inputs", "_prepare_image_like_inputs"),
    *("_prepare_images_structure", "_standardize_kwargs", "_validate_preprocess_kwargs"),
)
"""Methods of transformers' PilBackend that shape pixels."""


class _Resized(NamedTuple):
    """A resize: its mode and size in pixels, and the side of the crop that belongs to it (0: none)."""

    mode: ResizeMode
    size: int
    crop: int = 0


def loaded(folder: Path, label: str) -> Any:
    """Load the image processor that transformers takes for a folder, in its Pillow backend, without code of the folder's.

    Raises:
        InvalidInput: if it can't be loaded.
    """
    from transformers import AutoImageProcessor

    with reading(label, "the image processor"):
        return AutoImageProcessor.from_pretrained(  # type: ignore[no-untyped-call]
            folder, backend="pil", local_files_only=True, trust_remote_code=False
        )


def image_fields(processor: Any, label: str, *, patches: bool = False) -> dict[str, Any]:
    """Translate a loaded image processor, whose settings and defaults are those of its own class.

    Args:
        processor: of transformers.
        label: the checkpoint's name, for messages.
        patches: expect one that cuts pictures of any shape into patches; else one that gives squares.

    Returns:
        image_size, resize_mode, resize_size, interpolation, mean, std, and transparency and patch_size where they aren't the
        usual ones.

    Raises:
        InvalidInput: for a class or a setting that the preprocessing here can't follow exactly.
    """
    with reading(label, "the image processor's settings"):
        _refuse_unknown(processor, label, patches)
        sizes = _patches(processor, label) if patches else _sizes(processor, label)
        mean, std = _normalized(processor, label)
        return {
            **sizes,
            "interpolation": _interpolation(processor, label),
            "mean": mean,
            "std": std,
            **({} if processor.do_convert_rgb else {"transparency": "ignored"}),
        }


def _kind(processor: Any) -> str:
    return type(processor).__name__.removesuffix("Pil")


def _refuse_unknown(processor: Any, label: str, patches: bool) -> None:
    """Raise InvalidInput for a class that prepares pixels in an unknown way."""
    from transformers import image_processing_backends

    kind = _kind(processor)
    backend: Any = getattr(image_processing_backends, "TorchvisionBackend" if kind in _TORCHVISION_ALONE else "PilBackend")
    changed = {name for name in _PIXELS if getattr(type(processor), name, None) is not getattr(backend, name, None)}
    own = {name for name in _PIXELS if name in vars(processor)}  # a setting of that name
    foreign = not issubclass(type(processor), backend) or changed - _OWN.get(kind, set()) or own
    if foreign or patches != (kind == _NAFLEX):
        expected = f"a {_NAFLEX}" if patches else "a CLIPImageProcessor or one like it"
        raise _refused(label, f"is a {kind}, which prepares pictures in a way of its own", expected)
    if processor.do_pad and processor.pad_size:
        raise _refused(label, f"has do_pad on, to {dict(processor.pad_size)}", "no padding")


def _sizes(processor: Any, label: str) -> dict[str, Any]:
    resized = _resized(processor, label)
    return {"image_size": _cropped(processor, resized, label), "resize_mode": resized.mode, "resize_size": resized.size}


def _patches(processor: Any, label: str) -> dict[str, Any]:
    """Return the sizes of a processor that keeps the shape of pictures."""
    if not processor.do_resize:
        raise _refused(label, "has do_resize off", "a resize")
    patch, most = (_whole(getattr(processor, name), label) for name in ("patch_size", "max_num_patches"))
    return {"image_size": patches_side(patch, most), "resize_mode": "patches", "resize_size": most, "patch_size": patch}


def _resized(processor: Any, label: str) -> _Resized:
    if not processor.do_resize:
        raise _refused(label, "has do_resize off", "a resize")
    size = processor.size
    if size.longest_edge or size.max_height or size.max_width:
        raise _refused(label, f"has the size {dict(size)}", "a shortest edge, or a height and a width")
    plain = (
        _Resized("shortest_edge", _whole(size.shortest_edge, label))
        if size.shortest_edge
        else _Resized("squash", _square(size, "size", label))
    )
    own = _RESIZES.get(_kind(processor))
    return own(processor, plain) if own else plain


def _convnext(processor: Any, plain: _Resized) -> _Resized:
    """Resize to more and crop below 384 pixels, else squash."""
    if plain.mode == "squash":
        raise ValueError("size needs a shortest_edge")
    if plain.size >= 384:
        return _Resized("squash", plain.size, plain.size)
    return _Resized("shortest_edge", int(plain.size / processor.crop_pct), plain.size)


def _levit(processor: Any, plain: _Resized) -> _Resized:
    return _Resized("shortest_edge", int(8 / 7 * plain.size)) if plain.mode == "shortest_edge" else plain


def _poolformer(processor: Any, plain: _Resized) -> _Resized:
    return _Resized("shortest_edge", int(plain.size / processor.crop_pct))


_RESIZES: dict[str, Callable[[Any, _Resized], _Resized]] = {
    "ConvNextImageProcessor": _convnext,
    "LevitImageProcessor": _levit,
    "PoolFormerImageProcessor": _poolformer,
}
"""Classes with a resize of their own."""

_NAFLEX = "Siglip2ImageProcessor"
_SEGMENTING = {"preprocess", "_preprocess", "_preprocess_image_like_inputs"}  # for maps beside the pictures

_TORCHVISION_ALONE = ("Tipsv2ImageProcessor",)
"""Classes without a backend for Pillow. torchvision resizes uint8 as Pillow does, but for rounding."""

_OWN: dict[str, set[str]] = {
    "ConvNextImageProcessor": {"resize", "_preprocess"},
    "LevitImageProcessor": {"resize"},
    "PoolFormerImageProcessor": {"resize", "_preprocess"},
    "EfficientNetImageProcessor": {"rescale", "_preprocess"},
    "BeitImageProcessor": _SEGMENTING,
    "MobileNetV2ImageProcessor": _SEGMENTING,
    "SegformerImageProcessor": _SEGMENTING,
    _NAFLEX: {"preprocess", "_preprocess", "_validate_preprocess_kwargs"},
    "FlavaImageProcessor": {"preprocess", "_preprocess", "_standardize_kwargs"},  # for the codebook's own pixels
}
"""Methods of a class that differ from PilBackend's and are followed here."""


def _cropped(processor: Any, resized: _Resized, label: str) -> int:
    """Return the side of the prepared picture, in pixels."""
    crop = _square(processor.crop_size, "crop_size", label) if processor.do_center_crop else 0
    if resized.crop:
        if crop not in (0, resized.crop):
            raise _refused(label, f"crops to {resized.crop} pixels and then to {crop}", "one crop")
        return resized.crop
    if not crop and resized.mode != "squash":
        raise _refused(label, "resizes the shortest edge without a crop, which gives no fixed size", "do_center_crop")
    return crop or resized.size


def _interpolation(processor: Any, label: str) -> str:
    if not isinstance(processor.resample, int):
        raise _refused(label, f"has the resample {processor.resample!r}", "the number of one of Pillow's filters")
    return Image.Resampling(processor.resample).name.lower()


def _normalized(processor: Any, label: str) -> tuple[tuple[float, ...], tuple[float, ...]]:
    """Return mean and deviation of pixels in 0..1, whatever range they are rescaled to in between."""
    factor = 255 * processor.rescale_factor if processor.do_rescale else 255
    mean, std = _channels(processor.image_mean if processor.do_normalize else 0.0), _channels(1.0)
    if processor.do_normalize:
        std = _channels(processor.image_std)
    if _kind(processor) == "EfficientNetImageProcessor":
        if processor.do_rescale and processor.rescale_offset:
            mean = tuple(channel + 1 for channel in mean)
        if processor.include_top:
            std = tuple(a * b for a, b in zip(std, _channels(processor.image_std), strict=True))
    if abs(factor - 1) > 1e-6:
        mean, std = tuple(channel / factor for channel in mean), tuple(channel / factor for channel in std)
    if not all(map(math.isfinite, (*mean, *std))):
        raise _refused(label, f"has the mean {mean} and the deviation {std}", "finite numbers")
    return mean, std


def _channels(value: Any) -> tuple[float, ...]:
    """Return three numbers: a list's, or one number three times."""
    channels = tuple(value) if isinstance(value, list | tuple) else (value,) * 3
    if len(channels) != 3 or not all(isinstance(channel, int | float) for channel in channels):
        raise ValueError(f"{value!r} aren't three numbers")
    return channels


def _square(size: Any, name: str, label: str) -> int:
    """Return the side of a square size."""
    if not size or not size.height or size.height != size.width:
        raise _refused(label, f"has the {name} {dict(size) if size else None}", "a square")
    return _whole(size.height, label)


def _whole(edge: Any, label: str) -> int:
    if not isinstance(edge, int) or edge < 1:
        raise _refused(label, f"has a size of {edge!r}", "a whole number")
    return edge


def _refused(label: str, got: str, expected: str) -> InvalidInput:
    return InvalidInput(f"{label}: the image processor {got}, which can't be followed: expected {expected}")
