"""Adding of pictures: the command ``search add``, and its books."""

from __future__ import annotations

import contextlib
import re
from dataclasses import dataclass
from pathlib import Path

from clip_client.errors import Conflict, Unavailable
from clip_client.search import Search
from clip_serve.up.messages import say
from clip_serve.up.parts import Part, Sink
from clip_serve.up.servers import Served
from clip_serve.up.stop import Stop

_CLOSING = re.compile(r"read \d+ = (\d+) added \+ \d+ unchanged \+ (\d+) replaced \+ (\d+) left out")
_PRUNING = ": --prune removes "  # in the line about rows whose files are gone
_STOPPED = "stopped;"  # opens the line in front of the books of a run that didn't get to its end
_END_S = 10  # patience with requests under way
_TRIES = 20  # half a second apart, to make a collection
_SETTLE_S = 0.5  # until the death of a server, which a request may notice first, is known here


@dataclass(frozen=True)
class Job:
    """Pictures to add: a folder, the collection, a table with more about them."""

    folder: Path
    collection: str
    metadata: Path | None = None


@dataclass(frozen=True)
class Books:
    """Closing line of an ``add``, and its counts."""

    line: str
    added: int
    replaced: int
    left_out: int


def tell(line: str) -> None:
    """Print a line of ``search add``; where it names that command's flag, the flag that is meant here is named instead."""
    say(f"{line.partition(_PRUNING)[0]}: up --watch removes such rows" if is_about_gone(line) else line)


def is_about_gone(line: str) -> bool:
    """Tell if a line counts rows whose files are gone, and stay."""
    return _PRUNING in line


def add(job: Job, served: Served, stop: Stop, *, out: Sink = tell, err: Sink | None = None) -> Books:
    """Bring a collection in line with a folder; rows whose files are gone stay.

    Args:
        out: gets the lines of ``search add``.
        err: gets its remarks, such as names of bad pictures; None leaves it the terminal.

    Raises:
        Unavailable: a server ended, or the adding did before its end.
        Stopped: a signal came; what is in stays.
    """
    table = [f"--metadata={job.metadata.absolute()}"] if job.metadata else []
    place = ["--url", served.url, "--collection", job.collection]
    part = Part("the adding", ["search", "add", str(job.folder.absolute()), *place, *table], out=out, err=err)
    try:
        status = part.wait_ended(stop)
    finally:
        part.end(_END_S)
    books = closed(part)
    if books is None or any(line.startswith(_STOPPED) for line in part.lines):
        stop.wait(_SETTLE_S)
        served.check()
        raise Unavailable(f"the adding ended before its end (exit status {status}): the lines above say why")
    return books


def collection_for(search: Search, served: Served, wanted: str, stop: Stop) -> str:
    """Return the collection for pictures, made if it isn't there: another than the wanted one if that has another model's."""
    for _ in range(_TRIES):
        with contextlib.suppress(Conflict, Unavailable):  # another run makes it at this moment
            return _collection(search, served, wanted)
        stop.wait(_SETTLE_S)
    return _collection(search, served, wanted)


def _collection(search: Search, served: Served, wanted: str) -> str:
    models = {about["name"]: str(about["fingerprint"] or "") for about in search.collections()}
    model = re.sub(r"[^A-Za-z0-9_-]+", "-", served.model.rpartition("/")[2])
    names = [wanted, *(f"{wanted}-{suffix}"[:64] for suffix in (model, served.fingerprint))]
    name = next(name for name in names if models.get(name, served.fingerprint) in ("", served.fingerprint))
    if name not in models:
        search.create(name)
    if name != wanted:
        say(f"collection {wanted} holds vectors of another model ({models[wanted]}): the pictures go into {name}")
    return name


def closed(part: Part) -> Books | None:
    """Return the books of a command that closed them; None for one that ended before."""
    matches = (_CLOSING.fullmatch(line) for line in reversed(part.lines))
    return next((Books(match[0], *map(int, match.groups())) for match in matches if match), None)
