"""webdataset: tar files whose members with one key make an item: ``0001.jpg``, ``0001.txt``, ``0001.json``.

Rules of the format: https://github.com/webdataset/webdataset#the-webdataset-format; a key ends at the first dot of a base name.
"""

from __future__ import annotations

import contextlib
import subprocess
import tarfile
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import asdict, dataclass, field
from itertools import islice
from typing import Any, BinaryIO, cast

import pyarrow as pa

from clip_client.errors import ClipError, InvalidInput
from clip_client.file_names import as_id
from clip_client.picture_files import ENDINGS
from clip_client.preprocess import Limits
from clip_client.text_files import decoded, parsed_json
from clip_embed import fields
from clip_embed.chunks import Chunk, SourceProblem, batched, text_of
from clip_embed.inputs.base import PartOf, Plan
from clip_embed.inputs.braces import expanded
from clip_embed.locations import open_read, opened_url, remote_errors, shown
from clip_embed.places import Place

PIPE = "pipe:"
_SEEN = 1_000  # items whose JSON tells the columns
_MOST_TEXT = 2**20  # bytes of a caption or of JSON
_BUFFER = 2**20
_COLUMNS = ("key", "shard")
_RESERVED = (*_COLUMNS, *fields.RESERVED)


@dataclass
class _Sample:
    """Members of one key by ending; None for a member that is too large."""

    key: str
    members: dict[str, bytes | None] = field(default_factory=dict)


@dataclass(frozen=True)
class WebDataset:
    """Shards of webdataset.

    Attributes:
        location: path or URL with braces or stars, or ``pipe:`` and a command that writes a tar.
        image_keys: endings of pictures, the first that an item has is taken; none for all known ones.
        caption_keys: endings of captions.
    """

    location: str
    image_keys: tuple[str, ...] = ()
    caption_keys: tuple[str, ...] = ("txt", "caption")

    kind = "webdataset"

    @property
    def settings(self) -> dict[str, Any]:
        """Return the attributes."""
        return asdict(self)

    def plan(self, part_items: int) -> Plan:
        """Make a part of each shard; the first one that can be read tells the columns."""
        shards = self._shards()
        samples = self._first_samples(shards)
        objects = [self._fields(sample)[0] for sample in samples]
        own = fields.schema_of(objects, _RESERVED)
        if not any(self._picture(sample) is not None for sample in samples) and samples:
            endings = sorted({ending for sample in samples for ending in sample.members})
            expected = ";".join(self.image_keys) or "a picture's ending"
            raise InvalidInput(
                f"{shown(shards[0])} has no pictures: its items have {', '.join(endings)}, not {expected}: pass --image-key"
            )
        has_texts = any(self._caption(sample)[0] is not None for sample in samples)
        schema = pa.schema([*(pa.field(name, pa.string()) for name in _COLUMNS), *own])
        return Plan([{"shard": shard} for shard in shards], schema, has_pictures=True, has_texts=has_texts)

    def chunks(self, part: PartOf, schema: pa.Schema, place: Place) -> Iterator[Chunk]:
        """Read a shard from its first to its last member."""
        own = pa.schema([column for column in schema if column.name not in _COLUMNS])
        samples = _samples(part["shard"])
        problem: SourceProblem | None = None

        def whole() -> Iterator[_Sample]:
            nonlocal problem
            try:
                yield from samples
            except SourceProblem as told:
                problem = told  # once the items before it are passed on

        for batch in batched(whole()):
            yield self._chunk(part["shard"], batch, own, schema)
        if problem:
            raise problem

    def _chunk(self, shard: str, samples: Sequence[_Sample], own: pa.Schema, schema: pa.Schema) -> Chunk:
        problems: dict[int, str] = {}
        notes: dict[int, str] = {}
        objects, texts, pictures = [], [], []
        for n, sample in enumerate(samples):
            item, no_fields = self._fields(sample)
            text, no_text = self._caption(sample)
            picture = self._picture(sample)
            objects.append(item)
            texts.append(text)
            pictures.append(picture[1] if picture else None)
            if picture and picture[1] is None:
                problems[n] = f"the picture has more than {Limits().image_bytes:,} bytes: pass a smaller one"
            elif no_fields or no_text:
                notes[n] = f"{no_fields or no_text}; the item goes in without it"
        names = [as_id(sample.key) for sample in samples]
        first = [pa.array(names, pa.string()), pa.array([as_id(shown(shard))] * len(names), pa.string())]
        rest = fields.batch_of(objects, own).columns if len(own) else []
        batch = pa.RecordBatch.from_arrays([*first, *rest], schema=schema)
        return Chunk(names, pictures, texts, batch, problems, notes)

    def _shards(self) -> list[str]:
        if self.location.startswith(PIPE):
            return expanded(self.location)
        shards = [shard for pattern in expanded(self.location) for shard in _matches(pattern)]
        if not shards:
            raise InvalidInput(f"no shards at {shown(self.location)}: expected tar files, e.g. 'data/{{00000..00049}}.tar'")
        return shards

    def _first_samples(self, shards: Iterable[str]) -> list[_Sample]:
        reasons = []
        for shard in shards:
            samples = list[_Sample]()
            try:
                samples += islice(_samples(shard), _SEEN)
            except SourceProblem as problem:
                reasons.append(problem.reason)
            except (OSError, ClipError) as problem:
                reasons.append(f"{shown(shard)}: {problem}")
            if samples:  # also where it ends early: its part will say so
                return samples
        raise InvalidInput(f"no item in {shown(self.location)}{': ' + reasons[0] if reasons else ', whose shards are empty'}")

    def _picture(self, sample: _Sample) -> tuple[str, bytes | None] | None:
        """Return the ending and the content of an item's picture; None for an item without one."""
        if self.image_keys:
            return next(((key, sample.members[key]) for key in self.image_keys if key in sample.members), None)
        return next(
            ((key, content) for key, content in sample.members.items() if f".{key.rpartition('.')[2]}" in ENDINGS), None
        )

    def _caption(self, sample: _Sample) -> tuple[str | None, str]:
        """Return an item's caption and the reason why it can't be read."""
        key = next((key for key in self.caption_keys if key in sample.members), None)
        if key is None:
            return None, ""
        content = sample.members[key]
        if content is None:
            return None, f"its .{key} has more than {_MOST_TEXT:,} bytes"
        try:
            return text_of(decoded(content)[0]), ""
        except InvalidInput as problem:
            return None, f"its .{key} {problem}"

    def _fields(self, sample: _Sample) -> tuple[dict[str, Any], str]:
        content = sample.members.get("json")
        if content is None:
            return {}, ""
        try:
            parsed = parsed_json(decoded(content)[0])
        except InvalidInput as problem:
            return {}, f"its .json {problem}"
        if not isinstance(parsed, dict):
            return {}, f"its .json holds a {type(parsed).__name__}: expected an object"
        return parsed, ""


