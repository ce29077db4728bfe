"""Manifest of a run: its parts and what they depend on, written before the first part, and the same ever after."""

from __future__ import annotations

import base64
import hashlib
import json
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, fields, replace
from typing import Any

import pyarrow as pa

from clip_client.errors import ContractMismatch, InvalidInput
from clip_client.spec import Tower
from clip_embed.inputs.base import PartOf
from clip_embed.places import OWN, Place

FORMAT = 1
_FILE = f"{OWN}/manifest.json"


@dataclass(frozen=True)
class Identity:
    """Facts that the output's content depends on; a run with others is another run.

    Attributes:
        fingerprint: of the checkpoint.
        input: kind and settings of the input.
        output: kind of the output.
        precision: ``float16`` or ``float32``.
        part_items: asked for.
        thumbnails: rows have small pictures.
    """

    fingerprint: str
    input: Mapping[str, Any]
    output: str
    precision: str
    part_items: int
    thumbnails: bool = False


@dataclass(frozen=True)
class Manifest:
    """Plan of a run.

    Attributes:
        identity: see there.
        towers: that are embedded.
        schema: of the own columns.
        parts: pieces of the input.
        left_out: reasons by name, of what is in no part.
        has_texts: its items may have captions, embedded or not.
    """

    identity: Identity
    towers: tuple[Tower, ...]
    schema: pa.Schema
    parts: Sequence[PartOf]
    left_out: Mapping[str, str]
    has_texts: bool

    def label(self, number: int) -> str:
        """Return the number of a part as it stands in file names."""
        return f"{number:0{len(str(max(0, len(self.parts) - 1)))}d}"

    @property
    def run(self) -> str:
        """Return a name of the run: the same for the same items in the same parts, whatever form the output has."""
        formless = replace(self, identity=replace(self.identity, output="", precision="", thumbnails=False))
        return hashlib.sha256(formless.to_json()).hexdigest()[:12]

    def to_json(self) -> bytes:
        """Return it as it is stored."""
        schema = base64.b64encode(self.schema.serialize().to_pybytes()).decode()
        content = {"format": FORMAT, **asdict(self), "schema": schema}
        return json.dumps(content, indent=1).encode()

    @classmethod
    def from_json(cls, content: bytes, name: str) -> Manifest:
        """Read it; raise InvalidInput for a file of another version, or one that is damaged."""
        try:
            read = json.loads(content)
            if read.pop("format") != FORMAT:
                raise ValueError("another format")
            schema = pa.ipc.read_schema(pa.py_buffer(base64.b64decode(read.pop("schema"))))
            identity = Identity(**read.pop("identity"))
            return cls(identity=identity, schema=schema, towers=tuple(read.pop("towers")), **read)
        except (ValueError, TypeError, KeyError, AttributeError, pa.ArrowException) as problem:
            raise InvalidInput(
                f"{name} holds a run that can't be read ({problem}): another version's, or damaged; choose another output"
            ) from problem


def read(place: Place) -> Manifest | None:
    """Return the manifest of a place; None where no run has begun."""
    content = place.read(_FILE)
    return None if content is None else Manifest.from_json(content, place.name)


def write(place: Place, manifest: Manifest) -> Manifest:
    """Store a manifest, unless another process was faster; return the one that is there."""
    if place.create(_FILE, manifest.to_json()):
        return manifest
    there = read(place)
    assert there  # noqa: S101  (somebody has just made it, and nobody removes it)
    return there


def check(manifest: Manifest, identity: Identity, name: str) -> None:
    """Raise ContractMismatch if a place holds another run than this one."""
    before = manifest.identity
    differences = [
        f"{_NAMES[field.name]} {_told(getattr(before, field.name))} there, {_told(getattr(identity, field.name))} here"
        for field in fields(Identity)
        if _plain(getattr(before, field.name)) != _plain(getattr(identity, field.name))
    ]
    if differences:
        raise ContractMismatch(f"{name} holds another run ({'; '.join(differences)}): choose another output")


_NAMES = {
    "fingerprint": "checkpoint",
    "input": "input",
    "output": "format",
    "precision": "precision",
    "part_items": "--part-items",
    "thumbnails": "--thumbnails",
}


def _plain(value: Any) -> Any:
    """Return a value as JSON has it, in which tuples are lists."""
    return json.loads(json.dumps(value, default=str))


def _told(value: Any) -> str:
    return json.dumps(_plain(value)) if isinstance(value, Mapping) else str(value)
