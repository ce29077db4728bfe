"""Runs of ``clipserve embed`` that wrote a folder: the checkpoint, and what isn't done yet."""

from __future__ import annotations

import json
import re
from collections.abc import Iterable
from pathlib import Path

import pyarrow as pa

from clip_client import embedded_files
from clip_client.embedded_files import THUMBNAIL
from clip_client.errors import ContractMismatch

_OWN = "_clipserve"
_LONGEST = 64  # characters of a fingerprint


def run_of(schema: pa.Schema | None) -> str:
    """Return the run that wrote a file; empty for a file of another program."""
    return _told(schema, embedded_files.RUN)


def plain_schema(schema: pa.Schema) -> pa.Schema:
    """Return the schema of a run's file without the column of thumbnails; that of another program's unchanged."""
    at = schema.get_field_index(THUMBNAIL) if run_of(schema) else -1
    return schema.remove(at) if at >= 0 else schema


def without_thumbnails(batch: pa.RecordBatch) -> tuple[pa.RecordBatch, list[bytes | None]]:
    """Return a batch of a run without the column of thumbnails, and those; none for one that has no such column."""
    plain = plain_schema(batch.schema)
    if len(plain) == len(batch.schema):
        return batch, []
    return batch.select(plain.names), batch.column(THUMBNAIL).to_pylist()


def part_of(stem: str) -> str:
    """Return the number of a part as a file's name has it; the name itself where it has none."""
    match = re.match(embedded_files.PART_FILE, stem)
    return match[1] if match else stem


def fingerprint(schemas: Iterable[pa.Schema], given: str, folder: Path) -> str:
    """Return the checkpoint of a folder's vectors: the one that its files name, else the given one; empty if nobody knows.

    Raises:
        ContractMismatch: there are several.
    """
    named = {told for schema in schemas if (told := _told(schema, embedded_files.FINGERPRINT))}
    if len(named) > 1:
        raise ContractMismatch(
            f"{folder} has vectors of several checkpoints ({', '.join(sorted(named))}): import those of each by themselves"
        )
    own = next(iter(named), given)
    if given and own != given:
        raise ContractMismatch(
            f"{folder} has vectors of checkpoint {own}, --fingerprint says {given}: leave --fingerprint away, or embed again"
        )
    return own


def check(folder: Path, own: str, collection: str, there: str) -> None:
    """Raise ContractMismatch if a collection holds vectors of another checkpoint than a folder."""
    if own and there and own != there:
        raise ContractMismatch(
            f"{folder} has vectors of checkpoint {own}, collection {collection} holds those of {there}: "
            "import it into another, --collection NAME, or embed the pictures again with the collection's checkpoint"
        )


def has_run(folder: Path) -> bool:
    """Tell if ``clipserve embed`` wrote to a folder."""
    return (folder / _OWN / "manifest.json").is_file()


def unfinished(folder: Path) -> str:
    """Tell of a run that isn't done; empty for one that is, and where no run is known."""
    try:
        parts = len(json.loads((folder / _OWN / "manifest.json").read_bytes())["parts"])
        ready = sum(name.suffix == ".json" for name in (folder / _OWN / "done").glob("[!.]*"))
    except (OSError, ValueError, KeyError, TypeError, RecursionError):
        return ""
    return f"{ready} of {parts} parts are done: run clipserve embed again for the rest" if ready < parts else ""


def _told(schema: pa.Schema | None, key: bytes) -> str:
    """Return a word that a file says of itself; files are of anybody, and words become ids and parts of messages."""
    metadata = schema.metadata if schema is not None else None
    return re.sub(r"[^0-9A-Za-z_.-]", "_", (metadata or {}).get(key, b"").decode("ascii", "replace")[:_LONGEST])
