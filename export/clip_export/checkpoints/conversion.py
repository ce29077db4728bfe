"""Record of a conversion of pickled weights, kept beside the weights and told in the report."""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from clip_export import json_record

RECORD = "converted.json"
"""In a view folder: a record for each file of weights, by its place."""

_SHOWN = 3  # notes in the report's line; the record has all


@dataclass(frozen=True)
class Conversion:
    """Origin of converted weights.

    Attributes:
        source: name of the pickle.
        sha256: of the pickle, over all its parts.
        weights_sha256: of the safetensors file.
        reader: package that read it, with its version.
        notes: on what was left out.
        offline: the process that read it had no network.
        confined: it could write to its own folder only.
    """

    source: str
    sha256: str
    weights_sha256: str
    reader: str
    notes: tuple[str, ...]
    offline: bool
    confined: bool

    @classmethod
    def of(cls, fields: Mapping[str, Any]) -> Conversion | None:
        """Read a record; return None if it isn't whole."""
        names = {field.name for field in dataclasses.fields(cls)}
        if not names <= fields.keys():
            return None
        return cls(**{name: fields[name] for name in names} | {"notes": tuple(fields["notes"])})

    def line(self) -> str:
        """Return the report's line."""
        lacked = [name for name, held in (("network", self.offline), ("writes", self.confined)) if not held]
        not_confined = f"; this system could not forbid {' and '.join(lacked)} while it was read" if lacked else ""
        more = f"; and {len(self.notes) - _SHOWN} more" if len(self.notes) > _SHOWN else ""
        notes = "".join(f"; {note}" for note in self.notes[:_SHOWN]) + more
        return (
            f"weights: converted from {self.source}, sha256 {self.sha256}, to sha256 {self.weights_sha256}{notes}{not_confined}"
        )


@dataclass(frozen=True)
class Origins:
    """Facts about a checkpoint's weights.

    Attributes:
        conversions: of those that were pickled.
        unused: names of tensors that the model has no place for.
    """

    conversions: tuple[Conversion, ...]
    unused: tuple[str, ...]

    def lines(self) -> list[str]:
        """Return the report's lines."""
        lines = [conversion.line() for conversion in self.conversions]
        if self.unused:
            count, first = len(self.unused), self.unused[0]
            lines.append(f"weights: the model has no place for {count} of the checkpoint's tensors, the first is {first}")
        return lines


def in_view(folder: Path) -> dict[Path, Conversion]:
    """Return the conversions of a checkpoint's weights by file; none where its folder is no view."""
    records = json_record.read(folder / RECORD)
    known = {place: Conversion.of(fields) for place, fields in records.items() if isinstance(fields, dict)}
    return {folder / place: conversion for place, conversion in known.items() if conversion}
