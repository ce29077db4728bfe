"""The main job on the bundled pictures, from checkpoint to a page: `python examples/emoji/demo.py` (`make demo`).

It is `clipserve up` on them, with a few searches.
"""

import io
import os
import sys
import time
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import pyarrow.parquet as pq
from PIL import Image, ImageDraw, ImageFont

from clip_client import Search, command_runner, model_repository
from clip_client.errors import ClipError
from clip_client.help_texts import program
from clip_client.search import Hit, Term
from clip_serve.up import session
from clip_serve.up.options import Options

FOLDER = Path(__file__).resolve().parent
PICTURES = FOLDER / "pictures"
ROOT = FOLDER.parents[1]
PLACE = Path(os.path.relpath(ROOT))
ARTIFACTS = PLACE / "artifacts"
SHEET = ARTIFACTS / "demo" / "contact-sheet.png"
UP = Options(
    pictures=PLACE / PICTURES.relative_to(ROOT),
    collection="emoji",
    data=ARTIFACTS / "demo" / "search",
    repository=PLACE / model_repository.FOLDER,
    artifacts=ARTIFACTS,
)

TEXTS = ("birthday cake", "rainbow", "a red car", "crying", "flower", "night")
IMAGE = "1f692.webp"  # the picture that another set's drawing of the same thing should find: a fire engine
HITS = 8

CELL, LABEL, MARGIN = 96, 240, 12  # pixels


@dataclass(frozen=True)
class Answer:
    """One query with its hits, best first."""

    label: str
    query: Image.Image | None
    hits: Sequence[Hit]


def main() -> int:
    """Bring everything up, search, show; in a terminal, leave the page up until Ctrl-C. Returns the exit status."""
    start = time.monotonic()

    def show(search: Search, collection: str) -> None:
        answers = [*text_answers(search, collection), image_answer(search, collection)]
        print("\n".join(map(line, answers)))
        write_sheet(answers, SHEET)
        print(f"\nThe hits as a picture: {SHEET}   ({time.monotonic() - start:.0f} s in all)")
        print(f"Your own pictures: {own_pictures()}", flush=True)

    try:
        return session.run(UP, show)
    except ClipError as problem:
        print(f"error: {problem}", file=sys.stderr)
        return command_runner.FAILED


def text_answers(search: Search, collection: str) -> list[Answer]:
    """Search with each text."""
    return [Answer(f'"{text}"', None, search.query(collection, text, k=HITS)) for text in TEXTS]


def image_answer(search: Search, collection: str) -> Answer:
    """Search with a drawing of another set."""
    table = pq.read_table(FOLDER / "queries.parquet", filters=[("file_name", "=", IMAGE)])
    query = table["image"][0].as_py()
    picture = Image.open(io.BytesIO(query)).convert("RGB")
    return Answer("a fire engine, drawn", picture, search.query(collection, Term(image=query), k=HITS))


def line(answer: Answer) -> str:
    """Return an answer in words."""
    hits = [f"{hit.metadata['caption']} {hit.score:.2f}" for hit in answer.hits[:4]]
    return f"{answer.label:>20}  ->  {', '.join(hits)}"


def write_sheet(answers: Sequence[Answer], path: Path) -> None:
    """Draw a row for each answer: the query, then its hits."""
    row = CELL + MARGIN
    sheet = Image.new("RGB", (LABEL + HITS * row + MARGIN, len(answers) * row + MARGIN), "white")
    draw = ImageDraw.Draw(sheet)
    for n, answer in enumerate(answers):
        top = MARGIN + n * row
        if answer.query:
            sheet.paste(answer.query.resize((CELL, CELL)), (LABEL - row, top))
        draw.text((MARGIN, top + CELL // 2), answer.label, "black", ImageFont.load_default(18), anchor="lm")
        for column, hit in enumerate(answer.hits):
            sheet.paste(Image.open(PICTURES / hit.id), (LABEL + MARGIN + column * row, top))
    path.parent.mkdir(parents=True, exist_ok=True)
    sheet.save(path)


def own_pictures() -> str:
    """Return the command for a folder of the user's own, with a model for photographs."""
    return f"{program()} up FOLDER --model openai/clip-vit-base-patch32"


if __name__ == "__main__":
    sys.exit(command_runner.run("demo.py", main))
