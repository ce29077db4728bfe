"""Images in any form that a caller has, as the bytes of one encoded file."""

import io
import os
from dataclasses import dataclass
from typing import Any, BinaryIO, TypeAlias, Union

import numpy as np
import numpy.typing as npt
from PIL import Image

from clip_client import camera_files
from clip_client.errors import InvalidInput
from clip_client.preprocess import Limits, check_size, resize, to_rgb
from clip_client.regular_files import read_picture
from clip_client.spec import ModelSpec
from clip_client.type_names import a_type

ImageLike: TypeAlias = Union[str, "os.PathLike[str]", bytes, BinaryIO, Image.Image, npt.NDArray[np.uint8]]
"""A path, an http(s) URL, encoded bytes, a binary file object, a PIL image, or a uint8 array [H, W, 3] in RGB."""


@dataclass(frozen=True)
class Reader:
    """Reader of images, as files for a checkpoint."""

    spec: ModelSpec  # pictures that are decoded already are sent resized, which gives the same pixels from fewer bytes
    limits: Limits  # the server's; larger images aren't sent
    timeout_s: float  # bound on fetching a URL, from the connection to the last byte, redirects included

    def read(self, image: ImageLike) -> bytes:
        """Read, fetch or encode an image to the bytes of one file; pictures become PNG, HEIC and RAW files JPEG, others stay.

        Raises:
            InvalidInput: no such file, a URL that answers with an error, an array of another shape or dtype.
            Unavailable: the URL's host can't be reached.
            Timeout: the URL's host is too slow.
        """
        if isinstance(image, Image.Image):
            return self._png(_copied(image))
        if isinstance(image, np.ndarray):
            return self._png(_picture(image))
        return camera_files.as_jpeg(encoded_file(image, self.limits, self.timeout_s), self.limits.image_pixels)

    def _png(self, image: Image.Image) -> bytes:
        check_size(image.size, self.spec, self.limits)
        buffer = io.BytesIO()
        rgb = to_rgb(image, self.spec.transparency)
        resize(rgb, self.spec).save(buffer, "PNG", compress_level=1)  # light: the network is the faster part
        return buffer.getvalue()


def names_image(text: str) -> bool:
    """Tell if a text is the path of a file or a URL: where texts and images are taken, it may stand for the image."""
    try:
        return text.lower().startswith(("http://", "https://")) or os.path.isfile(text)
    except ValueError:  # a NUL
        return False


def is_one_image(images: Any) -> bool:
    """Tell an image, or a text or bytes, from a list of them."""
    if isinstance(images, np.ndarray) and images.dtype.kind in "OUST" and images.ndim == 1:  # of paths, say
        return False
    return isinstance(images, str | bytes | bytearray | memoryview | os.PathLike | Image.Image | np.ndarray) or hasattr(
        images, "read"
    )


def _read_all(file: BinaryIO) -> bytes:
    try:
        content = file.read()
    except Exception as problem:  # a file object can be anything
        raise InvalidInput(f"the file object can't be read: {problem}") from problem
    if not isinstance(content, bytes | bytearray):
        raise InvalidInput("the file object gave text: open it in binary mode, open(path, 'rb')")
    return bytes(content)


def encoded_file(image: str | os.PathLike[str] | bytes | BinaryIO, limits: Limits, timeout_s: float) -> bytes:
    """Return the content of an image's file as it is; raises as :meth:`Reader.read`."""
    if isinstance(image, bytes | bytearray | memoryview):
        return bytes(image)
    if isinstance(image, str) and image.lower().startswith(("http://", "https://")):
        return _downloaded(image, limits, timeout_s)
    if isinstance(image, str | os.PathLike):
        return read_picture(image, camera_files.most_bytes(image, limits.image_bytes))
    if hasattr(image, "read"):
        return _read_all(image)
    raise InvalidInput(
        f"an image can't be {a_type(image)}: expected a path, a URL, bytes, a binary file, "
        "a PIL image or a uint8 array [H, W, 3]"
    )


def _downloaded(url: str, limits: Limits, timeout_s: float) -> bytes:
    from clip_client.downloads import Downloader, open_url  # urllib3 is loaded for URLs alone

    return Downloader(open_url, limits.image_bytes, timeout_s).read(url)


def _copied(image: Image.Image) -> Image.Image:
    """Return a copy, since turning a picture upright changes it."""
    try:
        return image.copy()
    except Exception as problem:  # decoders raise anything
        raise InvalidInput(f"the image can't be decoded ({problem}): is the file whole?") from problem


def _picture(array: npt.NDArray[np.uint8]) -> Image.Image:
    if array.dtype != np.uint8 or array.ndim != 3 or array.shape[2] != 3 or 0 in array.shape:
        raise InvalidInput(f"the array is {array.dtype} {list(array.shape)}: expected uint8 [H, W, 3] in RGB")
    return Image.fromarray(np.ascontiguousarray(array))
