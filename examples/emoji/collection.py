"""Writes what is bundled: Noto's pictures, their captions, and Twemoji's as queries: `python examples/emoji/collection.py`.

Noto is the held-out set. No other module reads its drawings, and training never imports this one.
"""

import io
import xml.etree.ElementTree as ElementTree
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import resvg_py
from PIL import Image, ImageOps
from clip_client.progress_bars import ProgressBar

from drawings import STYLES, load_drawings, read_icons
from emoji_names import Emoji, load_emoji, plain_code
from packages import NOTO, NOTO_SPRITES, open_package

FOLDER = Path(__file__).parent
PICTURE_SIZE = 96
QUERY_SIZE = 64
SVG = "http://www.w3.org/2000/svg"


def main() -> None:
    """Draw the collection, then write captions and queries for what was drawn."""
    emoji = load_emoji()
    pictures = noto_svgs()
    drawn = [entry for entry in emoji if entry.code in pictures]
    write_pictures(drawn, pictures, FOLDER / "pictures")
    pq.write_table(captions(drawn), FOLDER / "pictures" / "captions.parquet")
    pq.write_table(queries(emoji, drawn), FOLDER / "queries.parquet")
    print(f"{len(drawn)} pictures in {FOLDER / 'pictures'}")


def noto_svgs() -> dict[str, bytes]:
    """Return the SVG of each Noto drawing by code points: the newer package's, and flags and keycaps from the older."""
    return sprites() | dict(read_icons(NOTO, names_from=NOTO))


def sprites() -> dict[str, bytes]:
    """Split the big SVG that holds all drawings side by side into SVG files."""
    ElementTree.register_namespace("", SVG)
    with open_package(NOTO_SPRITES) as archive:
        file = archive.extractfile("package/sprites/all.svg")
        root = ElementTree.parse(file).getroot()  # noqa: S314 - from a verified package
    drawings = (child for child in root if child.get("id"))
    return {plain_code(child.get("id")): ElementTree.tostring(child) for child in drawings}


def write_pictures(drawn: list[Emoji], pictures: dict[str, bytes], folder: Path) -> None:
    """Write one WebP for each emoji, on white: not every reader of a transparent picture fills it alike."""
    folder.mkdir(exist_ok=True)
    for entry in ProgressBar(drawn, unit=" pictures"):
        on_white(pictures[entry.code], PICTURE_SIZE).save(folder / file_name(entry), quality=86, method=6)


def on_white(svg: bytes, size: int) -> Image.Image:
    """Draw an SVG on the middle of a white square: RGB, `size` pixels on each side."""
    png = resvg_py.svg_to_bytes(svg_string=svg.decode(), width=size, background="white", skip_system_fonts=True)
    drawing = Image.open(io.BytesIO(png)).convert("RGB")
    return ImageOps.pad(drawing, (size, size), Image.Resampling.BICUBIC, color="white")


def file_name(emoji: Emoji) -> str:
    """Return the name of an emoji's picture, as in `1f382.webp`."""
    return f"{emoji.code}.webp"


def captions(drawn: list[Emoji]) -> pa.Table:
    """Return one row for each picture: file_name, caption, emoji, keywords, held_out_keywords."""
    return pa.table(
        {
            "file_name": [file_name(entry) for entry in drawn],
            "caption": [entry.name for entry in drawn],
            "emoji": [entry.character for entry in drawn],
            "keywords": [list(entry.keywords) for entry in drawn],
            "held_out_keywords": [list(entry.held_out) for entry in drawn],
        },
        schema=pa.schema(
            [
                ("file_name", pa.string()),
                ("caption", pa.string()),
                ("emoji", pa.string()),
                ("keywords", pa.list_(pa.string())),
                ("held_out_keywords", pa.list_(pa.string())),
            ]
        ),
    )


def queries(emoji: list[Emoji], drawn: list[Emoji]) -> pa.Table:
    """Return Twemoji's drawings of the same emoji, as WebP bytes on white: file_name (of Noto's picture), image."""
    drawings = load_drawings(emoji)
    names = {entry.code: file_name(entry) for entry in drawn}
    chosen = np.flatnonzero(drawings.style == STYLES.index("twemoji"))
    rows = [(names.get(emoji[drawings.emoji[row]].code), webp(drawings.pixels[row])) for row in chosen]
    kept = [row for row in rows if row[0]]
    return pa.table({"file_name": [name for name, _ in kept], "image": [image for _, image in kept]})


def webp(pixels: np.ndarray) -> bytes:
    """Encode one drawing, uint8 [SIZE, SIZE, 4], on white at QUERY_SIZE."""
    drawing = Image.fromarray(pixels)
    canvas = Image.new("RGBA", drawing.size, "white")
    canvas.alpha_composite(drawing)
    small = canvas.convert("RGB").resize((QUERY_SIZE, QUERY_SIZE), Image.Resampling.BICUBIC)
    encoded = io.BytesIO()
    small.save(encoded, "WEBP", quality=86, method=6)
    return encoded.getvalue()


if __name__ == "__main__":
    main()
