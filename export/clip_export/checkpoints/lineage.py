"""Lineage of a checkpoint that was learned from another: names of its files, and the reader."""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal, get_args

from clip_client.errors import InvalidInput
from clip_client.printable_text import printable

LINEAGE = "lineage.json"
"""In the checkpoint's folder: parent, towers, rows, settings."""

HELD_OUT = "learning/held_out.parquet"
"""In the checkpoint's folder: the clicks that it wasn't taught."""

PICTURES = "pictures.parquet"
"""Beside the clicks: the pictures' vectors as the collection has them."""

_MOST_BYTES = 2**20

Taught = Literal["text", "both"]


@dataclass(frozen=True)
class Lineage:
    """Origin of a checkpoint.

    Attributes:
        label: of its parent.
        fingerprint: of its parent.
        space: of its parent's embeddings; empty where the parent names none.
        image_fingerprint: of its parent's image tower; empty where the parent names none.
        tower: ``text`` where the pictures' vectors are the parent's, else ``both``.
        facts: everything else, as it was written.
    """

    label: str
    fingerprint: str
    space: str
    image_fingerprint: str
    tower: Taught
    facts: Mapping[str, Any]

    def lines(self) -> list[str]:
        """Return a line about the parent, and one with the facts."""
        towers = "its text tower" if self.tower == "text" else "both towers"
        first = f"Learned from {printable(self.label)} (fingerprint {printable(self.fingerprint)}): {towers}"
        facts = ", ".join(_facts(self.facts))
        return [first, f"Learning: {facts}"] if facts else [first]


def read(folder: Path) -> Lineage | None:
    """Read the lineage of a checkpoint's folder; return None where there is none.

    Raises:
        InvalidInput: if it isn't as ``clipserve learn`` writes it.
    """
    path = folder / LINEAGE
    try:
        if path.stat().st_size > _MOST_BYTES:
            raise InvalidInput(f"{path} has {path.stat().st_size:,} bytes, expected at most {_MOST_BYTES:,}: it is no lineage")
        content = json.loads(path.read_text(encoding="utf-8"))
        parent, tower = content["parent"], content["tower"]
        named = (parent["label"], parent["fingerprint"], parent.get("space", ""), parent.get("image_fingerprint", ""))
    except (FileNotFoundError, NotADirectoryError):
        return None
    except (OSError, ValueError, KeyError, TypeError, AttributeError, RecursionError) as problem:
        raise _wrong(path, f"{type(problem).__name__}: {problem}") from problem
    if not all(isinstance(value, str) for value in named):
        raise _wrong(path, "what it says of its parent isn't all texts")
    if tower not in get_args(Taught):
        raise _wrong(path, f"tower is {tower!r:.40}")
    facts = {key: value for key, value in content.items() if key not in ("parent", "tower")}
    return Lineage(*named, tower, facts)


def _wrong(path: Path, problem: str) -> InvalidInput:
    return InvalidInput(
        f"{path} can't be read ({problem}): expected an object with parent (label, fingerprint) and tower (text or both), "
        "as clipserve learn writes it"
    )


def _facts(facts: Mapping[str, Any]) -> list[str]:
    """Return numbers and texts of an object and of the objects in it, each with its name; lists are left out."""
    told = []
    for name, value in facts.items():
        if isinstance(value, Mapping):
            inner = ", ".join(_facts(value))
            told += [f"{_words(name)}: {inner}"] if inner else []
        elif isinstance(value, str | int | float) and value != "":
            told.append(f"{_words(name)} {printable(str(value))}")
    return told


def _words(name: str) -> str:
    return printable(name).replace("_", " ")
