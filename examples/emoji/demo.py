"""The main job on the bundled pictures, from checkpoint to a page: `python examples/emoji/demo.py` (`make demo`)."""

import contextlib
import io
import os
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

import pyarrow.parquet as pq
from PIL import Image, ImageDraw, ImageFont
from tqdm import tqdm

from clip_client import Clip, Search, command_runner, model_repository, ports
from clip_client.search import Hit, Row, Term

FOLDER = Path(__file__).parent
PICTURES = FOLDER / "pictures"
ROOT = FOLDER.parents[1]
REPOSITORY = ROOT / model_repository.FOLDER
DATA = ROOT / "artifacts" / "demo" / "search"
SHEET = ROOT / "artifacts" / "demo" / "contact-sheet.png"
CLIPSERVE = Path(sys.executable).with_name("clipserve")

COLLECTION = "emoji"
TEXTS = ("birthday cake", "rainbow", "a red car", "crying", "flower", "night")
IMAGE = "1f692.webp"  # the picture that another set's drawing of the same thing should find: a fire engine
HITS = 8
PART = 64  # pictures in one step of the progress bar

CELL, LABEL, MARGIN = 96, 240, 12  # pixels


@dataclass(frozen=True)
class Answer:
    """One query with its hits, best first."""

    label: str
    query: Image.Image | None
    hits: Sequence[Hit]


def main() -> None:
    """Export, serve, add, search, show; in a terminal, leave the page up until Ctrl-C."""
    start = time.monotonic()
    signal.signal(signal.SIGTERM, signal.default_int_handler)  # as Ctrl-C: what was started is stopped
    subprocess.run([sys.executable, ROOT / "export" / "all.py"], cwd=ROOT, check=True)
    with serving() as triton, searching(triton) as (search, sidecar):
        ensure_collection(search, triton)
        add_pictures(search)
        answers = [*text_answers(search), image_answer(search)]
        print("\n".join(map(line, answers)))
        write_sheet(answers, SHEET)
        print(f"\nThe hits as a picture: {os.path.relpath(SHEET)}   ({time.monotonic() - start:.0f} s in all)")
        if sys.stdout.isatty():
            print(f"Search them yourself at {search.url} — Ctrl-C stops it")
            with contextlib.suppress(KeyboardInterrupt):
                sidecar.wait()
    print(start_again())


@contextlib.contextmanager
def serving() -> Iterator[str]:
    """Run Triton on free ports, stop it at the end; give its gRPC address."""
    free = [free_port() for _ in range(3)]
    flags = zip(("--http-port", "--grpc-port", "--metrics-port"), map(str, free), strict=True)
    with running("serve", "--repository", REPOSITORY, *(part for flag in flags for part in flag)):
        yield f"127.0.0.1:{free[1]}"


@contextlib.contextmanager
def searching(triton: str) -> Iterator[tuple[Search, subprocess.Popen[str]]]:
    """Run a search sidecar, stop it at the end; give a client and the process once it is ready."""
    port = free_port(ports.SEARCH)
    with (
        running("search", "serve", "--data", DATA, "--triton", triton, "--port", str(port)) as sidecar,
        Search(f"http://127.0.0.1:{port}") as search,
    ):
        search.wait_ready()
        yield search, sidecar


@contextlib.contextmanager
def running(*command: str | Path) -> Iterator[subprocess.Popen[str]]:
    """Run a clipserve command in a session of its own, so that Ctrl-C reaches this process alone; stop it at the end."""
    process = subprocess.Popen([CLIPSERVE, *command], stdout=subprocess.PIPE, text=True, start_new_session=True)
    try:
        if not process.stdout.readline():  # each says where it listens, once it does
            raise SystemExit(f"'clipserve {command[0]}' didn't start: the lines above say why")
        yield process
    finally:
        process.terminate()
        process.wait()


def free_port(preferred: int = 0) -> int:
    """Return a free port: the preferred one, or another."""
    with socket.socket() as probe:
        probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        try:
            probe.bind(("127.0.0.1", preferred))
        except OSError:
            return free_port()
        return probe.getsockname()[1]


def ensure_collection(search: Search, triton: str) -> None:
    """Make the collection, anew where it holds the vectors of another checkpoint."""
    with Clip(triton) as clip:
        fingerprint = clip.spec.fingerprint
    fingerprints = {entry["name"]: entry["fingerprint"] for entry in search.collections()}
    if fingerprints.get(COLLECTION, fingerprint) != fingerprint:
        search.drop(COLLECTION)
    if fingerprints.get(COLLECTION) != fingerprint:
        search.create(COLLECTION)


def add_pictures(search: Search) -> None:
    """Add the bundled pictures with their captions; those that are there stay."""
    table = pq.read_table(PICTURES / "captions.parquet", columns=["file_name", "caption", "emoji"]).to_pylist()
    with tqdm(total=len(table), desc="adding", unit=" pictures") as progress:
        for start in range(0, len(table), PART):
            part = [picture_row(**row) for row in table[start : start + PART]]
            search.add(COLLECTION, part, on_conflict="skip")
            progress.update(len(part))


def picture_row(file_name: str, caption: str, emoji: str) -> Row:
    """Return a picture as a row to add."""
    return Row(id=file_name, image=PICTURES / file_name, metadata={"caption": caption, "emoji": emoji})


def text_answers(search: Search) -> list[Answer]:
    """Search with each text."""
    return [Answer(f'"{text}"', None, search.query(COLLECTION, text, k=HITS)) for text in TEXTS]


def image_answer(search: Search) -> Answer:
    """Search with a drawing of another set."""
    table = pq.read_table(FOLDER / "queries.parquet", filters=[("file_name", "=", IMAGE)])
    query = table["image"][0].as_py()
    picture = Image.open(io.BytesIO(query)).convert("RGB")
    return Answer("this picture", picture, search.query(COLLECTION, Term(image=query), k=HITS))


def line(answer: Answer) -> str:
    """Return an answer in words."""
    hits = [f"{hit.metadata['caption']} {hit.score:.2f}" for hit in answer.hits[:4]]
    return f"{answer.label:>16}  ->  {', '.join(hits)}"


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


def start_again() -> str:
    """Return the two commands that bring the page back with the added pictures."""
    clipserve, repository, pictures = map(os.path.relpath, (CLIPSERVE, REPOSITORY, DATA))
    return (
        f"The page again, at http://127.0.0.1:{ports.SEARCH}: each in a terminal of its own,\n"
        f"  {clipserve} serve --repository {repository}\n"
        f"  {clipserve} search serve --data {pictures}"
    )


def status() -> int:
    """Return the exit status of :func:`main`; a command that failed has printed its error."""
    try:
        main()
    except subprocess.CalledProcessError as problem:
        return problem.returncode
    return 0


if __name__ == "__main__":
    sys.exit(command_runner.run("demo.py", status))
