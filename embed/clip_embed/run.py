"""A run: the manifest first, then part after part, then what joins them. What a killed run left is taken up again."""

from __future__ import annotations

import errno
import json
import shutil
import tempfile
import time
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Protocol

import pyarrow as pa
import pyarrow.parquet as pq

from clip_client.errors import ClipError, InvalidInput
from clip_client.spec import TOWERS, Tower
from clip_embed import manifest as manifests
from clip_embed.engines.base import Engine
from clip_embed.fetch import Fetcher, FetchOptions
from clip_embed.inputs.base import Input, Plan
from clip_embed.inputs.kinds import of_settings
from clip_embed.inputs.lists import store
from clip_embed.manifest import Identity, Manifest
from clip_embed.outputs import kinds
from clip_embed.part import DONE, ERRORS, LEFT_OUT, Books, PartRunner, error_table, scratch
from clip_embed.places import Place
from clip_embed.shares import Share

_WAIT_S = 1.0  # between two looks at a part that another process has claimed
_TRIES = 3  # of a part that can't be read or written


@dataclass(frozen=True)
class Job:
    """An input, and the form of its output.

    Attributes:
        source: the input.
        output: kind of the output.
        precision: of the vectors, ``float16`` or ``float32``.
        part_items: items of a part, where the input has no parts of its own.
        towers: to embed; None for all that the input has something for.
    """

    source: Input
    output: str = "clip-retrieval"
    precision: str = "float16"
    part_items: int = 10_000
    towers: tuple[Tower, ...] | None = None

    def identity(self, fingerprint: str) -> Identity:
        """Return what the output depends on."""
        towers = {"towers": self.towers} if self.towers else {}
        described = {"kind": self.source.kind, **self.source.settings, **towers}
        return Identity(fingerprint, described, self.output, self.precision, self.part_items)


class Progress(Protocol):
    """Gets told of a run."""

    def begin(self, parts: int, done: int) -> None:
        """Take the number of parts, and of those that are done already."""

    def items(self, count: int) -> None:
        """Take items that were read."""

    def part(self) -> None:
        """Take a part that is done."""

    def say(self, line: str) -> None:
        """Take a remark."""


@dataclass
class Result:
    """Outcome of a run.

    Attributes:
        parts, done: of the manifest, by all runs so far.
        books: of all parts that are done.
        left_out: items that no part has.
        failed: reasons by number, of this run's parts that aren't done.
        items: that this run embedded.
        seconds: that this run took.
        finished: all parts are done and joined.
    """

    parts: int
    done: int = 0
    books: Books = field(default_factory=Books)
    left_out: int = 0
    failed: dict[int, str] = field(default_factory=dict)
    items: int = 0
    seconds: float = 0.0
    finished: bool = False

    @property
    def unused(self) -> int:
        """Number of items that aren't in."""
        return self.books.left_out + self.left_out

    @property
    def read(self) -> int:
        """Number of all items so far."""
        return self.books.taken + self.unused

    @property
    def is_clean(self) -> bool:
        """Tell if nothing was left out, and nothing failed."""
        return not (self.failed or self.unused or self.books.broken)


def prepared(place: Place, job: Job, fingerprint: str) -> Manifest:
    """Return the manifest of a run: the one that is there, else a new one.

    Raises:
        ContractMismatch: the place holds another run.
        InvalidInput: there is nothing to embed, or the place holds something else.
    """
    identity = job.identity(fingerprint)
    there = manifests.read(place)
    if there is None:
        plan = job.source.plan(job.part_items)
        planned = Manifest(identity, _towers(job, plan), plan.schema, store(place, plan), plan.left_out, plan.has_texts)
        there = manifests.write(place, planned)
    manifests.check(there, identity, place.name)
    return there


def _towers(job: Job, plan: Plan) -> tuple[Tower, ...]:
    has = {"image": plan.has_pictures, "text": plan.has_texts}
    if job.towers:
        if lacking := [tower for tower in job.towers if not has[tower]]:
            nouns = {"image": "pictures", "text": "texts"}
            raise InvalidInput(f"the input has no {nouns[lacking[0]]}: name their column or key, or leave them away")
        return job.towers
    return tuple(tower for tower in TOWERS if has[tower])


