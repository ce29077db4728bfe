"""Learning from clicks of simulated users: recall on words that nobody typed, with and without position correction.

    python bench/learning.py                  # three draws of users, some minutes
    python bench/learning.py --draws 1 --clicks 1000

No Triton runs: drawings and words are embedded by torch.
"""

from __future__ import annotations

import argparse
import subprocess
import tempfile
import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import torch

from clip_client import Search, bundled
from clip_client.counting import counted
from clip_client.preprocess import preprocess
from clip_export.learning.parent import Parent
from clip_export.learning.training import embedded
from lib.results import Result, publish
from lib.serving import CLIPSERVE, NOBODY, sidecar
from lib.simulated_users import Floats, Pair, World, clicks, competing, queries, reached, recall, world
from lib.tables import Cell, Table

NAME = "emoji"
CAPTIONS = bundled.PICTURES / "captions.parquet"
WAYS = {
    "learned": (),
    "without position correction": ("--no-position-correction",),
    "clicks at random": (),
}
"""Options of each run."""

RECALLS = {
    "known": "known words R@10",
    "others": "other words R@10",
    "others_reached": "of reached emoji R@10",
    "names": "names R@1",
}
"""Figures of a checkpoint, and their names in the tables."""

NOTE = (
    "Users of the bundled drawings know some of the keywords that emoji-clip never saw for an emoji, type one, alone or in a "
    "phrase, and look for that emoji: at position k with the probability 1 / k (Joachims et al. 2017); one click in ten goes "
    "to whatever they look at. *Other words* are held-out keywords of the same emoji that no user ever types, neither for it "
    "nor for another; *of reached emoji* are those of the emoji that somebody clicked on for a right word. Replayed are names "
    "and keywords of emoji-clip's own training: *clicks at random* show what they bring alone. Drawings with the same keyword "
    "don't compete."
)


@dataclass(frozen=True)
class Scores:
    """Recalls of a checkpoint, and how long it took to learn."""

    known: float
    others: float
    others_reached: float
    names: float
    seconds: float


def main() -> None:
    """Let users click, learn in each way, score; mean over the draws."""
    options = parser().parse_args()
    parent = Parent.of(str(bundled.CHECKPOINT))
    scores: dict[str, list[Scores]] = {way: [] for way in ("before", *WAYS)}
    counts = []
    for draw in range(options.draws):
        drawn = world(CAPTIONS, draw)
        pictures = drawings(parent, drawn.ids)
        with tempfile.TemporaryDirectory() as folder, sidecar(NOBODY) as served:
            fill(served.search, parent, drawn, pictures)
            tables = logs(parent, drawn, pictures, options.clicks, draw)
            targets = reached(drawn, tables["learned"])
            scores["before"].append(scored(parent, drawn, targets, pictures, 0.0))
            counts.append((len(drawn.known), len(drawn.others), len(targets)))
            for way, table in tables.items():
                output, seconds = learn(served.search.url, Path(folder), way, table, drawn, options.more)
                scores[way].append(scored(Parent.of(str(output)), drawn, targets, pictures, seconds))
                print(draw, way, scores[way][-1], flush=True)
        publish(result(scores, counts, options))  # after each draw, so that a stop loses one at most


def parser() -> argparse.ArgumentParser:
    """Return the parser of the options."""
    made = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    made.add_argument(
        "--draws", type=int, default=3, metavar="N", help="divisions of the words, with users (default: %(default)s)"
    )
    made.add_argument("--clicks", type=int, default=5000, metavar="N", help="of each draw (default: %(default)s)")
    made.add_argument("more", nargs="*", metavar="OPTION", help="options of clipserve learn, behind --")
    return made


def drawings(parent: Parent, ids: Sequence[str]) -> Floats:
    """Embed the bundled drawings: float32 [N, D]."""
    pixels = [preprocess((bundled.PICTURES / name).read_bytes(), parent.spec) for name in ids]
    with torch.inference_mode():
        parts = [parent.towers.image(torch.from_numpy(np.stack(pixels[n : n + 128]))) for n in range(0, len(pixels), 128)]
        vectors: Floats = torch.cat(parts).numpy()
    return vectors


def fill(search: Search, parent: Parent, drawn: World, pictures: Floats) -> None:
    """Make the collection, of vectors that are ready."""
    size, fingerprint = pictures.shape[1], parent.spec.fingerprint
    search.create(NAME, dimension=size, fingerprint=fingerprint)
    vectors = pa.FixedSizeListArray.from_arrays(pa.array(pictures.ravel()), size)
    search.add_arrow(
        NAME, pa.table({"id": drawn.ids, "vector_image": vectors, "caption": drawn.names}), fingerprint=fingerprint
    )