def _matches(pattern: str) -> list[str]:
    """Return the files of a pattern with stars, or of a folder; a plain name stays, whether or not it is there."""
    if "://" in pattern:
        if not set("*?[") & set(pattern):
            return [pattern]
        files, path = opened_url(pattern)
        with remote_errors(pattern):
            return [files.unstrip_protocol(name) for name in sorted(files.glob(path))]
    import glob
    import os

    if os.path.isdir(pattern):
        return sorted(glob.glob(os.path.join(glob.escape(pattern), "**", "*.tar*"), recursive=True))
    return sorted(glob.glob(pattern)) if set("*?[") & set(pattern) and not os.path.exists(pattern) else [pattern]


def _samples(shard: str) -> Iterator[_Sample]:
    """Yield the items of a shard, members with one key that follow each other."""
    sample: _Sample | None = None
    with _tar(shard) as members:
        for name, content in members:
            folder, _, base = name.rpartition("/")
            stem, dot, ending = base.partition(".")
            if not stem or not dot:  # of macOS, and names without an ending
                continue
            key = f"{folder}/{stem}" if folder else stem
            if sample is None or sample.key != key:
                if sample is not None:
                    yield sample
                sample = _Sample(key)
            sample.members[ending.lower()] = content
    if sample is not None:
        yield sample


@contextlib.contextmanager
def _tar(shard: str) -> Iterator[Iterator[tuple[str, bytes | None]]]:
    """Open a tar, compressed or not, as a stream of names and contents; None for one that is too large."""
    with _stream(shard) as (stream, finish):
        yield _members(shard, stream, finish)


def _members(shard: str, stream: BinaryIO, finish: Callable[[], None]) -> Iterator[tuple[str, bytes | None]]:
    try:
        with tarfile.open(fileobj=stream, mode="r|*", bufsize=_BUFFER) as tar:
            for member in tar:
                if member.isreg():
                    yield member.name, _content(tar, member)
                tar.members = []  # type: ignore[attr-defined]  # which tarfile keeps for all of them
    except (tarfile.TarError, EOFError, ValueError) as problem:
        finish()
        raise SourceProblem(shown(shard), f"the tar ends early or is damaged ({problem}): what follows is lost") from problem
    finish()


def _content(tar: tarfile.TarFile, member: tarfile.TarInfo) -> bytes | None:
    ending = member.name.rpartition("/")[2].partition(".")[2].lower()
    most = _MOST_TEXT if ending in ("txt", "json", "caption", "text", "cls") else Limits().image_bytes
    if member.size > most:
        return None
    opened = tar.extractfile(member)
    content = opened.read() if opened else b""
    if len(content) < member.size:
        raise tarfile.ReadError(f"{member.name} has {len(content):,} of {member.size:,} bytes")
    return content


@contextlib.contextmanager
def _stream(shard: str) -> Iterator[tuple[BinaryIO, Callable[[], None]]]:
    """Open a shard for reading; the function is called at its end, and raises OSError for a command that failed."""
    if not shard.startswith(PIPE):
        with open_read(shard) as file:
            yield file, lambda: None
        return
    # A pipe: is a command of whoever calls clipserve embed, for a shell, as webdataset has it.
    process = subprocess.Popen(shard.removeprefix(PIPE), shell=True, stdout=subprocess.PIPE)  # noqa: S602
    assert process.stdout  # noqa: S101  (a pipe)
    output = cast(BinaryIO, process.stdout)

    def finish() -> None:
        while output.read(_BUFFER):  # padding behind the archive, or the command is told that nobody reads
            pass
        if status := process.wait():
            raise OSError(f"the command of {shard[:200]} failed with status {status}")

    try:
        yield output, finish
    finally:
        output.close()
        if process.poll() is None:
            process.kill()
        process.wait()
