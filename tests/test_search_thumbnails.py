"""Thumbnails: upright and in the picture's own colours, whatever file it comes in."""

from __future__ import annotations

import contextlib
import io
from collections.abc import Callable, Iterator
from typing import Any

import numpy as np
import numpy.typing as npt
import pytest
from PIL import Image, ImageCms
from sidecars import Sidecar

from clip_client import InvalidInput
from clip_client.preprocess import open_image
from clip_client.search import Row, Search
from clip_client.thumbnails import thumbnail
from pictures import awkward, encoded, hostile, picture

Array = npt.NDArray[Any]
BASE = picture(900, 600)
GREY = np.asarray(BASE.convert("L"))
TURNS: dict[int, Callable[[Array], Array]] = {  # EXIF 2.32, table 4.6.4
    1: lambda a: a,
    2: lambda a: a[:, ::-1],
    3: lambda a: a[::-1, ::-1],
    4: lambda a: a[::-1],
    5: lambda a: a.swapaxes(0, 1),
    6: lambda a: a[::-1].swapaxes(0, 1),
    7: lambda a: a[::-1, ::-1].swapaxes(0, 1),
    8: lambda a: a[:, ::-1].swapaxes(0, 1),
}
ALPHA = Image.linear_gradient("L").resize(BASE.size)


def see_through(image: Image.Image) -> Image.Image:
    image = image.convert("RGBA")
    image.putalpha(ALPHA)
    return image


def on_white(image: Image.Image) -> Image.Image:
    return Image.alpha_composite(Image.new("RGBA", image.size, "white"), image.convert("RGBA")).convert("RGB")


def shown(content: bytes) -> Image.Image:
    image = Image.open(io.BytesIO(thumbnail(content)))
    assert (image.format, image.mode, max(image.size) <= 320) == ("JPEG", "RGB", True)
    assert not image.getexif()
    return image


def difference(content: bytes, expected: Array) -> float:
    """Mean difference in levels, of the size that a thumbnail has."""
    whole = Image.fromarray(np.ascontiguousarray(expected)).convert("RGB")
    whole.thumbnail((320, 320))
    small = shown(content)
    assert small.size == whole.size
    return float(np.abs(np.asarray(small, float) - np.asarray(whole, float)).mean())


@pytest.mark.parametrize("orientation", TURNS)
@pytest.mark.parametrize("format", ["JPEG", "PNG", "WEBP", "TIFF", "MPO"])
def test_a_picture_is_turned_upright(format: str, orientation: int) -> None:
    exif = Image.Exif()
    exif[0x0112] = orientation
    content = encoded(BASE, format, exif=exif, **({"quality": 95} if format in ("JPEG", "WEBP", "MPO") else {}))
    assert difference(content, TURNS[orientation](np.asarray(BASE))) < 4


@pytest.mark.parametrize("orientation", [3, 5, 6])
@pytest.mark.parametrize(
    "kind", ["RGBA PNG", "RGBA WEBP", "RGBA TIFF", "LA PNG", "L PNG", "P PNG", "P PNG with transparency", "1 PNG"]
)
def test_a_picture_of_every_kind_is_turned_upright(kind: str, orientation: int) -> None:
    exif = Image.Exif()
    exif[0x0112] = orientation
    mode, format = kind.split()[:2]
    image = see_through(BASE) if mode == "RGBA" else BASE.quantize(64) if mode == "P" else BASE.convert(mode)
    options: dict[str, Any] = {"transparency": 3} if "with" in kind else {"lossless": True} if format == "WEBP" else {}
    content = encoded(image, format, exif=exif, **options)
    flat = Image.open(io.BytesIO(encoded(image, "PNG", **({"transparency": 3} if "with" in kind else {}))))
    assert difference(content, TURNS[orientation](np.asarray(on_white(flat)))) < 6


def lab(image: Image.Image) -> Image.Image:
    profiles = [ImageCms.createProfile("sRGB"), ImageCms.createProfile("LAB")]
    return ImageCms.profileToProfile(image, *profiles, outputMode="LAB")


