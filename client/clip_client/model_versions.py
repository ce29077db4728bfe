"""Versions of a published checkpoint, side by side in one repository: their names, and which one serves.

A repository begins with six models of a name, ``clip_image`` and so on. Each further version has six of its own, of the name
``clip.2``, ``clip.3``, …, and answers by that name. The six of the plain name lead to the version that serves; its number is
the folder in them, and Triton's version of every answer.
"""

from __future__ import annotations

import json
import re
import uuid
from collections.abc import Mapping
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from clip_client.model_repository import CONFIG_FILE, ENCODER, PREPARATION
from clip_client.spec import ensemble

STATE_FILE = ".versions.json"
"""In a repository: what should be loaded beside what serves; absent for nothing."""

_OF_VERSION = re.compile(r"(?P<name>.+)\.(?P<number>[1-9]\d{0,8})")
_MODEL = re.compile(rf"(.+\.[1-9]\d{{0,8}})_(?:image|text)(?:_(?:{'|'.join(PREPARATION.values())}|{ENCODER}))?")


@dataclass(frozen=True)
class Wanted:
    """Versions of a name that should be loaded, besides the one that serves.

    Attributes:
        beside: numbers.
        alone: true where memory is short: a version that serves is unloaded before another is loaded.
        before: number that served before, for a rollback; 0 for none.
    """

    beside: tuple[int, ...] = ()
    alone: bool = False
    before: int = 0


def versioned(name: str, number: int) -> str:
    """Return the name of a version's own models: ``clip.2``."""
    return f"{name}.{number}"


def split(name: str) -> tuple[str, int]:
    """Return plain name and number of a version's name; 0 for a plain one."""
    match = _OF_VERSION.fullmatch(name)
    return (match["name"], int(match["number"])) if match else (name, 0)


def version_of(model: str) -> str:
    """Return the version's name that a model belongs to, ``clip.2`` of ``clip.2_text_encoder``; empty for any other."""
    match = _MODEL.fullmatch(model)
    return match[1] if match else ""


def folder_of(model: Path) -> Path:
    """Return the folder of a model's only version."""
    numbers = [int(path.name) for path in model.glob("[0-9]*") if path.name.isdigit()]
    return model / str(max(numbers, default=1))


def serving(repository: Path, name: str) -> int:
    """Return the number of the version that serves; 1 where there never was another."""
    return int(folder_of(repository / ensemble(name, "image")).name)


def kept(repository: Path, name: str) -> list[int]:
    """Return the numbers of the versions that have models of their own, in order."""
    found = [split(folder.name.removesuffix("_image")) for folder in repository.glob("[!.]*_image") if is_model(folder)]
    return sorted(number for plain, number in found if plain == name and number)


def is_model(folder: Path) -> bool:
    """Tell if a folder holds a model."""
    return (folder / CONFIG_FILE).is_file()


def target(config: Any, name: str) -> str:
    """Return the name of the models that an ensemble's steps lead to: ``clip.2``, or its own."""
    steps = [step.model_name for step in config.ensemble_scheduling.step]
    return (version_of(steps[-1]) if steps else "") or name


def wanted(repository: Path) -> dict[str, Wanted]:
    """Return what should be loaded besides, by name; nothing where the file is damaged."""
    try:
        return {str(name): _wanted(fields) for name, fields in _state(repository)["names"].items()}
    except (ValueError, TypeError, KeyError, AttributeError):
        return {}


def stamp(repository: Path) -> str:
    """Return what tells the last change of :func:`want` from every other; empty where there was none."""
    return str(_state(repository).get("stamp", ""))


def want(repository: Path, name: str, what: Wanted) -> None:
    """Write that in one step; raise OSError if the repository can't be written."""
    every = {key: asdict(value) for key, value in {**wanted(repository), name: what}.items()}
    scratch = repository / f"{STATE_FILE}.new"
    scratch.write_text(json.dumps({"stamp": uuid.uuid4().hex, "names": every}) + "\n", encoding="utf-8")
    scratch.replace(repository / STATE_FILE)


def _state(repository: Path) -> dict[str, Any]:
    try:
        content = json.loads((repository / STATE_FILE).read_text(encoding="utf-8"))
    except (OSError, ValueError):
        return {}
    return content if isinstance(content, dict) else {}


def _wanted(fields: Mapping[str, Any]) -> Wanted:
    return Wanted(tuple(int(number) for number in fields["beside"]), bool(fields["alone"]), int(fields["before"]))
