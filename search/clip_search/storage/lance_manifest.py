"""Files that a version of a LanceDB table consists of, read from its manifest.

The format is Lance's: protobuf messages of ``table.proto``, of which the fields below are read by their numbers.
"""

from __future__ import annotations

import struct
import uuid
from collections.abc import Iterator
from dataclasses import dataclass

from clip_client.errors import Unavailable

_MAGIC, _FOOTER = b"LANC", struct.Struct("<QHH4s")
_NEWEST = 2**64 - 1  # names of manifests count down from it
_FRAGMENTS, _INDEX_SECTION, _TRANSACTION = 2, 6, 12  # fields of Manifest
_ID, _FILES, _DELETIONS, _ROWS = 1, 2, 3, 4  # of DataFragment
_EXTERNAL = (6, 8, 10)  # of DataFragment: files of row ids, which our tables don't have
_KIND, _READ_VERSION, _DELETION_ID, _DELETED = 1, 2, 3, 4  # of DeletionFile
_BASE = 7  # of DataFile and DeletionFile: it lies in another table
_VARINT, _EIGHT, _LENGTH, _FOUR = 0, 1, 2, 5  # wire types


@dataclass(frozen=True)
class Contents:
    """Files of a version by path in the table's folder; indexes are folders."""

    files: tuple[str, ...]
    indexes: tuple[str, ...]
    transaction: str  # which needn't be there
    rows: int


def names_of(version: int) -> tuple[str, str]:
    """Return the two names that the manifest of a version may have: today's, and the first one."""
    return f"_versions/{_NEWEST - version:020d}.manifest", f"_versions/{version}.manifest"


def contents(manifest: bytes) -> Contents:
    """Return the files of a manifest; raise Unavailable for one that can't be read."""
    try:
        return _contents(manifest)
    except (struct.error, ValueError, IndexError, KeyError) as problem:
        raise Unavailable(f"a manifest of the table can't be read ({problem}): expected one of Lance 2") from problem


def _contents(manifest: bytes) -> Contents:
    at, _, _, magic = _FOOTER.unpack(manifest[-_FOOTER.size :])
    if magic != _MAGIC:
        raise ValueError("it doesn't end as one")
    files: list[str] = []
    indexes: list[str] = []
    rows, transaction = 0, ""
    for number, value in _fields(_message(manifest, at)):
        if number == _FRAGMENTS and isinstance(value, bytes):
            named, count = _fragment(value)
            files += named
            rows += count
        elif number == _INDEX_SECTION and isinstance(value, int):
            indexes += _indexes(_message(manifest, value))
        elif number == _TRANSACTION and isinstance(value, bytes):
            transaction = f"_transactions/{value.decode()}"
    return Contents(tuple(files), tuple(dict.fromkeys(indexes)), transaction, rows)


def _fragment(message: bytes) -> tuple[list[str], int]:
    """Return the files and the rows of a fragment."""
    fragment, files = 0, []
    rows = deleted = 0
    deletions = b""
    for number, value in _fields(message):
        if number in _EXTERNAL:
            raise ValueError("it has row ids in files of their own")
        if number == _ID:
            fragment = _number(value)
        elif number == _FILES:
            file = dict(_fields(_bytes(value)))
            files.append("data/" + _bytes(_own(file)[1]).decode())
        elif number == _DELETIONS:
            deletions = _bytes(value)
        elif number == _ROWS:
            rows = _number(value)
    if deletions:
        kind, version, name, deleted = _deletion_file(deletions)
        files.append(f"_deletions/{fragment}-{version}-{name}.{'bin' if kind else 'arrow'}")
    return files, rows - deleted


def _deletion_file(message: bytes) -> list[int]:
    file = _own(dict(_fields(message)))
    return [_number(file.get(field, 0)) for field in (_KIND, _READ_VERSION, _DELETION_ID, _DELETED)]


def _own(file: dict[int, int | bytes]) -> dict[int, int | bytes]:
    if file.get(_BASE):
        raise ValueError("it shares files with another table")
    return file


def _indexes(section: bytes) -> Iterator[str]:
    for _, index in _fields(section):
        value = dict(_fields(_bytes(index)))
        yield f"_indices/{uuid.UUID(bytes=_bytes(dict(_fields(_bytes(value[1])))[1]))}"


def _message(content: bytes, at: int) -> bytes:
    """Return the message at a place, behind its length."""
    (size,) = struct.unpack_from("<I", content, at)
    message = content[at + 4 : at + 4 + size]
    if len(message) < size:
        raise ValueError("it is cut off")
    return message


def _fields(message: bytes) -> Iterator[tuple[int, int | bytes]]:
    """Yield number and value of each field of a protobuf message: a number, or the bytes of a text or message."""
    at = 0
    while at < len(message):
        key, at = _varint(message, at)
        number, kind = key >> 3, key & 7
        if kind == _VARINT:
            value, at = _varint(message, at)
            yield number, value
        else:
            size, at = (8, at) if kind == _EIGHT else (4, at) if kind == _FOUR else _varint(message, at)
            if kind not in (_EIGHT, _FOUR, _LENGTH) or at + size > len(message):
                raise ValueError("a field of it can't be read")
            yield number, message[at : at + size]
            at += size


def _varint(message: bytes, at: int) -> tuple[int, int]:
    value = shift = 0
    while message[at] & 0x80:
        value |= (message[at] & 0x7F) << shift
        shift, at = shift + 7, at + 1
    return value | message[at] << shift, at + 1


def _number(value: int | bytes) -> int:
    if not isinstance(value, int):
        raise ValueError("a number of it is none")
    return value


def _bytes(value: int | bytes) -> bytes:
    if not isinstance(value, bytes):
        raise ValueError("a message of it is none")
    return value
