"""The main job on the bundled pictures, from checkpoint to hits: `python examples/emoji/demo.py` (`make demo`)."""

import contextlib
import io
import socket
import subprocess
import sys
import time
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import pyarrow.parquet as pq
from PIL import Image, ImageDraw, ImageFont
from tqdm import tqdm

from clip_client import Clip

FOLDER = Path(__file__).parent
ROOT = FOLDER.parents[1]
SHEET = ROOT / "artifacts" / "demo" / "contact-sheet.png"

TEXTS = ("birthday cake", "rainbow", "a red car", "crying", "flower", "night")
IMAGE = "1f692.webp"  # the picture that another set's drawing of the same thing should find: a fire engine
HITS = 8
PART = 64  # pictures in one step of the progress bar

CELL, LABEL, MARGIN = 96, 240, 12  # pixels


@dataclass(frozen=True)
class Search:
    """One query with its hits, best first: positions in the collection and cosines, both [HITS]."""

    label: str
    query: Image.Image | None
    positions: np.ndarray
    cosines: np.ndarray


def main() -> None:
    """Export, serve, embed, search, show."""
    start = time.monotonic()
    run("export/all.py")
    files, captions = collection()
    with serving() as address, Clip(address) as clip:
        clip.wait_ready(timeout_s=60)
        pictures = embed(clip, files)
        searches = [*text_searches(clip, pictures), image_search(clip, pictures)]
    for search in searches:
        print(line(search, captions))
    write_sheet(searches, files, SHEET)
    print(f"\nThe hits as a picture: {SHEET.relative_to(ROOT)}   ({time.monotonic() - start:.0f} s in all)")


def run(script: str) -> None:
    """Run a script of this repository, as a user would."""
    subprocess.run([sys.executable, ROOT / script], cwd=ROOT, check=True)


def collection() -> tuple[list[Path], list[str]]:
    """Files and captions of the bundled pictures."""
    rows = pq.read_table(FOLDER / "pictures" / "captions.parquet", columns=["file_name", "caption"]).to_pylist()
    return [FOLDER / "pictures" / row["file_name"] for row in rows], [row["caption"] for row in rows]


@contextlib.contextmanager
def serving() -> Iterator[str]:
    """A server on free ports, stopped at the end; gives its gRPC address."""
    ports = free_ports(3)
    flags = zip(("--http-port", "--grpc-port", "--metrics-port"), map(str, ports), strict=True)
    command = [Path(sys.executable).with_name("clipserve"), "serve", *(part for flag in flags for part in flag)]
    server = subprocess.Popen(command, cwd=ROOT)
    try:
        yield f"127.0.0.1:{ports[1]}"
    finally:
        server.terminate()
        server.wait()


def free_ports(count: int) -> list[int]:
    """Ports that nobody listens on now."""
    with contextlib.ExitStack() as stack:
        sockets = [stack.enter_context(socket.socket()) for _ in range(count)]
        for one in sockets:
            one.bind(("127.0.0.1", 0))
        return [one.getsockname()[1] for one in sockets]


def embed(clip: Clip, files: Sequence[Path]) -> np.ndarray:
    """Embed all pictures: float32 [N, D]."""
    parts = [files[start : start + PART] for start in range(0, len(files), PART)]
    with tqdm(total=len(files), desc="embedding", unit=" pictures") as progress:
        embeddings = []
        for part in parts:
            embeddings.append(clip.embed_image(part))
            progress.update(len(part))
    return np.concatenate(embeddings)


def text_searches(clip: Clip, pictures: np.ndarray) -> list[Search]:
    """Search with each text."""
    embeddings = clip.embed_text(TEXTS)
    return [Search(f'"{text}"', None, *nearest(embedding, pictures)) for text, embedding in zip(TEXTS, embeddings, strict=True)]


def image_search(clip: Clip, pictures: np.ndarray) -> Search:
    """Search with a drawing of another set."""
    table = pq.read_table(FOLDER / "queries.parquet", filters=[("file_name", "=", IMAGE)])
    query = Image.open(io.BytesIO(table["image"][0].as_py())).convert("RGB")
    return Search("this picture", query, *nearest(clip.embed_image(query), pictures))


def nearest(query: np.ndarray, pictures: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Positions and cosines of the HITS nearest pictures, best first; query [D], pictures [N, D]."""
    cosines = pictures @ query
    positions = np.argsort(-cosines)[:HITS]
    return positions, cosines[positions]


def line(search: Search, captions: Sequence[str]) -> str:
    """A search in words."""
    hits = [f"{captions[n]} {cosine:.2f}" for n, cosine in zip(search.positions[:4], search.cosines, strict=False)]
    return f"{search.label:>16}  ->  {', '.join(hits)}"


def write_sheet(searches: Sequence[Search], files: Sequence[Path], path: Path) -> None:
    """Draw a row for each search: the query, then its hits."""
    row = CELL + MARGIN
    sheet = Image.new("RGB", (LABEL + HITS * row + MARGIN, len(searches) * row + MARGIN), "white")
    draw = ImageDraw.Draw(sheet)
    for n, search in enumerate(searches):
        top = MARGIN + n * row
        if search.query:
            sheet.paste(search.query.resize((CELL, CELL)), (LABEL - row, top))
        draw.text((MARGIN, top + CELL // 2), search.label, "black", ImageFont.load_default(18), anchor="lm")
        for column, position in enumerate(search.positions):
            sheet.paste(Image.open(files[position]), (LABEL + MARGIN + column * row, top))
    path.parent.mkdir(parents=True, exist_ok=True)
    sheet.save(path)


if __name__ == "__main__":
    main()
