"""Whatever a caller calls an image becomes the bytes of one file, or an error that says why not."""

from __future__ import annotations

import dataclasses
import io
import re
import time
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image
from servers import free_ports, http_files

import pictures
from clip_client import InvalidInput, ModelSpec, Timeout, Unavailable
from clip_client.images import Reader
from clip_client.preprocess import Limits, preprocess

JPEG = pictures.encoded(pictures.picture(80, 60))


@pytest.fixture
def reader(spec: ModelSpec) -> Reader:
    return Reader(spec, Limits(), timeout_s=2)


def test_files_stay_as_they_are(tmp_path: Path, reader: Reader) -> None:
    path = tmp_path / "a picture.jpg"
    path.write_bytes(JPEG)
    with path.open("rb") as file:
        kinds = (path, str(path), JPEG, bytearray(JPEG), memoryview(JPEG), io.BytesIO(JPEG), file)
        assert {reader.read(kind) for kind in kinds} == {JPEG}


@pytest.mark.parametrize("kind", sorted(pictures.awkward()))
def test_a_pil_image_gives_the_pixels_of_its_file(kind: str, reader: Reader) -> None:
    file = pictures.awkward()[kind]
    sent = reader.read(Image.open(io.BytesIO(file)))
    np.testing.assert_array_equal(preprocess(sent, reader.spec), preprocess(file, reader.spec))


@pytest.mark.parametrize("settings", [{"resize_mode": "squash"}, {"resize_size": 256}, {"resize_size": 200}], ids=str)
def test_sending_it_resized_changes_nothing(settings: dict, reader: Reader) -> None:
    other = dataclasses.replace(reader, spec=dataclasses.replace(reader.spec, **settings))
    for jpeg in pictures.jpegs(5):
        sent = other.read(Image.open(io.BytesIO(jpeg)))
        np.testing.assert_array_equal(preprocess(sent, other.spec), preprocess(jpeg, other.spec))


def test_a_camera_picture_is_sent_small(reader: Reader) -> None:
    assert len(reader.read(np.random.default_rng(0).integers(0, 256, (4000, 6000, 3), np.uint8))) < 1_000_000


def test_the_callers_image_is_left_as_it_was(reader: Reader) -> None:
    image = Image.open(io.BytesIO(pictures.rotated(6)))
    reader.read(image)
    assert (image.size, image.getexif()[0x0112]) == ((300, 200), 6)


def test_an_array_keeps_its_pixels(reader: Reader) -> None:
    array = np.asarray(pictures.picture(300, 260))
    for view in (array, array[::-1, ::2], np.asfortranarray(array)):
        file = pictures.encoded(Image.fromarray(np.ascontiguousarray(view)), "PNG")
        np.testing.assert_array_equal(preprocess(reader.read(view), reader.spec), preprocess(file, reader.spec))


def closed() -> Image.Image:
    image = Image.open(io.BytesIO(JPEG))
    image.close()
    return image


class Broken(io.BytesIO):
    def read(self, *args: Any) -> bytes:
        raise OSError("unplugged")


@pytest.mark.parametrize(
    ("image", "message"),
    [
        (np.zeros((4, 4), np.uint8), "uint8 [4, 4]: expected uint8 [H, W, 3]"),
        (np.zeros((4, 4, 4), np.uint8), "uint8 [4, 4, 4]"),
        (np.zeros((4, 4, 3), np.float32), "float32 [4, 4, 3]"),
        (np.zeros((0, 4, 3), np.uint8), "uint8 [0, 4, 3]"),
        ("no/such/file.jpg", "no image file no/such/file.jpg"),
        ("a\x00b.jpg", "no image file"),
        (Path("/"), "isn't a file"),
        ("/dev/zero", "isn't a file"),
        (Image.open(io.BytesIO(JPEG[:900])), "can't be decoded"),
        (closed(), "can't be decoded"),
        (Image.new("RGB", (0, 5)), "0 x 5 pixels"),
        (Broken(), "can't be read: unplugged"),
        (io.StringIO("text"), "open it in binary mode"),
        (42, "can't be an int"),
        (None, "can't be None"),
    ],
    ids=lambda value: str(value)[:20],
)
def test_what_is_no_image_is_refused(image: Any, message: str, reader: Reader) -> None:
    with pytest.raises(InvalidInput, match=re.escape(message)):
        reader.read(image)


def test_a_url_is_fetched(reader: Reader) -> None:
    with http_files({"/cat.jpg": JPEG}) as url:
        assert reader.read(f"{url}/cat.jpg") == JPEG


def test_what_the_server_would_refuse_is_not_sent(reader: Reader, tmp_path: Path) -> None:
    small = dataclasses.replace(reader, limits=Limits(image_bytes=1000))
    (tmp_path / "big.jpg").write_bytes(b"x" * 2000)
    with pytest.raises(InvalidInput, match=r"2,000 bytes, at most 1,000 are taken"):
        small.read(tmp_path / "big.jpg")
    with http_files({"/big": b"x" * 2000}) as url, pytest.raises(InvalidInput, match=r"at most 1,000 are taken"):
        small.read(f"{url}/big")

    with pytest.raises(InvalidInput, match=r"bytes, at most 1,000 are taken"):  # its size is told as 0
        small.read("/proc/self/smaps")


def test_a_url_that_fails_says_how(reader: Reader) -> None:
    with http_files({}) as url:
        with pytest.raises(InvalidInput, match=r"/nothing answers 404"):
            reader.read(f"{url}/nothing")
        with pytest.raises(InvalidInput, match=r"too many redirects"):
            reader.read(f"{url}/loop")
        with pytest.raises(InvalidInput, match="answers 302: expected 200"):
            reader.read(f"{url}/to/")


@pytest.mark.parametrize("path", ["/hang", "/drip", "/headers"])
def test_a_slow_url_is_given_up_in_time(path: str, reader: Reader) -> None:
    with http_files({}) as url:
        start = time.monotonic()
        with pytest.raises(Timeout, match=r"within 0\.5 s"):
            dataclasses.replace(reader, timeout_s=0.5).read(f"{url}{path}")
        assert time.monotonic() - start < 2


def test_a_host_that_is_not_there_is_unavailable(reader: Reader) -> None:
    (port,) = free_ports(1)
    with pytest.raises(Unavailable, match="can't be reached"):
        reader.read(f"http://127.0.0.1:{port}/x.jpg")
    with pytest.raises((InvalidInput, Unavailable)):
        reader.read("http://")
