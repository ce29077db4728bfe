"""Requests beside a roll: failures, answers of both versions at once, p99, the time until the other version serves.

python bench/roll.py                 # the bundled checkpoint and one with another text tower, 16 clients; some five minutes
python bench/roll.py --clients 4 --seconds 6

A version is published, then rolled back several times, each beside the same load as just before it: once every client sends
its next request when its last one is answered, once half as many as that. Each request is a list of texts, and each vector is
compared with those of both versions.
"""

from __future__ import annotations

import argparse
import json
import math
import shutil
import subprocess
import sys
import tempfile
import time
from collections import Counter
from collections.abc import Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import closing
from dataclasses import dataclass
from pathlib import Path
from statistics import median

import numpy as np
import numpy.typing as npt
from safetensors.numpy import load_file, save_file

from clip_client import Clip
from clip_client.errors import ClipError
from lib.checkpoints import exported
from lib.load import load
from lib.results import Result, publish
from lib.samples import ROOT
from lib.serving import CLIPSERVE, Serving, served
from lib.tables import Cell, Table

BUNDLED = ROOT / "examples" / "emoji" / "emoji-clip"
COLOURS, THINGS = ("red", "a small blue", "an old and rather green"), ("cat", "tree", "car")
TEXTS = [f"{colour} {thing}" for colour in COLOURS for thing in THINGS]
PROJECTION, TURN = "text_projection.weight", 0.5
"""Weights that are changed, and the length of the change beside theirs."""
ROLLBACKS, HALF = 3, 0.5
FAILED, MIXED = "failed", "mixed"

Floats = npt.NDArray[np.float32]


def main() -> None:
    """Roll, go back, report."""
    made = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    made.add_argument("--clients", type=int, default=16, metavar="N", help="at once (default: %(default)s)")
    made.add_argument("--seconds", type=float, default=15.0, metavar="S", help="of load before a roll, and beside it")
    options = made.parse_args()
    columns = ["load", "step", "serves after s", "requests", FAILED, MIXED, "p99 before, ms", "p99 beside it, ms", "times"]
    with tempfile.TemporaryDirectory(prefix="clipserve-roll-") as scratch:
        repository = Path(scratch) / "model_repository"
        shutil.copytree(exported(str(BUNDLED), None)[1], repository)
        _, following = exported(str(taught(repository, Path(scratch) / "taught")), None)
        with served(repository) as server, closing(Rolls(server, repository, following, options)) as rolls:
            table = Table(columns, list(rolls.rows()))
    notes = [
        f"{options.clients} clients, each request {len(TEXTS)} texts, int8, beside `clipserve publish` and `clipserve publish "
        "--rollback`, which load the other version, lead requests to it and unload the one before. *Mixed* are answers that "
        "aren't wholly of one version. Clients, server and command share the cores. The first roll imports and hashes what "
        "was exported."
    ]
    publish(Result("roll", "Rolling a model", notes, [table], vars(options)))


def taught(repository: Path, folder: Path) -> Path:
    """Write the bundled checkpoint with another text tower, as a child of itself; return its folder."""
    shutil.copytree(BUNDLED, folder)
    weights = load_file(folder / "model.safetensors")
    change = np.random.default_rng(0).standard_normal(weights[PROJECTION].shape, np.float32)
    size = TURN * np.linalg.norm(weights[PROJECTION]) / np.linalg.norm(change)
    weights[PROJECTION] = (weights[PROJECTION] + size * change).astype(weights[PROJECTION].dtype)
    save_file(weights, folder / "model.safetensors", metadata={"format": "pt"})
    with Clip.local(repository) as clip:
        spec = clip.spec
    parent = {"label": "emoji-clip", "fingerprint": spec.fingerprint, "space": spec.space}
    lineage = {"parent": parent | {"image_fingerprint": spec.tower_fingerprint("image")}, "tower": "text"}
    (folder / "lineage.json").write_text(json.dumps(lineage), encoding="utf-8")
    return folder


@dataclass(frozen=True)
class Answers:
    """Latency, throughput and outcomes of a load."""

    p99_ms: float
    per_s: float
    outcomes: Counter[str]  # "version 1" and "version 2", wholly of that version; mixed; failed

    def __len__(self) -> int:
        return self.outcomes.total()


class Rolls:
    """Clients of a server whose versions change."""

    def __init__(self, server: Serving, repository: Path, following: Path, options: argparse.Namespace) -> None:
        self._server, self._repository, self._following, self._seconds = server, repository, following, options.seconds
        self._clips = [Clip(server.address) for _ in range(options.clients)]
        self._truths = [vectors(repository), vectors(following)]

    def close(self) -> None:
        """Close the clients."""
        for clip in self._clips:
            clip.close()

    def rows(self) -> Iterator[list[Cell]]:
        """Roll and go back at full speed, then at half of it; yield a row of the table for each step."""
        self._load(math.inf)
        steps = [[str(self._following)], *[["--rollback"]] * ROLLBACKS]
        full = [self._step(step, math.inf) for step in steps]
        half_per_s = HALF * median(before.per_s for before, _, _ in full)
        half = [self._step(step, half_per_s) for step in steps[1:]]
        for pace, measured in (("all they can", full), ("half of it", half)):
            for n, (before, beside, serves_s) in enumerate(measured):
                name = "rollback" if n or measured is half else "roll"
                bad = [before.outcomes[kind] + beside.outcomes[kind] for kind in (FAILED, MIXED)]
                ratio = beside.p99_ms / before.p99_ms
                yield [pace, name, serves_s, len(before) + len(beside), *bad, before.p99_ms, beside.p99_ms, ratio]

    def _step(self, arguments: Sequence[str], per_s: float) -> tuple[Answers, Answers, float]:
        """Return the answers before a step and beside it, and the seconds until the other version served."""
        before = self._load(per_s)
        with ThreadPoolExecutor(1) as pool:
            serves_s = pool.submit(self._publish, arguments)
            beside = self._load(per_s)
            return before, beside, serves_s.result()

    def _load(self, per_s: float) -> Answers:
        """Load the server for a while; judge each answer."""
        outcomes = list[str]()  # appends of threads don't get lost

        def request(number: int) -> None:
            try:
                rows = self._clips[number % len(self._clips)].embed_text(TEXTS)
            except ClipError as problem:
                print(f"failed: {problem}", file=sys.stderr)
                outcomes.append(FAILED)
            else:
                outcomes.append(self._judged(rows))

        done = load(request, len(self._clips), seconds=self._seconds, per_s=per_s)
        return Answers(done.times.percentile_ms(99), done.per_s, Counter(outcomes))

    def _judged(self, rows: Floats) -> str:
        """Return the version that each vector of an answer is of, or that they are of several, or of none."""
        apart = np.linalg.norm(self._truths[0] - self._truths[1], axis=1)
        for version, truth in enumerate(self._truths, 1):
            if (np.linalg.norm(rows - truth, axis=1) < apart / 4).all():
                return f"version {version}"
        return MIXED

    def _publish(self, arguments: Sequence[str]) -> float:
        where = ["--repository", self._repository, "--server", self._server.http]
        start = time.monotonic()
        subprocess.run([CLIPSERVE, "publish", *arguments, *where], check=True, stdout=subprocess.DEVNULL)
        return time.monotonic() - start


def vectors(repository: Path) -> Floats:
    """Embed the texts by a repository in this process."""
    with Clip.local(repository) as clip:
        return clip.embed_text(TEXTS)


if __name__ == "__main__":
    main()
