"""Locations with braces, as shells and webdataset have them: ``data/{00000..00049}.tar``."""

from __future__ import annotations

from clip_client.errors import InvalidInput
from clip_embed.locations import shown


def expanded(location: str) -> list[str]:
    """Return the locations that braces stand for.

    Raises:
        InvalidInput: braces that don't match.
    """
    from braceexpand import braceexpand

    try:
        return list(braceexpand(location, escape=False))
    except ValueError as problem:
        raise InvalidInput(
            f"{shown(location)} has braces that don't match ({problem}): expected e.g. {{00000..00049}}"
        ) from problem
