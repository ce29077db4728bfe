"""Conversions to safetensors among a repository's pull requests."""

from __future__ import annotations

import json
from collections.abc import Collection
from dataclasses import dataclass
from pathlib import Path

from huggingface_hub import Discussion, HfApi, cached_assets_path, constants

from clip_client.errors import InvalidInput
from clip_export.checkpoints import hub, hub_client
from clip_export.checkpoints.file_names import PICKLE_SUFFIXES, SAFETENSORS, SHARD_INDEX
from clip_export.checkpoints.hub_client import Say
from clip_export.checkpoints.hub_errors import translated
from clip_export.checkpoints.hub_files import Repository

CONVERTER = "SFconvertbot"
"""Account of the hub's converter, which opens a pull request where weights are pickled."""

TITLE = "Adding `safetensors` variant of this model"
"""Title of its pull requests, which anyone may copy: the account counts too."""


@dataclass(frozen=True)
class Conversion:
    """A pull request that adds safetensors.

    Attributes:
        number: of the pull request.
        repository: at its commit.
        added: its safetensors, and their index.
    """

    number: int
    repository: Repository
    added: frozenset[str]


def of(main: Repository, pickles: Collection[str], say: Say) -> Conversion | None:
    """Return the newest conversion of a repository's pickled weights; None if there is none that can be trusted.

    Args:
        main: the repository where only pickled weights are.
        pickles: its files of weights.
        say: gets a line about each pull request that isn't taken.

    Raises:
        Unavailable: if the hub can't be reached any more.
    """
    if main.offline:
        return _remembered(main)
    for thread in _threads(main, say):
        pull = hub.repository(main.name, thread.git_reference, say)
        if objection := _objection(main, pull, pickles):
            say(f"pull request {thread.num} of {main.name} isn't taken: {objection}")
            continue
        _remember(main, thread.num, pull.commit)
        return Conversion(thread.num, pull, _added(main, pull))
    return None


def _threads(main: Repository, say: Say) -> list[Discussion]:
    """Return the converter's open pull requests, the newest first."""
    api = HfApi()
    try:
        with translated(main.name, None), hub_client.patient(say):
            threads = [*api.get_repo_discussions(main.name, author=CONVERTER, discussion_type="pull_request")]
    except InvalidInput:  # discussions are closed there
        return []
    named = [thread for thread in threads if thread.is_pull_request and (thread.author, thread.title) == (CONVERTER, TITLE)]
    return sorted((thread for thread in named if thread.status == "open"), key=lambda thread: -thread.num)


def _objection(main: Repository, pull: Repository, pickles: Collection[str]) -> str:
    """Return the reason that a pull request is no conversion of these weights."""
    if others := sorted(pull.files.keys() - main.files.keys() - _added(main, pull)):
        return f"it adds {', '.join(others)}, expected safetensors only"
    if not any(name.endswith(SAFETENSORS) for name in _added(main, pull)):
        return "it adds no safetensors"
    changed = [
        name
        for name in pickles
        if name.endswith(PICKLE_SUFFIXES) and pull.files.get(name, main.files[name]) != main.files[name]
    ]
    if changed:
        return f"{', '.join(changed)} is another one there: it was converted from other weights"
    return ""


def _added(main: Repository, pull: Repository) -> frozenset[str]:
    new = pull.files.keys() - main.files.keys()
    return frozenset(name for name in new if name.endswith((SAFETENSORS, SHARD_INDEX)))


def _remember(main: Repository, number: int, commit: str) -> None:
    """Note which conversion was taken, for the time without the hub."""
    _note(main).write_text(json.dumps({"number": number, "commit": commit}), encoding="utf-8")


def _remembered(main: Repository) -> Conversion | None:
    try:
        note = json.loads(_note(main).read_text(encoding="utf-8"))
        pull = hub.repository(main.name, note["commit"], lambda line: None)
    except (OSError, ValueError, KeyError, TypeError):
        return None
    return Conversion(int(note["number"]), pull, _added(main, pull))


def _note(main: Repository) -> Path:
    folder = cached_assets_path("clipserve", "conversions", main.name, assets_dir=constants.HF_ASSETS_CACHE)
    return folder / f"{main.commit}.json"
