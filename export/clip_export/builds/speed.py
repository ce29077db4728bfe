"""Time and memory of variants: each in a process of its own, all of them in turns.

On a busy machine the turns slow all variants alike, so that their ratios hold.
"""

from __future__ import annotations

import dataclasses
import hashlib
import json
import multiprocessing
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from multiprocessing.connection import Connection
from pathlib import Path
from statistics import median
from typing import Any

import numpy as np
import numpy.typing as npt

from clip_client import engines
from clip_client.library_errors import one_line
from clip_client.spec import ModelSpec, Tower
from clip_client.tokens import bucket
from clip_export import hardware, json_record, memory
from clip_export.artifact_files import SPEED_RECORD
from clip_export.builds.verdicts import Judged
from clip_export.progress import Progress
from clip_export.variants import NAMES, module, named
from clip_export.variants.base import MAX_BATCH, Artefact, Variant

BATCHES = (1, 8, MAX_BATCH)
WORDS = 8  # of a timed text; with its start and its end it has two tokens more

_ROUNDS = 5  # enough that one disturbed turn doesn't move the median
_BLOCK_S = 0.3  # a turn of one variant: several runs if they are short
_MOST_RUNS = 10  # in a turn
_TIMEOUT_S = 600  # of one turn; a compiler may be at work in the first
_LARGE_BYTES = 2**30  # of an artefact; the towers of a ViT-L in float32 are just below and above
_ENDING_S = 5  # for a process to end by itself

_PRELOADED = [*map(module, NAMES), *(f"{engines.__name__}.{backend}" for backend in engines.NAMES)]  # imported once, for all

Batch = npt.NDArray[Any]


@dataclass(frozen=True)
class Speed:
    """One tower of one variant on this machine; all figures are medians.

    Attributes:
        latency_ms: of one batch, by its size.
        load_s: to open the artefact.
        memory_bytes: growth of the process, from before the artefact was opened until after the largest batch.
        tokens: length of the texts; None for images.
    """

    latency_ms: dict[int, float]
    load_s: float
    memory_bytes: int
    tokens: int | None

    @property
    def per_second(self) -> float:
        """Items a second in the largest batches."""
        batch = max(self.latency_ms)
        return 1000 * batch / self.latency_ms[batch]


def measure(rows: Sequence[Judged], tower: Tower, spec: ModelSpec, folder: Path, progress: Progress) -> dict[str, Speed | str]:
    """Measure one tower's variants; return the speed by name, or the reason that there is none.

    The same artefacts on the same machine aren't measured again. A new one among them has all measured again, since only
    variants that took turns can be compared.
    """
    path, key = folder / SPEED_RECORD, _key(rows)
    known = json_record.read(path)
    if known.get(tower, {}).get("key") != key:
        memory.give_back()
        speeds = {name: speed for group in _groups(rows) for name, speed in _in_turns(group, tower, spec, progress).items()}
        kept = {name: dataclasses.asdict(speed) if isinstance(speed, Speed) else speed for name, speed in speeds.items()}
        json_record.write(path, known | {tower: {"key": key, "speeds": kept}})
        return speeds
    return {name: _speed(fields) for name, fields in known[tower]["speeds"].items()}


def inputs(variant: Variant, tower: Tower, spec: ModelSpec, batch: int) -> Batch:
    """Make a batch to time: noise for pictures, texts of eight words in the shortest bucket.

    PyTorch gets texts padded to the whole context, as users of transformers pad them; a causal tower pays most for that.
    """
    if tower == "image":
        return np.random.default_rng(0).integers(0, 256, (batch, spec.image_size, spec.image_size, 3), np.uint8)
    whole = spec.padding == "full" or variant.backend is None
    words = min(WORDS + 1, spec.context_length - 1)
    length = spec.context_length if whole else bucket(words + 1, spec.context_length)
    tokens = np.full((batch, length), spec.pad_token, np.int32)
    tokens[:, :words] = 1 + np.arange(words)
    tokens[:, words] = spec.end_token
    return tokens


def _groups(rows: Sequence[Judged]) -> list[Sequence[Judged]]:
    """Return the variants that are open at once: all, or each alone where they are so large that memory would end."""
    return [[row] for row in rows] if any(row.size_bytes > _LARGE_BYTES for row in rows) else [rows]


