"""Whatever a caller calls an image -> one encoded file."""

from __future__ import annotations

import io
import os
from pathlib import Path
from typing import TYPE_CHECKING, BinaryIO, TypeAlias, Union

import numpy as np
import numpy.typing as npt
from PIL import Image, ImageOps

from clip_client.errors import ClipError, InvalidInput, Timeout, Unavailable
from clip_client.preprocess import Limits

if TYPE_CHECKING:
    import urllib3

ImageLike: TypeAlias = Union[str, "os.PathLike[str]", bytes, BinaryIO, Image.Image, npt.NDArray[np.uint8]]
"""A path, an http(s) URL, encoded bytes, a binary file object, a PIL image, or a uint8 array [H, W, 3] in RGB."""


def encoded(image: ImageLike, *, timeout_s: float, limits: Limits = Limits()) -> bytes:
    """Read, fetch or encode an image to the bytes of one file; files stay as they are, pictures become PNG.

    Raises:
        InvalidInput: no such file, a URL that answers with an error, an array of another shape or dtype.
        Unavailable: the URL's host can't be reached.
        Timeout: the URL's host is too slow.
    """
    if isinstance(image, bytes | bytearray | memoryview):
        return bytes(image)
    if isinstance(image, str) and image.startswith(("http://", "https://")):
        return _fetched(image, timeout_s, limits)
    if isinstance(image, str | os.PathLike):
        return _read(Path(image))
    if isinstance(image, Image.Image):
        return _png(image)
    if isinstance(image, np.ndarray):
        return _png(_picture(image))
    if hasattr(image, "read"):
        return _read_all(image)
    raise InvalidInput(
        f"an image can't be a {type(image).__name__}: expected a path, a URL, bytes, a binary file, "
        "a PIL image or a uint8 array [H, W, 3]"
    )


def label(image: ImageLike) -> str:
    """What to call an image in a message: its path or URL, otherwise nothing."""
    return f" ({image})" if isinstance(image, str | os.PathLike) else ""


def _read(path: Path) -> bytes:
    try:
        return path.read_bytes()
    except FileNotFoundError as problem:
        raise InvalidInput(f"no image file {path}: check the path") from problem
    except (OSError, ValueError) as problem:  # ValueError: a path with a NUL
        raise InvalidInput(f"the image file can't be read: {problem}") from problem


def _read_all(file: BinaryIO) -> bytes:
    content = file.read()
    if not isinstance(content, bytes):
        raise InvalidInput("the file object gave text: open it in binary mode, open(path, 'rb')")
    return content


def _picture(array: npt.NDArray[np.uint8]) -> Image.Image:
    if array.dtype != np.uint8 or array.ndim != 3 or array.shape[2] != 3 or 0 in array.shape:
        raise InvalidInput(f"the array is {array.dtype} {list(array.shape)}: expected uint8 [H, W, 3] in RGB")
    return Image.fromarray(np.ascontiguousarray(array))


def _png(image: Image.Image) -> bytes:
    buffer = io.BytesIO()
    upright = ImageOps.exif_transpose(image)
    upright.convert("RGB").save(buffer, "PNG", compress_level=1)  # light compression: the network is the faster part
    return buffer.getvalue()


def _fetched(url: str, timeout_s: float, limits: Limits) -> bytes:
    import urllib3

    timeout = urllib3.Timeout(total=timeout_s)
    try:
        with urllib3.request("GET", url, preload_content=False, timeout=timeout, retries=3) as response:
            return _body(response, url, limits)
    except ClipError:
        raise
    except (urllib3.exceptions.TimeoutError, urllib3.exceptions.MaxRetryError) as problem:
        raise _unreached(url, timeout_s, problem) from problem
    except (urllib3.exceptions.HTTPError, UnicodeError) as problem:
        raise InvalidInput(f"{url} can't be fetched: {problem}") from problem


def _body(response: urllib3.BaseHTTPResponse, url: str, limits: Limits) -> bytes:
    if response.status != 200:
        raise InvalidInput(f"{url} answers {response.status}: expected 200 with an image")
    body: bytes = response.read(limits.image_bytes + 1, decode_content=True)
    if len(body) > limits.image_bytes:
        raise InvalidInput(f"{url} is larger than {limits.image_bytes:,} bytes: pass a smaller image")
    return body


def _unreached(url: str, timeout_s: float, problem: Exception) -> ClipError:
    import urllib3

    reason = getattr(problem, "reason", problem)
    if isinstance(reason, urllib3.exceptions.ResponseError):  # too many redirects
        return InvalidInput(f"{url} can't be fetched: {reason}")
    refused = isinstance(reason, urllib3.exceptions.NewConnectionError | urllib3.exceptions.NameResolutionError)
    if isinstance(reason, urllib3.exceptions.TimeoutError) and not refused:
        return Timeout(f"{url} didn't answer within {timeout_s:g} s")
    return Unavailable(f"{url} can't be reached: {reason}")
