"""A run: the manifest first, then part after part, then what joins them. What a killed run left is taken up again."""

from __future__ import annotations

import json
import tempfile
import time
from collections.abc import Iterable, Iterator, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Protocol

import pyarrow as pa
import pyarrow.parquet as pq

from clip_client.errors import ClipError, InvalidInput, Unavailable
from clip_client.spec import TOWERS, Tower
from clip_embed import manifest as manifests
from clip_embed.attempts import Attempt, Attempts
from clip_embed.inputs.base import Input, Plan
from clip_embed.inputs.lists import store
from clip_embed.manifest import Identity, Manifest
from clip_embed.outputs import kinds
from clip_embed.part import DONE, ERRORS, LEFT_OUT, Books, error_table, scratch
from clip_embed.places import Place
from clip_embed.shares import Share

_READERS = 32  # of records at once
_WAIT_S = 1.0  # between two looks at a part that another process has claimed


@dataclass(frozen=True)
class Job:
    """An input, and the form of its output.

    Attributes:
        source: the input.
        output: kind of the output.
        precision: of the vectors, ``float16`` or ``float32``.
        part_items: items of a part, where the input has no parts of its own.
        towers: to embed; None for all that the input has something for.
        thumbnails: keep a small JPEG of each picture.
    """

    source: Input
    output: str = "clip-retrieval"
    precision: str = "float16"
    part_items: int = 10_000
    towers: tuple[Tower, ...] | None = None
    thumbnails: bool = False

    def identity(self, fingerprint: str) -> Identity:
        """Return what the output depends on."""
        towers = {"towers": self.towers} if self.towers else {}
        described = {"kind": self.source.kind, **self.source.settings, **towers}
        return Identity(fingerprint, described, self.output, self.precision, self.part_items, self.thumbnails)


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
        is_share: other parts are others' work, who tell of them.
    """

    parts: int
    done: int = 0
    books: Books = field(default_factory=Books)
    left_out: int = 0
    failed: dict[int, str] = field(default_factory=dict)
    items: int = 0
    seconds: float = 0.0
    finished: bool = False
    is_share: bool = False

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
        """Tell if nothing was left out, and nothing failed; a share tells of its parts alone, or it would be tried again."""
        if self.is_share:
            return not self.failed
        return not (self.failed or self.unused or self.books.broken)


def prepared(place: Place, job: Job, fingerprint: str) -> Manifest:
    """Return the manifest of a run: the one that is there, else a new one.

    Raises:
        ContractMismatch: the place holds another run.
        InvalidInput: there is nothing to embed, or the place holds something else.
        Unavailable: the input can't be reached.
    """
    identity = job.identity(fingerprint)
    there = manifests.read(place)
    if there is None:
        plan = _planned(job)
        kinds.output(job.output).check(plan.schema)
        parts = store(place, plan)
        planned = Manifest(identity, _towers(job, plan), plan.schema, parts, plan.left_out, plan.has_texts)
        there = manifests.write(place, planned)
    manifests.check(there, identity, place.name)
    return there


def _planned(job: Job) -> Plan:
    try:
        return job.source.plan(job.part_items)
    except ClipError:
        raise
    except OSError as problem:
        raise Unavailable(f"the input can't be read ({problem}): look at its address and credentials") from problem


def _towers(job: Job, plan: Plan) -> tuple[Tower, ...]:
    has = {"image": plan.has_pictures, "text": plan.has_texts}
    if job.towers:
        if lacking := [tower for tower in job.towers if not has[tower]]:
            nouns = {"image": "pictures", "text": "texts"}
            raise InvalidInput(f"the input has no {nouns[lacking[0]]}: name their column or key, or leave them away")
        return job.towers
    return tuple(tower for tower in TOWERS if has[tower])


class Crew(Protocol):
    """Whatever does parts: this process, or workers elsewhere."""

    def attempts(self, numbers: Sequence[int], progress: Progress) -> Iterator[Attempt]:
        """Attempt parts, in any order; tell of items as they are read.

        Raises:
            ClipError: no part can be done any more.
        """


class Here:
    """Crew of this process alone."""

    def __init__(self, attempts: Attempts) -> None:
        self._attempts = attempts

    def attempts(self, numbers: Sequence[int], progress: Progress) -> Iterator[Attempt]:
        """Attempt one part after the other."""
        for number in numbers:
            yield self._attempts.attempt(number, progress.items)


class Run:
    """A run, or a share of it.

    Args:
        place: of the output.
        manifest: of the run.
        share: of the parts.
    """

    def __init__(self, place: Place, manifest: Manifest, share: Share) -> None:
        self._place, self._manifest, self._share = place, manifest, share

    def missing(self) -> list[int]:
        """Return the numbers of this share's parts that aren't done."""
        there = set(self._place.names(DONE))
        return [n for n in self._share.parts(len(self._manifest.parts)) if f"{self._manifest.label(n)}.json" not in there]

    def work(self, crew: Crew, progress: Progress) -> Result:
        """Have the parts done that are missing, then join all if none is.

        Raises:
            ClipError: the engine fails, or the place can't be used; what is done stays.
        """
        start, result = time.monotonic(), Result(len(self._manifest.parts), is_share=self._share.of > 1)
        missing = self.missing()
        progress.begin(len(self._share.parts(result.parts)), len(self._share.parts(result.parts)) - len(missing))
        claimed = self._attempted(missing, crew, progress, result)
        if claimed:
            progress.say(f"waiting for {len(claimed)} parts that another run has begun")
        while claimed:
            time.sleep(_WAIT_S)
            claimed = self._attempted([n for n in self.missing() if n in claimed], crew, progress, result)
        result.seconds = time.monotonic() - start
        self.finish(result)
        return result

    def finish(self, result: Result) -> None:
        """Count what is done, of a share its own parts until all are there; then join the parts."""
        there = [int(name.partition(".")[0]) for name in self._place.names(DONE)]
        result.done, result.left_out = len(there), len(self._manifest.left_out)
        is_whole = result.done == result.parts
        records = self._records(there if is_whole or not result.is_share else set(there) & {*self._share.parts(result.parts)})
        for record in records.values():
            for name in ("read", "taken", "left_out", "partial", "bare", "broken"):
                setattr(result.books, name, getattr(result.books, name) + record[name])
        if is_whole:
            kinds.output(self._manifest.identity.output).finish(
                self._place, [records[n]["output"] for n in range(result.parts)]
            )
            self._join_errors()
            result.finished = True

    def _attempted(self, numbers: Sequence[int], crew: Crew, progress: Progress, result: Result) -> set[int]:
        """Have parts done; return those that other processes are at."""
        claimed = set[int]()
        for attempt in crew.attempts(numbers, progress) if numbers else ():
            result.items += attempt.read
            if attempt.claimed:
                claimed.add(attempt.number)
            elif attempt.reason:
                result.failed[attempt.number] = attempt.reason
                progress.say(f"part {attempt.number} isn't done: {attempt.reason}")
            else:
                progress.part()
        return claimed

    def _records(self, numbers: Iterable[int]) -> dict[int, Mapping[str, Any]]:
        """Return the records of parts that are done, by number."""

        def record(number: int) -> tuple[int, Mapping[str, Any]]:
            return number, json.loads(self._place.read(f"{DONE}/{self._manifest.label(number)}.json") or b"")

        with ThreadPoolExecutor(_READERS) as pool:  # a store answers each in milliseconds, and there may be 100,000
            return dict(pool.map(record, numbers))

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
