"""Kinds of inputs: told by what the location names, or by the user."""

from __future__ import annotations

import os
import re
from collections.abc import Mapping
from typing import Any

from clip_client.errors import InvalidInput
from clip_embed.inputs.base import Input
from clip_embed.inputs.folder import Folder
from clip_embed.inputs.options import InputOptions
from clip_embed.inputs.webdataset import PIPE, WebDataset
from clip_embed.locations import shown

KINDS: Mapping[str, Any] = {kind.kind: kind for kind in (Folder, WebDataset)}

_TAR = re.compile(r"\.(tar(\.\w+)?|tgz|tbz2?|txz)$")


def of_settings(kind: str, settings: Mapping[str, Any]) -> Input:
    """Return the input that another process described."""
    tuples = {name: tuple(value) if isinstance(value, list) else value for name, value in settings.items()}
    made: Input = KINDS[kind](**tuples)
    return made


def source_of(location: str, options: InputOptions) -> Input:
    """Return the input of a location.

    Raises:
        InvalidInput: nothing is there, or its kind can't be told.
    """
    kind = options.kind or _kind(location)
    if kind == Folder.kind:
        return Folder(_absolute(location))
    return WebDataset(_absolute(location), options.image_keys, options.caption_keys)


def _kind(location: str) -> str:
    if location.startswith(PIPE) or _TAR.search(location.partition("?")[0]):
        return WebDataset.kind
    if os.path.isdir(location):
        return Folder.kind
    if "://" not in location and not os.path.lexists(location):
        raise InvalidInput(f"nothing is at {location}: expected a folder, shards, a table, a list or a data set")
    raise InvalidInput(f"the kind of {shown(location)} can't be told: pass --input-format, one of {', '.join(sorted(KINDS))}")


def _absolute(location: str) -> str:
    """Return a location that another process finds, from whatever folder it starts in."""
    return location if "://" in location or location.startswith(PIPE) else os.path.abspath(os.path.expanduser(location))
