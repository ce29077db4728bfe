"""Options of inputs."""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True)
class InputOptions:
    """Options of inputs; each kind looks at its own.

    Attributes:
        kind: None for the one that the location tells.
        image_keys, caption_keys: endings of a webdataset's members.
        image_column, caption_column: of a table; None to look for the usual names.
        split: of a data set.
    """

    kind: str | None = None
    image_keys: tuple[str, ...] = ()
    caption_keys: tuple[str, ...] = ("txt",)
    image_column: str | None = None
    caption_column: str | None = None
    split: str | None = None
