"""Answers of the routes that describe a collection's content, and of kept queries."""

from typing import Annotated

from pydantic import Field
from typing_extensions import NotRequired, TypedDict

from clip_search.web.response_models import Hit


class FacetValue(TypedDict):
    """Value of a column, and the number of rows that have it."""

    value: str | bool
    rows: int


class Facet(TypedDict):
    """Content of a column: its most frequent ``values`` and if there are ``more``, or its range; neither for other kinds."""

    kind: str
    missing: int
    values: NotRequired[list[FacetValue]]
    more: NotRequired[bool]
    min: NotRequired[int | float | str | None]
    max: NotRequired[int | float | str | None]


class Facets(TypedDict):
    """Facets by column; ``rows`` pass the filter, of which 100,000 were counted if it is ``sampled``."""

    rows: int
    sampled: NotRequired[bool]
    facets: dict[str, Facet]


class Group(TypedDict):
    """Group of near duplicates, ``size`` in all; scores are cosines to the first of its rows."""

    rows: list[Hit]
    size: int


class Duplicates(TypedDict):
    """Groups, largest first; ``checked`` rows were compared with all others."""

    groups: list[Group]
    more: bool
    checked: int


class KeptQuery(TypedDict):
    """Id of a picture that was kept: by its content, so the same picture has the same."""

    id: Annotated[str, Field(pattern="^[a-z2-7]{16}$")]
