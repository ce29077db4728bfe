"""Base of inputs that are files of rows."""

from __future__ import annotations

from dataclasses import asdict, dataclass
from typing import Any


@dataclass(frozen=True)
class Table:
    """Files with a column of pictures, of captions, or both.

    Attributes:
        location: file, folder or pattern.
        image_column, caption_column: None for a usual name.
    """

    location: str
    image_column: str | None = None
    caption_column: str | None = None

    @property
    def settings(self) -> dict[str, Any]:
        """Return the attributes."""
        return asdict(self)
