"""Models of request bodies: they check what is sent, and are its schema in the OpenAPI document."""

import base64
import binascii
from collections.abc import Callable, Sequence
from typing import Annotated, Any, TypeVar, get_args

import numpy as np
from pydantic import BaseModel, ConfigDict, Field, ValidationError
from pydantic_core import from_json
from typing_extensions import Self

from clip_client.errors import InvalidInput
from clip_client.spec import Tower
from clip_search.items import Item
from clip_search.query import IMAGES, SAME, Order, Query, Sort, Term, TermKind, check_most
from clip_search.storage.kinds import TYPES
from clip_search.storage.rows import OnConflict
from clip_search.web.fault_places import place

MAX_ROWS = 10_000
MAX_TERMS = 32
MAX_TEXT = 128 * 1024

Vector = Annotated[list[float] | str, Field(description="numbers, or base64 of little-endian float32")]
Columns = Annotated[dict[str, str], Field(description="kinds by name: " + ", ".join([*TYPES, "decimal(P,S)"]))]
Text = Annotated[str, Field(max_length=MAX_TEXT)]
Base64 = Annotated[str, Field(description="an encoded file in base64, or a data: URI")]
_Body = TypeVar("_Body", bound=BaseModel)


class Body(BaseModel):
    """Base of strict models: they convert no value and ignore no unknown field."""

    model_config = ConfigDict(strict=True, extra="forbid", allow_inf_nan=False)


class NewCollection(Body):
    """Request to make a collection; dimension and fingerprint are the served model's if left out."""

    name: str
    dimension: Annotated[int, Field(ge=1, le=16_384)] | None = None
    fingerprint: Annotated[str, Field(max_length=64)] | None = None
    columns: Columns = {}


class NewItem(Body):
    """Row to add: an image, a text, ready vectors, or several of them."""

    id: str | None = None
    image: Base64 | None = None
    image_url: str | None = None
    image_path: str | None = None
    text: Text | None = None
    vector: Vector | None = None
    text_vector: Vector | None = None
    metadata: Annotated[dict[str, Any], Field(description="values by column")] = {}
    source: Annotated[str, Field(max_length=4096)] | None = None
    source_state: Annotated[str, Field(max_length=65_536)] | None = None
    same_as: Annotated[str, Field(description="id of a row to copy vectors and columns from, unless sent")] | None = None

    def item(self) -> Item:
        """Return the row as the sidecar takes it."""
        vectors: dict[Tower, Any] = {"image": self.vector, "text": self.text_vector}
        ready: dict[Tower, Any] = {tower: floats(vector) for tower, vector in vectors.items() if vector is not None}
        for name in ("image_url", "image_path", "source_state", "same_as"):
            checked_text(name, getattr(self, name))
        images = _terms(self, 1.0, IMAGES)
        if len(images) > 1:
            raise InvalidInput("a row has one image: send image, image_url or image_path")
        image = images[0] if images else None
        return Item(self.id, image, self.text, ready, dict(self.metadata), self.source, self.source_state, self.same_as)


class NewItems(Body):
    """Request to add rows; each is checked by itself."""

    rows: Annotated[list[NewItem], Field(min_length=1, max_length=MAX_ROWS)]
    on_conflict: OnConflict = "error"
    fingerprint: Annotated[str, Field(max_length=64)] = ""
    columns: Columns = {}


class Deletion(Body):
    """Request to delete rows: by id, or all that a filter keeps."""

    ids: Annotated[list[str], Field(max_length=MAX_ROWS)] = []
    filter: Annotated[str, Field(min_length=1)] | None = None


class Ids(Body):
    """Request for rows by id."""

    ids: Annotated[list[str], Field(min_length=1, max_length=1000)]
    vectors: bool = False


class RowChoice(BaseModel):
    """Choice and order of rows to list."""

    filter: str = ""
    order: Order = "number"
    seed: Annotated[int, Field(ge=0, lt=2**63, description="of a random order: the same gives the same rows")] = 0
    after: Annotated[int, Field(description="row behind which to begin, by number")] = -1
    limit: int = 100
    vectors: bool = False

    def checked(self) -> Self:
        """Return it; raise InvalidInput or TooLarge for numbers that can't be used."""
        check_most("limit", self.limit)
        if self.limit < 1 or not -1 <= self.after < 2**62:
            raise InvalidInput(f"limit is {self.limit}, after is {self.after}: expected at least 1, and -1 or a row's number")
        if self.after != -1 and self.order != "number":
            raise InvalidInput(f"after is {self.after}, order is {self.order}: pages follow each other by number only")
        return self


class SortBy(Body):
    """Order of hits by a column; those of equal values come by score, those without a value last."""

    column: str
    descending: bool = False


class QueryPicture(Body):
    """Picture to be kept for links to a search by it."""

    image: Base64


class DuplicateSearch(Body):
    """Request for groups of near duplicates."""

    threshold: Annotated[float, Field(ge=0.5, le=1.0, description="least cosine")] = 0.95
    filter: str = ""
    limit: Annotated[int, Field(ge=1, le=200, description="groups")] = 50
    offset: Annotated[int, Field(ge=0)] = 0