def _in_turns(rows: Sequence[Judged], tower: Tower, spec: ModelSpec, progress: Progress) -> dict[str, Speed | str]:
    speeds: dict[str, Speed | str] = {}
    with ExitStack() as stack:
        workers: dict[str, _Worker] = {}
        for row in rows:
            progress(f"timing the {tower} tower: opening {row.variant}")
            try:
                workers[row.variant] = stack.enter_context(_worker(named(row.variant), row.artefact))
            except _Failed as problem:
                speeds[row.variant] = str(problem)
        timings: dict[str, dict[int, list[float]]] = {name: {batch: [] for batch in BATCHES} for name in workers}
        for turn in range(_ROUNDS):
            progress(f"timing the {tower} tower: round {turn + 1} of {_ROUNDS}")
            for batch in BATCHES:
                for name in [name for name in workers if name not in speeds]:
                    try:
                        timings[name][batch] += workers[name].run(inputs(named(name), tower, spec, batch))
                    except _Failed as problem:
                        speeds[name] = str(problem)
        for name in [name for name in workers if name not in speeds]:
            length = None if tower == "image" else inputs(named(name), tower, spec, 1).shape[1]
            latencies = {batch: 1000 * median(times) for batch, times in timings[name].items()}
            speeds[name] = Speed(latencies, workers[name].load_s, workers[name].memory_bytes(), length)
    return {row.variant: speeds[row.variant] for row in rows}


class _Failed(Exception):
    """A worker ended, hung or raised; the message says which."""


class _Worker:
    """Near end of a process that holds one artefact open."""

    def __init__(self, connection: Connection) -> None:
        self._connection = connection
        self.load_s: float = self._answer()

    def run(self, batch: Batch) -> list[float]:
        """Return the seconds of each of several runs, after one that doesn't count."""
        self._connection.send(batch)
        seconds: list[float] = self._answer()
        return seconds

    def memory_bytes(self) -> int:
        """Return the growth of the process."""
        self._connection.send(None)
        grown: int = self._answer()
        return grown

    def _answer(self) -> Any:
        try:
            if not self._connection.poll(_TIMEOUT_S):
                raise _Failed(f"gave no answer in {_TIMEOUT_S} s")
            answer = self._connection.recv()
        except (EOFError, OSError) as problem:
            raise _Failed("its process ended") from problem
        if isinstance(answer, str):
            raise _Failed(answer)
        return answer


@contextmanager
def _worker(variant: Variant, artefact: Artefact) -> Iterator[_Worker]:
    context = multiprocessing.get_context("forkserver")
    context.set_forkserver_preload(_PRELOADED)
    near, far = context.Pipe()
    process = context.Process(target=_serve, args=(far, variant, artefact), daemon=True)
    process.start()
    far.close()
    try:
        yield _Worker(near)
    finally:
        near.close()
        process.join(_ENDING_S)  # it ends by itself, and puts away what its libraries shared with others
        process.terminate()
        process.join()


def _serve(connection: Connection, variant: Variant, artefact: Artefact) -> None:
    """Far end: open the artefact, then run each batch that arrives, until the near end is closed."""
    try:
        before, started = memory.resident_bytes(), time.perf_counter()
        encode = variant.load(artefact)
        connection.send(time.perf_counter() - started)
        known: set[tuple[int, ...]] = set()
        while True:
            batch = connection.recv()
            if batch is None:
                connection.send(memory.resident_bytes() - before)
                continue
            connection.send(_timed(lambda: encode(batch), batch.shape in known))  # noqa: B023
            known.add(batch.shape)
    except EOFError:
        return
    except Exception as problem:  # of an engine: the near end gets its message
        connection.send(one_line(problem))


def _timed(run: Callable[[], object], known: bool) -> list[float]:
    """Run once unmeasured, then for about 0.3 s, at least once; a known shape that takes long needs no first run."""
    seconds = [_seconds(run)]
    if known and seconds[0] > _BLOCK_S:
        return seconds
    for _ in range(max(1, min(_MOST_RUNS, int(_BLOCK_S / seconds[0])))):
        seconds.append(_seconds(run))
    return seconds[1:]


def _seconds(run: Callable[[], object]) -> float:
    started = time.perf_counter()
    run()
    return time.perf_counter() - started


def _key(rows: Sequence[Judged]) -> str:
    builds = [[row.variant, row.key, row.recipe] for row in rows]
    return hashlib.sha256(json.dumps([hardware.description(), builds, BATCHES]).encode()).hexdigest()


def _speed(fields: Mapping[str, Any] | str) -> Speed | str:
    if isinstance(fields, str):
        return fields
    latencies = {int(batch): milliseconds for batch, milliseconds in fields["latency_ms"].items()}
    return Speed(**{**fields, "latency_ms": latencies})
