"""Drawings to train on, decoded once into one array: `python examples/emoji/drawings.py`.

Noto is not among them: it is the held-out set, and `collection.py` alone reads it.
"""

import hashlib
import io
import json
import re
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import resvg_py
from PIL import Image
from clip_client.progress_bars import ProgressBar

from emoji_names import Emoji, load_emoji, plain_code
from icon_names import SYNONYMS, codes_by_name, find_code
from packages import (
    EMOJIONE_1,
    EMOJIONE_2,
    FIREFOX,
    FLUENT,
    FLUENT_3D,
    FLUENT_FLAT,
    OPENMOJI,
    STREAMLINE,
    TWEMOJI,
    TWEMOJI_1,
    UNICODE,
    Package,
    cache_folder,
    open_package,
)

SIZE = 72
"""Pixels per side of a stored drawing: a little more than the model sees, for augmentation."""

CODE = r"([0-9a-fA-F]{2,5}(?:-[0-9a-fA-F]{2,5})*)"
"""Code points in a file name; some packages hold drawings that no emoji has."""

STYLES = (
    "twemoji",
    "fluent",
    "openmoji",
    "fluent-flat",
    "emojione-2",
    "fluent-3d",
    "twemoji-1",
    "firefox",
    "emojione-1",
    "streamline",
)
"""In an order that keeps related styles apart: drawings far apart in it make the best views of one emoji."""

NAMED_ICONS = {"emojione-1": EMOJIONE_1, "emojione-2": EMOJIONE_2, "firefox": FIREFOX, "streamline": STREAMLINE}
"""Sets that don't say which code points an icon has."""


@dataclass(frozen=True)
class Drawings:
    """Drawings of one list of emoji in several styles.

    pixels: uint8 [N, SIZE, SIZE, 4], RGB with straight alpha.
    emoji: int64 [N], position in the list of emoji; style: int64 [N], position in STYLES.
    """

    pixels: np.ndarray
    emoji: np.ndarray
    style: np.ndarray


def load_drawings(emoji: list[Emoji]) -> Drawings:
    """Return the training drawings, from the cache or, on first use, rendered from the packages."""
    path = cache_file()
    if not path.exists():
        _save(render_drawings(emoji), path)
    with np.load(path) as arrays:
        return Drawings(arrays["pixels"], arrays["emoji"], arrays["style"])


def cache_file() -> Path:
    """Return the cache file of the decoded drawings of these packages, styles and size."""
    packages = (UNICODE, TWEMOJI, TWEMOJI_1, OPENMOJI, FLUENT, FLUENT_FLAT, FLUENT_3D, *NAMED_ICONS.values())
    key = hashlib.sha256(repr((SIZE, STYLES, packages, SYNONYMS)).encode()).hexdigest()
    return cache_folder() / f"drawings-{key[:12]}.npz"


def render_drawings(emoji: list[Emoji]) -> Drawings:
    """Decode every drawing of every style, with a progress bar."""
    position = {entry.code: index for index, entry in enumerate(emoji)}
    rows = []
    for style, name in enumerate(STYLES):
        for code, picture in ProgressBar(read_style(name, emoji), desc=name, unit=" drawings"):
            if code in position:
                rows.append((position[code], style, rgba(picture)))
    rows.sort(key=lambda row: row[:2])  # stable: several drawings of one style keep their order
    indices, styles, pixels = zip(*rows, strict=True)
    return Drawings(np.stack(pixels), np.array(indices), np.array(styles))


def read_style(name: str, emoji: list[Emoji]) -> Iterator[tuple[str, bytes]]:
    """Yield code points and encoded picture (SVG or WebP) of every drawing of one style."""
    if name in NAMED_ICONS:
        return read_named_icons(NAMED_ICONS[name], emoji)
    if name == "twemoji":
        return read_icons(TWEMOJI, names_from=TWEMOJI)
    if name == "twemoji-1":
        return read_files(TWEMOJI_1, rf"package/svg/{CODE}\.svg")
    if name == "fluent-3d":
        return read_files(FLUENT_3D, rf"package/assets/{CODE}\.webp")
    if name == "openmoji":
        return read_files(OPENMOJI, rf"package/color/svg/{CODE}\.svg")
    return read_icons(FLUENT if name == "fluent" else FLUENT_FLAT, names_from=FLUENT_FLAT)


def read_files(package: Package, pattern: str) -> Iterator[tuple[str, bytes]]:
    """Yield pictures that lie in the package as files named by code points, the group of `pattern`."""
    with open_package(package) as archive:
        for member in archive:
            if match := re.fullmatch(pattern, member.name):
                yield plain_code(match[1]), archive.extractfile(member).read()


def read_icons(package: Package, names_from: Package) -> Iterator[tuple[str, bytes]]:
    """Yield pictures of an Iconify set; not every set says which code points an icon has, so ask `names_from`."""
    icons = _read_json(package, "icons.json")
    for code, name in _read_json(names_from, "chars.json").items():
        icon = icons["icons"].get(name)
        if icon and not icon.get("hidden"):
            yield plain_code(code), svg(icon, icons)


def read_named_icons(package: Package, emoji: list[Emoji]) -> Iterator[tuple[str, bytes]]:
    """Yield pictures of an Iconify set whose icons are known by their names only."""
    listed = [_read_json(other, "chars.json") for other in (FLUENT_FLAT, TWEMOJI)]
    codes = codes_by_name(emoji, ((name, plain_code(code)) for chars in listed for code, name in chars.items()))
    icons = _read_json(package, "icons.json")
    for name, icon in icons["icons"].items():
        if code := find_code(name, codes):
            yield code, svg(icon, icons)


def svg(icon: dict, icons: dict) -> bytes:
    """Make a whole SVG file from an Iconify icon, whose size defaults to that of its set."""
    width, height = (icon.get(side, icons.get(side, 16)) for side in ("width", "height"))
    head = f'<svg xmlns="http://www.w3.org/2000/svg" xmlns:xlink="http://www.w3.org/1999/xlink" viewBox="0 0 {width} {height}">'
    return f"{head}{icon['body']}</svg>".encode()


def rgba(picture: bytes) -> np.ndarray:
    """Decode an SVG or WebP: uint8 [SIZE, SIZE, 4], straight alpha."""
    if b"<svg" in picture[:400]:
        picture = resvg_py.svg_to_bytes(svg_string=picture.decode(), width=SIZE, skip_system_fonts=True)
    image = Image.open(io.BytesIO(picture)).convert("RGBA")
    return np.asarray(image.resize((SIZE, SIZE), Image.Resampling.BICUBIC))


def _read_json(package: Package, name: str) -> dict:
    with open_package(package) as archive:
        return json.load(archive.extractfile(f"package/{name}"))


def _save(drawings: Drawings, path: Path) -> None:
    unfinished = path.with_suffix(".tmp.npz")
    np.savez(unfinished, pixels=drawings.pixels, emoji=drawings.emoji, style=drawings.style)
    unfinished.replace(path)


def main() -> None:
    """Fetch, decode and count the training drawings."""
    emoji = load_emoji()
    drawings = load_drawings(emoji)
    for style, name in enumerate(STYLES):
        print(f"{name:16} {np.count_nonzero(drawings.style == style):5}")
    pairs = sum(len(entry.keywords) for entry in emoji)
    print(f"{len(emoji)} emoji, {pairs} keywords, {sum(len(entry.held_out) for entry in emoji)} of them held out")


if __name__ == "__main__":
    main()
