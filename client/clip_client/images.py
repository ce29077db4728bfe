"""Whatever a caller calls an image -> one encoded file."""

from __future__ import annotations

import io
import os
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, BinaryIO, TypeAlias, Union

import numpy as np
import numpy.typing as npt
from PIL import Image

from clip_client.errors import ClipError, InvalidInput, Timeout, Unavailable
from clip_client.preprocess import Limits, check_size, resize, to_rgb
from clip_client.spec import ModelSpec

if TYPE_CHECKING:
    import urllib3

ImageLike: TypeAlias = Union[str, "os.PathLike[str]", bytes, BinaryIO, Image.Image, npt.NDArray[np.uint8]]
"""A path, an http(s) URL, encoded bytes, a binary file object, a PIL image, or a uint8 array [H, W, 3] in RGB."""


@dataclass(frozen=True)
class Reader:
    """Turns what callers call images into files for a checkpoint.

    Attributes:
        spec: pictures that are decoded already are sent resized, which gives the same pixels from fewer bytes.
        limits: the server's, so that what it would refuse isn't sent.
        timeout_s: bound on fetching a URL, from the connection to the last byte, redirects included.
    """

    spec: ModelSpec
    limits: Limits
    timeout_s: float

    def read(self, image: ImageLike) -> bytes:
        """Read, fetch or encode an image to the bytes of one file; files stay as they are, pictures become PNG.

        Raises:
            InvalidInput: no such file, a URL that answers with an error, an array of another shape or dtype.
            Unavailable: the URL's host can't be reached.
            Timeout: the URL's host is too slow.
        """
        if isinstance(image, bytes | bytearray | memoryview):
            return bytes(image)
        if isinstance(image, str) and image.lower().startswith(("http://", "https://")):
            return _fetched(image, self.timeout_s, self.limits)
        if isinstance(image, str | os.PathLike):
            return read_file(image, self.limits)
        if isinstance(image, Image.Image):
            return self._png(_copied(image))
        if isinstance(image, np.ndarray):
            return self._png(_picture(image))
        if hasattr(image, "read"):
            return _read_all(image)
        raise InvalidInput(
            f"an image can't be a {type(image).__name__}: expected a path, a URL, bytes, a binary file, "
            "a PIL image or a uint8 array [H, W, 3]"
        )

    def _png(self, image: Image.Image) -> bytes:
        check_size(image.size, self.spec, self.limits)
        buffer = io.BytesIO()
        resize(to_rgb(image, self.spec.transparency), self.spec).save(
            buffer, "PNG", compress_level=1
        )  # light: the network is the faster part
        return buffer.getvalue()


def read_file(path: str | os.PathLike[str], limits: Limits) -> bytes:
    """The bytes of a picture's file; raises as :meth:`Reader.read`."""
    path = Path(path)
    try:
        if not path.exists():
            raise InvalidInput(f"no image file {path}: check the path")
        if not path.is_file():  # a folder, or a pipe that never ends
            raise InvalidInput(f"{path} isn't a file: pass a picture")
        limits.check_bytes(path.stat().st_size)
        return path.read_bytes()
    except (OSError, ValueError) as problem:  # ValueError: a path with a NUL
        if isinstance(problem, ClipError):
            raise
        raise InvalidInput(f"the image file can't be read: {problem}") from problem


def _read_all(file: BinaryIO) -> bytes:
    try:
        content = file.read()
    except Exception as problem:  # a file object can be anything
        raise InvalidInput(f"the file object can't be read: {problem}") from problem
    if not isinstance(content, bytes | bytearray):
        raise InvalidInput("the file object gave text: open it in binary mode, open(path, 'rb')")
    return bytes(content)


def _copied(image: Image.Image) -> Image.Image:
    """A picture of our own, since turning it upright changes it."""
    try:
        return image.copy()
    except Exception as problem:  # decoders raise anything
        raise InvalidInput(f"the image can't be decoded ({problem}): is the file whole?") from problem


def _picture(array: npt.NDArray[np.uint8]) -> Image.Image:
    if array.dtype != np.uint8 or array.ndim != 3 or array.shape[2] != 3 or 0 in array.shape:
        raise InvalidInput(f"the array is {array.dtype} {list(array.shape)}: expected uint8 [H, W, 3] in RGB")
    return Image.fromarray(np.ascontiguousarray(array))


def _fetched(url: str, timeout_s: float, limits: Limits) -> bytes:
    import urllib3

    from clip_client.deadlines import Deadline

    only_redirects = urllib3.Retry(total=3, connect=0, read=0, redirect=3)
    with Deadline(timeout_s) as deadline, urllib3.PoolManager() as pools:
        pools.pool_classes_by_scheme = deadline.pools()
        try:
            with pools.request("GET", url, preload_content=False, timeout=timeout_s, retries=only_redirects) as response:
                body = _body(response, url, limits)
        except (urllib3.exceptions.HTTPError, UnicodeError) as problem:
            reason = getattr(problem, "reason", problem)
            raise (_late(url, timeout_s) if deadline.expired else _unfetched(url, timeout_s, reason)) from problem
        if deadline.expired:  # whose connection was shut, which may look like the end of the file
            raise _late(url, timeout_s)
        return body


def _body(response: urllib3.BaseHTTPResponse, url: str, limits: Limits) -> bytes:
    if response.status != 200:
        raise InvalidInput(f"{url} answers {response.status}: expected 200 with an image")
    body = bytearray()
    while part := response.read1(2**16):
        body += part
        limits.check_bytes(len(body))
    return bytes(body)


def _late(url: str, timeout_s: float) -> Timeout:
    return Timeout(f"{url} didn't answer within {timeout_s:g} s")


def _unfetched(url: str, timeout_s: float, reason: object) -> ClipError:
    import urllib3

    if isinstance(reason, urllib3.exceptions.NewConnectionError | urllib3.exceptions.NameResolutionError):
        return Unavailable(f"{url} can't be reached: {reason}")
    if isinstance(reason, urllib3.exceptions.TimeoutError):
        return _late(url, timeout_s)
    if isinstance(reason, urllib3.exceptions.ProtocolError):
        return Unavailable(f"{url} broke off: {reason}")
    return InvalidInput(f"{url} can't be fetched: {reason}")