def logs(parent: Parent, drawn: World, pictures: Floats, count: int, seed: int) -> dict[str, pa.Table]:
    """Return the feedback for each way to learn."""
    texts = queries(drawn)
    nearest = np.argsort(-embedded(parent.embed, texts) @ pictures.T, axis=1, kind="stable")
    rankings = dict(zip(texts, nearest.tolist(), strict=True))
    real, noise = (clicks(drawn, rankings, count, seed, at_random=at_random) for at_random in (False, True))
    return {way: noise if way == "clicks at random" else real for way in WAYS}


def learn(url: str, folder: Path, way: str, table: pa.Table, drawn: World, more: Sequence[str]) -> tuple[Path, float]:
    """Run the command; return the checkpoint and the seconds that it took."""
    feedback, replayed, output = folder / f"{way}.parquet", folder / "replay.parquet", folder / way
    pq.write_table(table, feedback)
    texts = [(text, id) for id, name, words in zip(drawn.ids, drawn.names, drawn.seen, strict=True) for text in (name, *words)]
    pq.write_table(pa.table({"text": [text for text, _ in texts], "id": [id for _, id in texts]}), replayed)
    command = [str(CLIPSERVE), "learn", "--url", url, "--collection", NAME, "--checkpoint", str(bundled.CHECKPOINT)]
    command += ["--output", str(output), "--feedback", str(feedback), "--replay", str(replayed), *WAYS[way], *more]
    start = time.perf_counter()
    subprocess.run(command, check=True)
    return output, time.perf_counter() - start


def scored(checkpoint: Parent, drawn: World, targets: Sequence[Pair], pictures: Floats, seconds: float) -> Scores:
    """Return the recalls of a checkpoint's text tower."""

    def among_ten(pairs: Sequence[Pair]) -> float:
        texts = embedded(checkpoint.embed, [word for word, _ in pairs])
        return recall(texts, pictures, [number for _, number in pairs], 10, competing(drawn, pairs))

    names = recall(embedded(checkpoint.embed, drawn.names), pictures, range(len(drawn.ids)), 1)
    return Scores(among_ten(drawn.known), among_ten(drawn.others), among_ten(targets), names, seconds)


def result(scores: Mapping[str, Sequence[Scores]], counts: Sequence[Sequence[int]], options: argparse.Namespace) -> Result:
    """Return a table of the means, and one of the differences within the draws."""
    known, others, near = np.mean(counts, axis=0)
    pairs = f"{known:.0f} known pairs, {others:.0f} others, {near:.0f} of reached emoji"
    drawn = f"Mean of {counted(len(counts), 'draw')}, {options.clicks:,} clicks each"
    told = f"{drawn}; {pairs}. ± is the standard error over the draws."
    setting = {"draws": len(counts), "clicks": options.clicks, "options": options.more}
    tables = [means(scores), differences(scores)]
    return Result("learning", "Learning from clicks", [NOTE, told], tables, setting)


def means(scores: Mapping[str, Sequence[Scores]]) -> Table:
    """Return the figures of each way: means over the draws, and their standard errors."""
    columns = [column for name in RECALLS.values() for column in (name, "±")]
    rows: list[list[Cell]] = []
    for way, some in scores.items():
        cells = [cell for name in RECALLS for cell in averaged([getattr(each, name) for each in some])]
        rows.append([way, *cells, float(np.mean([each.seconds for each in some]))])
    return Table(("", *columns, "seconds"), rows)


def differences(scores: Mapping[str, Sequence[Scores]]) -> Table:
    """Return what was learned beside each other way, draw by draw: in points, and other words also relatively."""
    rows: list[list[Cell]] = []
    for way in ("before", *list(WAYS)[1:]):
        pairs = list(zip(scores["learned"], scores[way], strict=True))
        relative = averaged([100 * (this.others / other.others - 1) for this, other in pairs])
        points = [averaged([100 * (getattr(this, name) - getattr(other, name)) for this, other in pairs]) for name in RECALLS]
        rows.append([f"learned, against {way}", *relative, *(cell for cells in points for cell in cells)])
    columns = [column for name in RECALLS.values() for column in (f"{name}, points", "±")]
    return Table(("", "other words, %", "±", *columns), rows)


def averaged(values: Sequence[float]) -> tuple[float, float | None]:
    """Return the mean and its standard error; None of a single value."""
    error = float(np.std(values, ddof=1) / len(values) ** 0.5) if len(values) > 1 else None
    return float(np.mean(values)), error


if __name__ == "__main__":
    main()
