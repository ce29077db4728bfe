"""Meanings that the name of a checkpoint can have.

A note is a sentence for the user, to be shown with the meaning; it is empty where the meaning is what was typed. Two
meanings are equal whatever their notes.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from pathlib import Path


@dataclass(frozen=True)
class Folder:
    """A folder that is here.

    Attributes:
        path: its path; ``~`` is expanded.
        open_clip: True if it was asked for through ``open_clip:``.
        note: for the user.
    """

    path: Path
    open_clip: bool = False
    note: str = field(default="", compare=False)


@dataclass(frozen=True)
class File:
    """A file of weights that is here and stands alone.

    Attributes:
        path: its path; ``~`` is expanded.
        architecture: open_clip's model; None where it wasn't named.
        note: for the user.
    """

    path: Path
    architecture: str | None
    note: str = field(default="", compare=False)


@dataclass(frozen=True)
class HubId:
    """A repository on the hub.

    Attributes:
        id: ORG/NAME.
        revision: branch, tag, commit or pull request; None for the main branch.
        open_clip: True if it was asked for through ``open_clip:``.
        file: weights, or a folder, in the repository that a URL led to; empty otherwise.
        note: for the user.
    """

    id: str
    revision: str | None
    open_clip: bool = False
    file: str = ""
    note: str = field(default="", compare=False)


@dataclass(frozen=True)
class OpenClipName:
    """Weights that open_clip knows by name.

    Attributes:
        model: its name of the architecture, with the activation that the weights were trained with.
        tag: its name of the weights.
        revision: of their repository on the hub; None for the main branch.
        note: for the user.
    """

    model: str
    tag: str
    revision: str | None = None
    note: str = field(default="", compare=False)


Meaning = Folder | File | HubId | OpenClipName