class _Content(Body):
    text: Text | None = None
    image: Base64 | None = None
    image_url: str | None = None
    vector: Vector | None = None
    id: str | None = None


class SearchTerm(_Content):
    """Term of a mix."""

    weight: float = 1.0


class Search(_Content):
    """Search for one term, or a weighted mix of terms, minus others."""

    mix: Annotated[list[SearchTerm], Field(max_length=MAX_TERMS)] = []
    minus: Annotated[list[SearchTerm], Field(max_length=MAX_TERMS)] = []
    k: Annotated[int, Field(ge=1)] = 10
    offset: Annotated[int, Field(ge=0)] = 0
    filter: str = ""
    threshold: float | None = None
    deduplicate: bool | float = False
    modality: Tower | None = None
    columns: list[str] | None = None
    sort: Annotated[SortBy | None, Field(description="of the hits that pass, at most 10,000; by score if left out")] = None
    count: Annotated[bool, Field(description="also count the rows that pass threshold and filter")] = False
    client: Annotated[
        str, Field(max_length=200, description="opaque name of who asks: a client is always answered by the same model")
    ] = ""

    def query(self) -> Query:
        """Return the search as the sidecar takes it."""
        mix = [term for part in self.mix for term in _terms(part, part.weight)]
        minus = [term for part in self.minus for term in _terms(part, -part.weight)]
        terms = (*_terms(self, 1.0), *mix, *minus)
        same = SAME if self.deduplicate is True else self.deduplicate or None
        columns = None if self.columns is None else tuple(self.columns)
        sort = Sort(self.sort.column, self.sort.descending) if self.sort else None
        return Query(terms, self.k, self.offset, self.filter, self.threshold, same, self.modality, columns, sort, self.client)


def parsed(body: bytes, kind: type[_Body]) -> _Body:
    """Parse a JSON body, whatever its content type; raise InvalidInput that names the first field which is wrong."""
    return validated(kind.model_validate_json, body or b"null")


def validated(validate: Callable[[Any], _Body], content: Any) -> _Body:
    """Check a body by a method of its model; raises as :func:`parsed`."""
    try:
        return validate(content)
    except ValidationError as problem:
        raise _first(problem, content) from problem


def _first(problem: ValidationError, content: Any) -> InvalidInput:
    """Return the first field that is wrong."""
    first = problem.errors(include_url=False)[0]
    is_json = first["type"] != "json_invalid"
    where = place(first, from_json(content) if is_json and isinstance(content, bytes) else content) or "the body"
    if first["type"] == "too_long":
        check_most(where, int(first["ctx"]["actual_length"]), int(first["ctx"]["max_length"]))
    got = f", got {str(first['input'])[:80]!r}" if is_json and first["type"] != "missing" else ""
    told = first["msg"].removeprefix("Value error, ")  # those of validators of ours
    return InvalidInput(f"{where}: {told}{got}; /docs tells what is accepted")


def checked_text(name: str, text: str | None) -> None:
    """Raise InvalidInput for a text with a lone surrogate, which no encoding can write."""
    if text is not None and any("\ud800" <= char <= "\udfff" for char in text):
        raise InvalidInput(f"{name} has half of a surrogate pair: send UTF-8")


def floats(vector: list[float] | str) -> Any:
    """Return the numbers of a vector as sent; raise InvalidInput for broken base64."""
    if isinstance(vector, list):
        return vector
    try:
        return np.frombuffer(_decoded(vector), "<f4")
    except (binascii.Error, ValueError) as problem:
        raise InvalidInput(f"the vector isn't base64 of float32 ({problem}): send a list of numbers") from problem


def file_bytes(image: str) -> bytes:
    """Return the bytes of an image file as sent; raise InvalidInput if it is neither base64 nor a data: URI with it."""
    if is_data_uri(image):
        header, comma, image = image.partition(",")
        if not comma or not header.lower().endswith(";base64"):
            raise InvalidInput("the data: URI isn't base64: expected data:image/png;base64,…")
    try:
        return _decoded(image)
    except (binascii.Error, ValueError) as problem:
        raise InvalidInput(f"the image isn't base64 ({problem}): send the encoded file in base64") from problem


def is_data_uri(value: str) -> bool:
    """Tell if a text is a data: URI."""
    return value[:5].lower() == "data:"


def _decoded(text: str) -> bytes:
    """Return the bytes of base64, in one line or, as ``base64`` and e-mail write it, in many."""
    return base64.b64decode("".join(text.split()), validate=True)


_CONVERTERS: dict[TermKind, Callable[[Any], Any]] = {"image": file_bytes, "vector": floats}


def _terms(body: Any, weight: float, kinds: Sequence[TermKind] = get_args(TermKind)) -> list[Term]:
    given = ((kind, getattr(body, kind, None)) for kind in kinds)
    return [
        Term(kind, _CONVERTERS[kind](value) if kind in _CONVERTERS else value, weight)
        for kind, value in given
        if value is not None
    ]