COLOURS: dict[str, tuple[bytes, Array]] = {
    "LAB TIFF": (encoded(lab(BASE), "TIFF"), np.asarray(BASE)),
    "small LAB TIFF": (encoded(lab(BASE.resize((90, 60))), "TIFF"), np.asarray(BASE.resize((90, 60)))),
    "CMYK JPEG": (encoded(BASE.convert("CMYK"), quality=95), np.asarray(BASE)),
    "CMYK TIFF": (encoded(BASE.convert("CMYK"), "TIFF"), np.asarray(BASE)),
    "YCbCr TIFF": (encoded(BASE.convert("YCbCr"), "TIFF"), np.asarray(BASE)),
    "RGBA PNG": (encoded(see_through(BASE), "PNG"), np.asarray(on_white(see_through(BASE)))),
    "RGBA WEBP": (encoded(see_through(BASE), "WEBP", lossless=True), np.asarray(on_white(see_through(BASE)))),
    "16 bit PNG": (encoded(Image.fromarray(GREY.astype(np.uint16) * 257), "PNG"), GREY),
    "16 bit TIFF": (encoded(Image.fromarray(GREY.astype(np.uint16) * 257), "TIFF"), GREY),
    "16 bit TIFF, big-endian": (encoded(Image.fromarray((GREY.astype(np.uint16) * 257).astype(">u2")), "TIFF"), GREY),
    "32 bit TIFF of 8 bits": (encoded(Image.fromarray(GREY.astype(np.int32)), "TIFF"), GREY),
    "32 bit TIFF of 16 bits": (encoded(Image.fromarray(GREY.astype(np.int32) * 257), "TIFF"), GREY),
    "float TIFF to 1": (encoded(Image.fromarray(GREY.astype(np.float32) / 255), "TIFF"), GREY),
    "float TIFF to 255": (encoded(Image.fromarray(GREY.astype(np.float32)), "TIFF"), GREY),
    "LA PNG": (encoded(BASE.convert("LA"), "PNG"), GREY),
    "L JPEG": (encoded(BASE.convert("L"), quality=95), GREY),
    "BMP": (encoded(BASE, "BMP"), np.asarray(BASE)),
}


@pytest.mark.parametrize("name", COLOURS)
def test_colours_stay(name: str) -> None:
    assert difference(*COLOURS[name]) < 10  # what JPEG makes of noise


def test_float_pictures_with_values_that_are_none() -> None:
    values = GREY.astype(np.float32) / 255
    values[:50], values[50:60] = np.nan, np.inf
    small = np.asarray(shown(encoded(Image.fromarray(values), "TIFF")), float)
    expected = np.asarray(Image.fromarray(GREY).resize((320, 213)).convert("RGB"), float)
    assert np.abs(small[40:] - expected[40:]).mean() < 5
    for dull in (np.zeros((40, 40)), np.full((40, 40), np.nan), np.full((40, 40), -5)):
        assert np.asarray(shown(encoded(Image.fromarray(dull.astype(np.float32)), "TIFF"))).max() < 8


@pytest.mark.parametrize("format", ["GIF", "PNG", "WEBP", "TIFF", "MPO"])
def test_of_an_animation_the_first_frame_is_shown(format: str) -> None:
    frames = [Image.new("RGB", (400, 300), colour) for colour in ("red", "green", "blue")]
    content = encoded(frames[0], format, save_all=True, append_images=frames[1:])
    assert np.asarray(shown(content)).mean((0, 1)) == pytest.approx([255, 0, 0], abs=8)


@pytest.mark.parametrize(
    ("size", "small"), [((1, 1), (1, 1)), ((1, 5000), (1, 320)), ((5000, 1), (320, 1)), ((3, 20_000), (1, 320))]
)
def test_narrow_pictures(size: tuple[int, int], small: tuple[int, int]) -> None:
    assert shown(encoded(picture(*size), "PNG")).size == small


def test_awkward_and_hostile_files() -> None:
    for name, content in awkward().items():
        assert max(shown(content).size) > 0, name
    refused = {"truncated", "header only", "text", "html", "svg", "postscript", "bomb", "broken png", "empty"}
    for name in refused:
        with pytest.raises(InvalidInput):
            thumbnail(hostile()[name][0])


def test_over_http_a_turned_picture_is_upright_kept_or_read_from_its_file(sidecar: Sidecar, search: Search) -> None:
    exif = Image.Exif()
    exif[0x0112] = 6
    content = encoded(see_through(BASE), "WEBP", lossless=True, exif=exif)
    file = sidecar.data.parent / "pictures" / "turned.webp"
    file.write_bytes(content)
    search.create("turned")
    search.add("turned", [Row(id="kept", image=content)])
    vector = search.get("turned", ["kept"], vectors=True)[0]["vector_image"]
    search.add("turned", [Row(id="from file", vector=vector, source=str(file))])
    for row in search.get("turned", ["kept", "from file"]):
        status, small = sidecar.ask("GET", f"/v1/collections/turned/thumbnails/{row['row']}")
        assert (status, Image.open(io.BytesIO(small)).size) == (200, (213, 320))
    file.unlink()


def test_pixels_are_gone_before_their_memory_is_given_back(monkeypatch: pytest.MonkeyPatch) -> None:
    opened: list[Image.Image] = []

    def open_and_keep(content: bytes) -> Image.Image:
        opened.append(open_image(content))
        return opened[-1]

    class Memory:
        @contextlib.contextmanager
        def held(self, size: int) -> Iterator[None]:
            yield
            with pytest.raises(ValueError, match="closed"):
                opened[0].getpixel((0, 0))

    monkeypatch.setattr("clip_client.thumbnails.open_image", open_and_keep)
    assert thumbnail(encoded(BASE, "PNG"), Memory())
    assert len(opened) == 1
