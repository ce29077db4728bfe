"""HEIC and RAW pictures: decoded by optional libraries, which are named when they are missing."""

from __future__ import annotations

import io
import sys
from pathlib import Path

import numpy as np
import pytest
from camera_pictures import dng, heic
from PIL import Image
from sidecars import Sidecar, base64_of

from clip_client import Clip, InvalidInput, camera_files
from clip_client.picture_files import scan
from clip_client.preprocess import Limits, open_image
from clip_client.search import Row, Search
from pictures import awkward, encoded, picture

MOST = Limits().image_pixels
PHOTO = picture(300, 200)


@pytest.fixture
def without_libraries(monkeypatch: pytest.MonkeyPatch) -> None:
    for kind in camera_files.KINDS:
        monkeypatch.setitem(sys.modules, kind.module, None)


def opened(encoded: bytes) -> Image.Image:
    return Image.open(io.BytesIO(camera_files.as_jpeg(encoded, MOST))).convert("RGB")


def difference(a: Image.Image, b: Image.Image) -> float:
    """Mean difference of two pictures' pixels, of 255."""
    assert a.size == b.size
    return float(np.abs(np.asarray(a, np.float32) - np.asarray(b, np.float32)).mean())


def test_a_heic_picture_becomes_a_jpeg_of_the_same_look() -> None:
    file = heic(PHOTO)
    assert camera_files.kind_of(file) is camera_files.HEIC
    assert difference(opened(file), PHOTO) < 8


def test_a_preview_is_taken_as_it_is_and_turned_as_the_camera_was_held() -> None:
    upright, turned = dng(PHOTO), dng(PHOTO, orientation=6)
    assert camera_files.kind_of(upright) is camera_files.RAW
    assert difference(opened(upright), PHOTO) < 8
    jpeg = Image.open(io.BytesIO(camera_files.as_jpeg(turned, MOST)))
    assert jpeg.getexif()[0x0112] == 6


def test_a_raw_file_without_a_preview_is_named() -> None:
    with pytest.raises(InvalidInput, match="the RAW file has no preview: develop it into a JPEG"):
        camera_files.as_jpeg(dng(None), MOST)


def test_pictures_that_pillow_opens_stay_as_they_are() -> None:
    files = [*awkward().values(), encoded(PHOTO, "AVIF"), encoded(PHOTO, "TIFF"), b"", b"no picture", b"II*\0", b"\0\0\0\x18ftyp"]
    assert [camera_files.as_jpeg(file, MOST) for file in files] == files
    assert {camera_files.memory(file) for file in files} == {0}


def test_avif_needs_no_library_but_pillow(without_libraries: None) -> None:
    assert open_image(camera_files.as_jpeg(encoded(PHOTO, "AVIF"), MOST)).size == PHOTO.size


@pytest.mark.parametrize(("file", "extra"), [(heic(PHOTO), "heic"), (dng(PHOTO), "raw")])
def test_a_missing_library_is_named(file: bytes, extra: str, without_libraries: None) -> None:
    with pytest.raises(InvalidInput, match=rf"pip install 'clipserve\[{extra}\]'"):
        camera_files.as_jpeg(file, MOST)


def test_a_folder_names_what_it_lacks_a_library_for(tmp_path: Path, without_libraries: None) -> None:
    for name, content in {"a.HEIC": heic(PHOTO), "b.dng": dng(PHOTO), "c.heic": encoded(PHOTO)}.items():
        (tmp_path / name).write_bytes(content)
    listing = scan(tmp_path)
    assert [file.name for file in listing.pictures] == ["c.heic"]
    assert "pip install 'clipserve[heic]'" in listing.left_out["a.HEIC"]
    assert "pip install 'clipserve[raw]'" in listing.left_out["b.dng"]


def test_a_bomb_is_refused_by_its_header() -> None:
    bomb = heic(Image.new("RGB", (2000, 1500)))
    with pytest.raises(InvalidInput, match=r"the image has 2000 x 1500 pixels, at most 1,000,000 are taken"):
        camera_files.as_jpeg(bomb, 1_000_000)
    assert camera_files.memory(bomb) >= 2000 * 1500 * 3


@pytest.mark.parametrize("kind", ["heic", "dng"])
def test_damaged_files_are_an_error_of_ours(kind: str) -> None:
    whole = heic(PHOTO) if kind == "heic" else dng(PHOTO)
    random = np.random.default_rng(0)
    outcomes = set()
    for _ in range(40):
        file = bytearray(whole[: random.integers(12, len(whole))])
        for place in random.integers(12, len(file), 4) if len(file) > 12 else ():
            file[place] = random.integers(0, 256)
        try:
            outcomes.add(bool(camera_files.as_jpeg(bytes(file), MOST)))
        except InvalidInput as problem:
            outcomes.add(str(problem).partition(" ")[0])
    assert "the" in outcomes


def test_server_and_sidecar_take_them(clip: Clip, sidecar: Sidecar, search: Search, tmp_path: Path) -> None:
    (tmp_path / "a.heic").write_bytes(heic(PHOTO))
    (tmp_path / "b.dng").write_bytes(dng(PHOTO))
    plain, *others = clip.embed_image([encoded(PHOTO), tmp_path / "a.heic", dng(PHOTO)])
    assert min(float(plain @ other) for other in others) > 0.95
    search.create("camera")
    rows = [Row(id="heic", image=tmp_path / "a.heic"), Row(id="raw", image=tmp_path / "b.dng"), Row(id="broken", image=heic(PHOTO)[:200])]
    added = search.add("camera", rows)
    assert sorted(added.ids) == ["heic", "raw"]
    assert "the HEIC image can't be decoded" in added.errors[2]
    sent = {"rows": [{"id": "sent", "image": base64_of(heic(PHOTO))}]}
    status, _ = sidecar.ask("POST", "/v1/collections/camera/rows", sent)
    assert status == 200
    assert {hit.id for hit in search.query("camera", "a cat") if hit.thumbnail} == {"heic", "raw", "sent"}
