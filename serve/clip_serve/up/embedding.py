"""Inputs that aren't folders or lists of files: ``clipserve embed`` makes embeddings of them, which ``search import`` takes."""

from __future__ import annotations

import glob
import hashlib
import os
import re
import shutil
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

import pyarrow as pa
import pyarrow.parquet as pq
from braceexpand import braceexpand

from clip_client.embedded_files import RUN
from clip_client.errors import InvalidInput, Unavailable
from clip_client.picture_files import scan
from clip_client.search import Search
from clip_client.spec import ModelSpec
from clip_serve.up.adding import Books, closed
from clip_serve.up.messages import remark, say
from clip_serve.up.options import Options
from clip_serve.up.ownership import Place
from clip_serve.up.parts import Part
from clip_serve.up.servers import Served
from clip_serve.up.stop import Stop
from clip_serve.up.web_pictures import shown

_CLOSING = re.compile(r"read [\d,]+ = [\d,]+ embedded \+ ([\d,]+) left out")
_PARTS = re.compile(r"([\d,]+) of ([\d,]+) parts are done")
_END_S = 20  # patience with a batch under way
_NAMED = 20  # items left out that are named; the file has all


@dataclass
class Embedded:
    """Items of an input that ``clipserve embed`` takes.

    Args:
        source: path, URL or pattern, as ``clipserve embed`` takes it.
        options: of the run.

    Attributes:
        folder: of the embeddings; it lies beside the database.
    """

    source: str
    options: Options
    folder: Path = Path()
    is_whole: bool = False

    def prepare(self, place: Place, spec: ModelSpec, stop: Stop) -> int:
        """Embed what isn't embedded yet; return the number of items left out.

        Raises:
            InvalidInput: the input can't be embedded; the lines above say why.
            Stopped: a signal came; what is embedded stays.
        """
        self.folder = place.folder.resolve() / "embedded" / self.digest / _state(self.source, spec.fingerprint)
        where = ["--repository", str(self.options.repository), "--name", spec.name, "--part", "1/1"]
        form = ["--format", "parquet", "--thumbnails", *where, *self.options.reading]
        part = Part("the embedding", ["embed", *form, "--", self.source, str(self.folder)], out=say)
        try:
            status = part.wait_ended(stop)
        finally:
            part.end(_END_S)
        if (left_out := _last(_CLOSING, part.lines)) is None:
            raise InvalidInput(f"{told(self.source)} can't be embedded (exit status {status}): the lines above say why")
        parts = _last(_PARTS, part.lines) or (0, 0)
        self.is_whole = parts[0] == parts[1]
        _name_errors(self.folder)
        return left_out[0] + parts[1] - parts[0]

    @property
    def digest(self) -> str:
        """Digest of the input's name and of the way it is read, the same as long as both are."""
        place = self.source if "://" in self.source or ":" in self.source else os.path.abspath(self.source)
        return _digest([place, *self.options.reading])

    def add(self, collection: str, served: Served, stop: Stop) -> Books:
        """Bring a collection in line with the embeddings.

        Raises:
            Unavailable: a server ended, or the import did before its end.
            Stopped: a signal came; what is in stays.
        """
        if not any(self.folder.glob("part-*.parquet")):
            say(f"nothing of {told(self.source)} can be imported")
            return Books("", 0, 0, 0)
        place = ["--url", served.url, "--collection", collection, "--prefix", f"{self.digest}-"]
        part = Part("the import", ["search", "import", str(self.folder), *place], out=say)
        try:
            status = part.wait_ended(stop)
        finally:
            part.end(_END_S)
        if (books := closed(part)) is None:
            served.check()
            raise Unavailable(f"the import ended before its end (exit status {status}): the lines above say why")
        return books

    def remove_former(self, search: Search, collection: str) -> None:
        """Remove rows and files of what the input was before it changed, once all of it is in as it is now."""
        run = next(filter(None, map(_run, sorted(self.folder.glob("part-*.parquet")))), "")
        if not (self.is_whole and run):
            return
        former = f"id LIKE '{self.digest}-%' AND NOT id LIKE '{self.digest}-{run}-%'"
        if removed := search.delete(collection, where=former):
            say(f"{removed} rows removed of {told(self.source)} as it was before")
        for folder in self.folder.parent.iterdir():
            if folder != self.folder:
                shutil.rmtree(folder, ignore_errors=True)


def told(source: str) -> str:
    """Return an input's name for messages: without password and query of a URL, and without the command of a pipe."""
    if source.startswith("pipe:"):
        return "the pipe"
    return shown(source).partition("?")[0] if "://" in source else source


def is_for_embed(source: str) -> bool:
    """Tell an input of ``clipserve embed`` from a folder of pictures, or a list of them."""
    if "://" in source or source.startswith("pipe:"):
        return True
    path = Path(source)
    if path.is_dir():
        return _has_none_but(path, (*_SHARDS, *_TABLES, ".arrow"))
    if os.path.lexists(source):
        return source.lower().endswith((*_SHARDS, *_TABLES))
    return bool(set("{*?[") & set(source))


_SHARDS = (".tar", ".tar.gz", ".tgz", ".tar.zst", ".tar.xz", ".tar.bz2")
_TABLES = (".parquet", ".csv", ".tsv", ".jsonl", ".ndjson", ".arrow")


def _has_none_but(folder: Path, endings: tuple[str, ...]) -> bool:
    """Tell if a folder has such files, and no folder of pictures is meant."""
    has_some = any(name.lower().endswith(endings) for _, _, names in os.walk(folder) for name in names)
    return has_some and not scan(folder).pictures


def _state(source: str, fingerprint: str) -> str:
    """Return a digest of the checkpoint and of the input's files, as far as they lie here: others are taken as unchanged."""
    states = []
    for path in sorted(_files(source)):
        status = os.stat(path)
        states.append(f"{path} {status.st_size} {status.st_mtime_ns}")
    return _digest([fingerprint, *states])


def _files(source: str) -> Iterator[str]:
    if "://" in source or source.startswith("pipe:"):
        return
    try:
        patterns = [source] if os.path.exists(source) else list(braceexpand(source, escape=False))
    except ValueError:  # of which clipserve embed says more
        return
    for pattern in patterns:
        for path in [pattern] if os.path.exists(pattern) else glob.glob(pattern):
            if os.path.isdir(path):
                yield from (os.path.join(root, name) for root, _, names in os.walk(path) for name in names)
            else:
                yield path


def _digest(words: Sequence[str]) -> str:
    return hashlib.sha256("\0".join(words).encode("utf-8", "surrogateescape")).hexdigest()[:12]


def _last(pattern: re.Pattern[str], lines: Sequence[str]) -> tuple[int, ...] | None:
    """Return the numbers of the last line that has a pattern."""
    matches = [match for line in lines if (match := pattern.match(line))]
    return tuple(int(number.replace(",", "")) for number in matches[-1].groups()) if matches else None


def _name_errors(folder: Path) -> None:
    """Print what was left out, the first items by name."""
    files = [folder / "errors.parquet"] if (folder / "errors.parquet").is_file() else sorted(folder.glob("_clipserve/errors/*"))
    rows = [row for file in files for row in pq.read_table(file, columns=["item", "reason"]).to_pylist()]
    for row in rows[:_NAMED]:
        remark(f"left out {row['item']}: {row['reason']}")
    if len(rows) > _NAMED:
        remark(f"{len(rows) - _NAMED} more: {files[0]}")


def _run(file: Path) -> str:
    try:
        return str((pq.read_schema(file).metadata or {}).get(RUN, b"").decode("ascii"))
    except (pa.ArrowException, OSError, ValueError):
        return ""
