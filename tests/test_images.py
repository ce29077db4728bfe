"""Whatever a caller calls an image becomes the bytes of one file, or an error that says why not."""

from __future__ import annotations

import io
import re
import time
from pathlib import Path
from typing import Any

import numpy as np
import pictures
import pytest
from PIL import Image
from servers import free_ports, http_files

from clip_client import InvalidInput, Timeout, Unavailable
from clip_client.images import encoded
from clip_client.preprocess import Limits

JPEG = pictures.encoded(pictures.picture(80, 60))


def load(image: Any, **options: Any) -> bytes:
    return encoded(image, timeout_s=2, **options)


def test_files_stay_as_they_are(tmp_path: Path) -> None:
    path = tmp_path / "a picture.jpg"
    path.write_bytes(JPEG)
    with path.open("rb") as file:
        assert {load(path), load(str(path)), load(JPEG), load(bytearray(JPEG)), load(io.BytesIO(JPEG)), load(file)} == {JPEG}


@pytest.mark.parametrize("mode", ["RGB", "RGBA", "L", "P", "CMYK", "1", "I;16", "F"])
def test_a_pil_image_keeps_its_pixels(mode: str) -> None:
    image = pictures.picture(40, 30).convert("L" if mode == "I;16" else "RGB").convert(mode)
    sent = Image.open(io.BytesIO(load(image)))
    np.testing.assert_array_equal(np.asarray(sent), np.asarray(image.convert("RGB")))


def test_a_pil_image_is_turned_upright() -> None:
    sent = Image.open(io.BytesIO(load(Image.open(io.BytesIO(pictures.rotated(6))))))
    assert sent.size == (200, 300)


def test_an_array_keeps_its_pixels() -> None:
    array = np.asarray(pictures.picture(40, 30))
    for view in (array, array[::-1, ::2], np.asfortranarray(array)):
        np.testing.assert_array_equal(np.asarray(Image.open(io.BytesIO(load(view)))), view)


@pytest.mark.parametrize(
    ("image", "message"),
    [
        (np.zeros((4, 4), np.uint8), "uint8 [4, 4]: expected uint8 [H, W, 3]"),
        (np.zeros((4, 4, 4), np.uint8), "uint8 [4, 4, 4]"),
        (np.zeros((4, 4, 3), np.float32), "float32 [4, 4, 3]"),
        (np.zeros((0, 4, 3), np.uint8), "uint8 [0, 4, 3]"),
        ("no/such/file.jpg", "no image file no/such/file.jpg"),
        ("a\x00b.jpg", "can't be read"),
        (Path("/"), "can't be read"),
        (io.StringIO("text"), "open it in binary mode"),
        (42, "can't be a int"),
        (None, "can't be a NoneType"),
    ],
    ids=lambda value: str(value)[:20],
)
def test_what_is_no_image_is_refused(image: Any, message: str) -> None:
    with pytest.raises(InvalidInput, match=re.escape(message)):
        load(image)


def test_a_url_is_fetched() -> None:
    with http_files({"/cat.jpg": JPEG}) as url:
        assert load(f"{url}/cat.jpg") == JPEG


def test_a_url_that_fails_says_how() -> None:
    with http_files({"/big": b"x" * 2000}) as url:
        with pytest.raises(InvalidInput, match=r"/nothing answers 404"):
            load(f"{url}/nothing")
        with pytest.raises(InvalidInput, match=r"larger than 1,000 bytes"):
            load(f"{url}/big", limits=Limits(image_bytes=1000))
        with pytest.raises(InvalidInput, match=r"too many redirects"):
            load(f"{url}/loop")


def test_a_slow_url_is_given_up_in_time() -> None:
    with http_files({}) as url:
        start = time.monotonic()
        with pytest.raises(Timeout, match=r"within 0\.5 s"):
            encoded(f"{url}/hang", timeout_s=0.5)
        assert time.monotonic() - start < 3


def test_a_host_that_is_not_there_is_unavailable() -> None:
    (port,) = free_ports(1)
    with pytest.raises(Unavailable, match="can't be reached"):
        load(f"http://127.0.0.1:{port}/x.jpg")
    with pytest.raises((InvalidInput, Unavailable)):
        load("http://")
