"""Bodies and answers of the routes of second sets of vectors."""

from typing import Annotated

from pydantic import Field
from typing_extensions import TypedDict

from clip_search.reembedding.second_sets import Wish
from clip_search.web.request_models import Body

_Model = Annotated[str, Field(max_length=256, pattern=r"^[A-Za-z0-9][A-Za-z0-9_.-]*$")]


class NewReembedding(Body):
    """Request to embed a collection with another model."""

    to: Annotated[_Model, Field(description="name of a published checkpoint, or number of a version")]
    missing: Annotated[float, Field(ge=0, le=1, description="share of the rows that may be left out")] = Wish.most_missing
    share_of_cores: Annotated[float, Field(ge=0.01, le=1, description="of the time in which it is worked on")] = Wish.cores
    thumbnails: Annotated[bool, Field(description="embed small pictures where the others can't be had")] = Wish.thumbnails

    def wish(self) -> Wish:
        """Return the options."""
        return Wish(self.to, self.missing, self.share_of_cores, self.thumbnails)


class WayBack(Body):
    """Request to go back to the set that is kept."""

    to: Annotated[_Model | None, Field(description="name by which its checkpoint answers now; as before if left out")] = None


class LeftOutRow(TypedDict):
    """Row that isn't in the newer set, with the reason."""

    row: int
    id: str
    reason: str


class LeftOut(TypedDict):
    """Rows by number; ``next`` is the row behind which the following page begins."""

    rows: list[LeftOutRow]
    next: int | None


class DroppedSet(TypedDict):
    """Set of vectors that was removed."""

    dropped: str
    model: str
    space: str
    rows_only_there: Annotated[int, Field(description="rows that were in it alone, and are gone with it")]
