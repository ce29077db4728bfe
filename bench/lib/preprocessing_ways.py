"""Ways from an encoded file to the input of an image tower, each on one thread."""

import io
from collections.abc import Callable
from importlib.util import find_spec
from typing import Any

import numpy as np
import numpy.typing as npt
import torch
from PIL import Image
from torch import Tensor, nn
from transformers import CLIPImageProcessor
from transformers.models.clip.image_processing_pil_clip import CLIPImageProcessorPil

from clip_client import ModelSpec
from clip_client.preprocess import preprocess, resized_size

Way = Callable[[bytes], npt.NDArray[Any]]
"""An encoded file -> uint8 [S, S, 3], or as the hub's processors give it: [3, S, S], float32 where it is normalised."""

ORIGINAL = "original: Hugging Face, Pillow, normalised"
NEEDS = {"Hugging Face, torchvision, normalised": "torchvision", "Pillow, OpenCV": "cv2", "OpenCV alone (cv2 read)": "cv2"}
"""Packages that some ways need and that may be missing."""


def ways(spec: ModelSpec, model: str) -> dict[str, Way]:
    """Return all ways that are installed; the original first, ours last."""
    makers: dict[str, Callable[[], Way]] = {
        ORIGINAL: lambda: hugging_face(CLIPImageProcessorPil.from_pretrained(model), rgb),
        "the same, not normalised": lambda: hugging_face(
            CLIPImageProcessorPil.from_pretrained(model, do_rescale=False, do_normalize=False), rgb
        ),
        "the original, given transparency": lambda: hugging_face(CLIPImageProcessorPil.from_pretrained(model), opened),
        "Hugging Face, torchvision, normalised": lambda: hugging_face(CLIPImageProcessor.from_pretrained(model), rgb),
        "Pillow, OpenCV": lambda: opencv(rgb_array, spec),
        "OpenCV alone (cv2 read)": lambda: opencv(cv2_read, spec),
        "torch script": lambda: torch_script(spec),
        "Pillow, RGB first": lambda: lambda encoded: cropped(resized(rgb(encoded), spec), spec),
        "Pillow, RGB last": lambda: lambda encoded: rgb_last(opened(encoded), spec),
        "Pillow, grey": lambda: lambda encoded: grey(opened(encoded), spec),
        "ours, exact": lambda: lambda encoded: preprocess(encoded, spec),
        "ours, fast": lambda: lambda encoded: preprocess(encoded, spec, preprocessing="fast"),
    }
    return {name: make() for name, make in makers.items() if name not in missing()}


def missing() -> dict[str, str]:
    """Return the ways that aren't installed, with the package that each needs."""
    return {name: package for name, package in NEEDS.items() if not find_spec(package)}


def as_pixels(answer: npt.NDArray[Any], spec: ModelSpec) -> npt.NDArray[np.uint8]:
    """Convert the output of any way to uint8 [S, S, 3]; normalised floats are scaled back."""
    last = answer if answer.shape[2] == 3 else np.moveaxis(answer, 0, -1)
    levels = 255 * (last * np.array(spec.std) + np.array(spec.mean)) if np.issubdtype(last.dtype, np.floating) else last
    return np.asarray(np.rint(levels).clip(0, 255), np.uint8)


def hugging_face(processor: Any, read: Callable[[bytes], Image.Image]) -> Way:
    """Return a processor of transformers as a way."""
    return lambda encoded: np.asarray(processor(images=read(encoded), return_tensors="np")["pixel_values"][0])


def opencv(read: Callable[[bytes], npt.NDArray[np.uint8]], spec: ModelSpec) -> Way:
    """Return a way that resizes with OpenCV's cubic kernel: 4 × 4 pixels however far it shrinks, no antialias."""
    import cv2

    cv2.setNumThreads(1)

    def way(encoded: bytes) -> npt.NDArray[np.uint8]:
        pixels = read(encoded)
        size = resized_size((pixels.shape[1], pixels.shape[0]), spec)
        resized = np.asarray(cv2.resize(pixels, size, interpolation=cv2.INTER_CUBIC), np.uint8)
        return cropped(resized, spec)

    return way


def cv2_read(encoded: bytes) -> npt.NDArray[np.uint8]:
    """Decode with OpenCV: uint8 [H, W, 3], RGB."""
    import cv2

    return np.asarray(cv2.imdecode(np.frombuffer(encoded, np.uint8), cv2.IMREAD_COLOR_RGB))


def rgb_array(encoded: bytes) -> npt.NDArray[np.uint8]:
    """Decode with Pillow: uint8 [H, W, 3], RGB."""
    return np.asarray(rgb(encoded))


class Antialiased(nn.Module):
    """torch's antialiased bicubic resize of uint8 [H, W, 3] and a centred crop."""

    def __init__(self, edge: int) -> None:
        super().__init__()
        self.edge = edge

    def forward(self, pixels: Tensor, height: int, width: int) -> Tensor:
        """Resize to (height, width), crop to [S, S, 3]."""
        planes = pixels.permute(2, 0, 1).unsqueeze(0)
        small = nn.functional.interpolate(planes, [height, width], mode="bicubic", align_corners=False, antialias=True)
        top, left = (height - self.edge) // 2, (width - self.edge) // 2
        return small[0, :, top : top + self.edge, left : left + self.edge].permute(1, 2, 0)


def torch_script(spec: ModelSpec) -> Way:
    """Return a way that resizes and crops in one TorchScript module, and decodes with Pillow."""
    module = torch.jit.script(Antialiased(spec.image_size))

    def way(encoded: bytes) -> npt.NDArray[np.uint8]:
        pixels = torch.from_numpy(rgb_array(encoded).copy())
        width, height = resized_size((pixels.shape[1], pixels.shape[0]), spec)
        return np.asarray(module(pixels, height, width).numpy())

    return way


def opened(encoded: bytes) -> Image.Image:
    """Open a picture; its pixels aren't decoded yet."""
    return Image.open(io.BytesIO(encoded))


def rgb(encoded: bytes) -> Image.Image:
    """Decode a picture and drop its transparency."""
    return opened(encoded).convert("RGB")


def resized(image: Image.Image, spec: ModelSpec) -> Image.Image:
    """Resize with Pillow's antialiased bicubic kernel."""
    return image.resize(resized_size(image.size, spec), Image.Resampling.BICUBIC)


def rgb_last(image: Image.Image, spec: ModelSpec) -> npt.NDArray[np.uint8]:
    """Resize before transparency is dropped, in OpenAI's order: transparent pixels count for less."""
    return cropped(np.asarray(resized(image, spec).convert("RGB")), spec)


def grey(image: Image.Image, spec: ModelSpec) -> npt.NDArray[np.uint8]:
    """Resize one channel, and repeat it three times."""
    return np.repeat(cropped(resized(image.convert("L"), spec), spec)[..., None], 3, axis=2)


def cropped(image: Image.Image | npt.NDArray[np.uint8], spec: ModelSpec) -> npt.NDArray[np.uint8]:
    """Crop the centred square of [H, W, …]."""
    pixels, edge = np.asarray(image), spec.image_size
    top, left = (pixels.shape[0] - edge) // 2, (pixels.shape[1] - edge) // 2
    return pixels[top : top + edge, left : left + edge]