class Run:
    """One process' work at a run.

    Args:
        place: of the output.
        manifest: of the run.
        fetch: bounds on fetching pictures.
        share: of the parts.
    """

    def __init__(self, place: Place, manifest: Manifest, fetch: FetchOptions, share: Share) -> None:
        self._place, self._manifest, self._fetch, self._share = place, manifest, fetch, share
        self._output = kinds.output(manifest.identity.output)

    def missing(self) -> list[int]:
        """Return the numbers of this share's parts that aren't done."""
        there = set(self._place.names(DONE))
        return [n for n in self._share.parts(len(self._manifest.parts)) if f"{self._manifest.label(n)}.json" not in there]

    def work(self, engine: Engine, progress: Progress) -> Result:
        """Do the parts that are missing, then join all if none is.

        Raises:
            ClipError: the engine fails, or the place can't be used; what is done stays.
        """
        start, result = time.monotonic(), Result(len(self._manifest.parts))
        missing = self.missing()
        progress.begin(len(self._share.parts(result.parts)), len(self._share.parts(result.parts)) - len(missing))
        if missing:
            with self.runner(engine) as runner:
                self._all(missing, runner, progress, result)
        result.seconds = time.monotonic() - start
        self.finish(result)
        return result

    @contextmanager
    def runner(self, engine: Engine) -> Iterator[PartRunner]:
        """Return what does parts with an engine."""
        described = dict(self._manifest.identity.input)
        described.pop("towers", None)
        source = of_settings(described.pop("kind"), described)
        fetcher = Fetcher(self._fetch)
        try:
            yield PartRunner(self._place, self._manifest, source, self._output, engine=engine, fetcher=fetcher)
        finally:
            fetcher.close()

    def finish(self, result: Result) -> None:
        """Count what is done, and join the parts once all are."""
        records = self._records()
        result.done, result.left_out = len(records), len(self._manifest.left_out)
        for record in records.values():
            for name in ("read", "taken", "left_out", "partial", "bare", "broken"):
                setattr(result.books, name, getattr(result.books, name) + record[name])
        if result.done == result.parts:
            self._output.finish(self._place, [records[n]["output"] for n in range(result.parts)])
            self._join_errors()
            result.finished = True

    def _all(self, missing: Sequence[int], runner: PartRunner, progress: Progress, result: Result) -> None:
        """Do parts, those that others have claimed last."""
        claimed = list[int]()
        for number in missing:
            if not self._attempt(number, runner, progress, result):
                claimed.append(number)
        if claimed:
            progress.say(f"waiting for {len(claimed)} parts that another run has begun")
        while claimed:
            time.sleep(_WAIT_S)
            there = set(self.missing())
            claimed = [n for n in claimed if n in there and not self._attempt(n, runner, progress, result)]

    def _attempt(self, number: int, runner: PartRunner, progress: Progress, result: Result) -> bool:
        """Do a part; return false if another process is at it."""
        with self._place.claim(self._manifest.label(number)) as mine:
            if not mine:
                return False
            if number not in self.missing():
                return True
            if self._place.local:
                _remove_leftovers(self._place, self._manifest.label(number))
            for attempt in range(_TRIES):
                try:
                    result.items += runner.run(number, progress.items).read
                    progress.part()
                    return True
                except FileNotFoundError as problem:
                    result.failed[number] = _reason(problem)
                    break
                except OSError as problem:
                    result.failed[number] = _reason(problem)
                    if _is_full(problem) or attempt == _TRIES - 1:
                        break
                    time.sleep(2.0**attempt)
            progress.say(f"part {number} isn't done: {result.failed[number]}")
            return True

    def _records(self) -> dict[int, Mapping[str, Any]]:
        """Return the records of parts that are done, by number."""
        records = {}
        for name in self._place.names(DONE):
            if content := self._place.read(f"{DONE}/{name}"):
                records[int(name.partition(".")[0])] = json.loads(content)
        return records

    def _join_errors(self) -> None:
        """Write ``errors.parquet``, with the errors of all parts; a run without any has an empty one."""
        if "errors.parquet" in self._place.names(""):
            return
        outside = [(name, reason, LEFT_OUT) for name, reason in sorted(self._manifest.left_out.items())]
        with tempfile.TemporaryDirectory(prefix="errors-", dir=scratch(self._place)) as folder:
            file = Path(folder) / "errors.parquet"
            with pq.ParquetWriter(file, error_table(None, []).schema) as writer:
                writer.write_table(error_table(None, outside))
                for name in self._place.names(ERRORS):
                    writer.write_table(pq.read_table(pa.BufferReader(self._place.read(f"{ERRORS}/{name}") or b"")))
            self._place.take(file, "errors.parquet")


def _remove_leftovers(place: Place, label: str) -> None:
    """Remove files on the way of this part, of a process that was killed: whoever has the claim is alone."""
    folder = scratch(place)
    for left in folder.glob(f"part-{label}-*") if folder else ():
        shutil.rmtree(left, ignore_errors=True)


def _is_full(problem: OSError) -> bool:
    return problem.errno in (errno.ENOSPC, errno.EDQUOT)


def _reason(problem: Exception) -> str:
    return str(problem) if isinstance(problem, ClipError) else f"{problem}"
