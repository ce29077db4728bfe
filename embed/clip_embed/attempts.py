"""Attempts at parts by one process: claimed, tried a few times, and told as what came of them."""

from __future__ import annotations

import errno
import shutil
import tempfile
import time
from collections.abc import Callable
from dataclasses import dataclass

from clip_client.errors import ClipError, Unavailable
from clip_embed.engines.base import Engine
from clip_embed.fetch import Fetcher, FetchOptions
from clip_embed.inputs.kinds import of_settings
from clip_embed.manifest import Manifest
from clip_embed.outputs import kinds
from clip_embed.part import DONE, PartRunner, PartUnread, scratch
from clip_embed.places import Place

_TRIES = 3  # of a part that can't be read or written
_FULL = (errno.ENOSPC, errno.EDQUOT, errno.EFBIG)


@dataclass(frozen=True)
class Attempt:
    """Outcome of an attempt at a part.

    Attributes:
        number: of the part.
        claimed: another process is at it.
        read: items that were read and recorded now.
        reason: why the part isn't done; empty if it is, or if another process is at it.
    """

    number: int
    claimed: bool = False
    read: int = 0
    reason: str = ""


class Attempts:
    """One process' attempts at the parts of a run.

    Args:
        place: of the output.
        manifest: of the run.
        fetch: bounds on fetching pictures.
        engine: embeds.
    """

    def __init__(self, place: Place, manifest: Manifest, fetch: FetchOptions, engine: Engine) -> None:
        described = dict(manifest.identity.input)
        described.pop("towers", None)
        source = of_settings(described.pop("kind"), described)
        self._place, self._manifest, self._fetcher = place, manifest, Fetcher(fetch)
        output = kinds.output(manifest.identity.output)
        self._runner = PartRunner(place, manifest, source, output, engine=engine, fetcher=self._fetcher)

    def attempt(self, number: int, items: Callable[[int], object]) -> Attempt:
        """Do a part, unless it is done or another process is at it; ``items`` is told of items that were read.

        Raises:
            ClipError: the engine fails, or the place can't be used: no other part would fare better.
        """
        label = self._manifest.label(number)
        with self._place.claim(label) as mine:
            if not mine:
                return Attempt(number, claimed=True)
            if self._place.read(f"{DONE}/{label}.json") is not None:
                return Attempt(number)
            _remove_leftovers(self._place, label)
            return self._tried(number, items)

    def close(self) -> None:
        """Stop the threads that fetch."""
        self._fetcher.close()

    def __enter__(self) -> Attempts:
        return self

    def __exit__(self, *problem: object) -> None:
        self.close()

    def _tried(self, number: int, items: Callable[[int], object]) -> Attempt:
        for attempt in range(_TRIES):
            is_last = attempt == _TRIES - 1
            try:
                return Attempt(number, read=self._runner.run(number, items).read)
            except PartUnread as problem:
                if is_last or not problem.may_pass:
                    return Attempt(number, reason=str(problem))
            except ClipError:
                raise
            except OSError as problem:
                if is_last or problem.errno in _FULL:
                    raise self._unwritten(problem) from problem
            time.sleep(2.0**attempt)
        raise AssertionError("unreachable")

    def _unwritten(self, problem: OSError) -> Unavailable:
        """Return the error for a file on the way, which lies beside the output, or in the system's folder for such files."""
        where = self._place.name if self._place.local else tempfile.gettempdir()
        cure = "make room there" if problem.errno in _FULL else "look at it"
        return Unavailable(f"{where} can't be written ({problem}): {cure}, then run again; what is done stays")


def _remove_leftovers(place: Place, label: str) -> None:
    """Remove files on the way of this part, of a process that was killed: whoever has the claim is alone."""
    folder = scratch(place)
    for left in folder.glob(f"part-{label}-*") if folder else ():
        shutil.rmtree(left, ignore_errors=True)
