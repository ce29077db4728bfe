"""Known checkpoints: much-used hub ids, with open_clip's names and tags; nearest names for messages.

``known.json`` lists the hub ids: the family, the layout of their repository (its default revision), the parameters in
millions and the download in MB, where they are certain. open_clip's come from ``open_clip_names``.
"""

from __future__ import annotations

import difflib
import json
from collections.abc import Sequence
from dataclasses import dataclass
from functools import cache
from pathlib import Path

from clip_export.checkpoints import open_clip_names
from clip_export.checkpoints.open_clip_names import key

_FILE = Path(__file__).with_name("known.json")

_NEAREST, _LIKENESS = 3, 0.5
_SHORTEST, _LONGEST = 3, 100  # characters of a name that is compared; likeness takes the square of it


@dataclass(frozen=True)
class Known:
    """A checkpoint as people name it.

    Attributes:
        name: value of ``--model``.
        family: model type, or the library that builds it.
        layout: of its repository on the hub, or that repository.
        parameters: in millions; 0 where it isn't certain.
        download_mb: size of the weights; 0 where it isn't certain.
    """

    name: str
    family: str
    layout: str
    parameters: float = 0
    download_mb: float = 0


@cache
def checkpoints() -> tuple[Known, ...]:
    """Return the hub ids, then open_clip's ``open_clip:MODEL/TAG``, each with the activation that its weights have."""
    return (*hub_checkpoints(), *open_clips())


@cache
def hub_checkpoints() -> tuple[Known, ...]:
    """Return the known hub ids in Hugging Face's format, open_clip's, or that of sentence-transformers."""
    entries = json.loads(_FILE.read_text(encoding="utf-8"))
    return tuple(
        Known(entry["id"], entry["family"], entry["layout"], entry.get("parameters", 0), entry.get("download", 0))
        for entry in entries
    )


@cache
def open_clips() -> tuple[Known, ...]:
    """Return open_clip's models with their weights."""
    return tuple(
        Known(f"open_clip:{model.name}/{tag.name}", "open_clip", tag.hub, model.parameters)
        for model in open_clip_names.models().values()
        for tag in model.tags.values()
        if open_clip_names.of_its_activation(model, tag.name) is model
    )


def as_on_the_hub(hub_id: str) -> str:
    """Return a known hub id in the hub's spelling, in whatever capitals and separators it is written; others as they are."""
    return _by_owner().get(_owned(hub_id), hub_id)


def with_name(name: str) -> list[str]:
    """Return the known hub ids whose part behind the slash is that name, in whatever capitals and separators."""
    text = key(name).replace("xlmrlarge", "xlmrobertalarge").replace("sweclip", "swedish")
    return _by_name().get(text, [])


def nearest(text: str) -> list[str]:
    """Return the known names that hold a text, then those most like it: hub ids, open_clip's models, and MODEL/TAG."""
    asked, names = key(text[:_LONGEST]), _names()
    if len(asked) < _SHORTEST:
        return []
    holding = [names[name] for name in names if asked in name]
    alike = [names[name] for name in difflib.get_close_matches(asked, names, n=_NEAREST, cutoff=_LIKENESS)]
    return [*dict.fromkeys([*holding, *alike])][:_NEAREST]


@cache
def hub_ids() -> Sequence[str]:
    """Return all known hub ids, open_clip's repositories among them."""
    of_open_clip = (tag.hub for model in open_clip_names.models().values() for tag in model.tags.values())
    return tuple(dict.fromkeys([*(known.name for known in hub_checkpoints()), *of_open_clip]))


@cache
def _by_owner() -> dict[str, str]:
    return {_owned(hub_id): hub_id for hub_id in hub_ids()}


@cache
def _by_name() -> dict[str, list[str]]:
    names: dict[str, list[str]] = {}
    for hub_id in hub_ids():
        names.setdefault(key(hub_id.partition("/")[2]), []).append(hub_id)
    return names


def _owned(hub_id: str) -> str:
    owner, _, name = hub_id.partition("/")
    return f"{owner.lower()}/{key(name)}"


@cache
def _names() -> dict[str, str]:
    """Return each name by what it is compared as: ids with and without their owner, open_clip's models and pairs."""
    ids = hub_ids()
    bare = {key(hub_id.partition("/")[2]): hub_id for hub_id in reversed(ids)}
    models = {key(name): f"open_clip:{name}" for name in open_clip_names.models()}
    pairs = {key(pair): f"open_clip:{pair}" for pair in open_clip_names.pairs()}
    return {key(hub_id): hub_id for hub_id in ids} | bare | models | pairs
