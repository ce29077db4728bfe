"""Pictures and texts of rows that are there: from where they were indexed, or from what the table keeps of them."""

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any

from clip_client.errors import ClipError, InvalidInput
from clip_search.budget import Budget, Share
from clip_search.errors import Busy
from clip_search.options import FetchOptions
from clip_search.pictures import is_url
from clip_search.query import Term
from clip_search.storage.schema import own_columns
from clip_search.storage.table import Table

CAPTION = "caption"  # column that a row's text goes into
_URL = "(lower(source) LIKE 'http://%' OR lower(source) LIKE 'https://%')"


@dataclass(frozen=True)
class Inputs:
    """Source of the pictures and texts of rows.

    Attributes:
        image: returns the file of an image term, within a share of the memory.
        fetched: memory for such files.
        options: what may be fetched or read.
        thumbnails: take the row's thumbnail for a picture that can't be had.
    """

    image: Callable[[Term, Share], bytes]
    fetched: Budget
    options: FetchOptions
    thumbnails: bool

    def picture(self, row: Mapping[str, Any], share: Share) -> bytes:
        """Return the encoded picture of a row.

        Raises:
            Busy: others have the memory.
            ClipError: it can't be had; the message has the reason.
        """
        try:
            if not row["source"]:
                raise InvalidInput("it was added without a source: nobody knows where its picture is")
            return self.image(Term("image_url" if is_url(row["source"]) else "image_path", row["source"]), share)
        except Busy:
            raise
        except ClipError:
            if small := self.small(row):
                return small
            raise

    def small(self, row: Mapping[str, Any]) -> bytes | None:
        """Return the thumbnail of a row if that may be taken."""
        return row["thumbnail"] if self.thumbnails else None

    def hopeless(self, table: Table) -> int:
        """Return the number of rows of which is known before that they can't be embedded."""
        nowhere = "source IS NULL" if self.options.folders else f"(source IS NULL OR NOT {_URL})"
        small = " AND has_thumbnail = false" if self.thumbnails else ""
        no_text = f" AND {CAPTION} IS NULL" if has_captions(table) else ""
        return table.count_of(f"(has_image = true AND {nowhere}{small}) OR (has_text = true{no_text})")


def has_captions(table: Table) -> bool:
    """Tell if the texts of rows are kept."""
    return own_columns(table.schema).get(CAPTION) == "string"


def text(row: Mapping[str, Any]) -> str:
    """Return the text of a row; raise InvalidInput if it isn't kept."""
    if not row.get(CAPTION):
        raise InvalidInput("its text isn't kept: it came as a vector, or without a caption")
    return str(row[CAPTION])
