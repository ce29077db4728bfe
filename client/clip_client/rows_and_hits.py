"""Values that the sidecar's clients send and get: rows, terms of a search, hits, and their JSON."""

import base64
import os
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from datetime import date
from decimal import Decimal
from typing import Any, Literal

import numpy as np
import numpy.typing as npt

from clip_client import camera_files
from clip_client.errors import ClipError, InvalidInput
from clip_client.file_names import as_source
from clip_client.images import names_image
from clip_client.preprocess import Limits
from clip_client.regular_files import read_picture
from clip_client.type_names import a_type

OnConflict = Literal["error", "replace", "skip"]
Order = Literal["number", "newest", "random"]
VectorLike = Sequence[float] | npt.NDArray[Any]


@dataclass(frozen=True)
class Hit:
    """A row that a search returns.

    Attributes:
        id: the row's key.
        row: its number, which changes when it is replaced.
        score: cosine to the query.
        source: path or URL that it came from.
        thumbnail: path of a small picture on the sidecar; None where there is none.
        metadata: the user's columns.
        same: ids of near duplicates that it stands for, at most 20; only where they were asked to be one.
    """

    id: str
    row: int
    score: float
    source: str | None
    thumbnail: str | None
    metadata: dict[str, Any]
    same: Sequence[str] = ()


@dataclass(frozen=True)
class Passing:
    """Number of rows that pass a search's threshold and filter; ``more`` do if 10,000 were counted."""

    rows: int
    more: bool


@dataclass(frozen=True)
class Group:
    """Near duplicates, at most 100 of ``size``; scores are cosines to the first."""

    hits: list[Hit]
    size: int


@dataclass(frozen=True)
class Duplicates:
    """Groups of near duplicates, the largest first, perhaps with ``more`` behind them; ``checked`` pictures were compared."""

    groups: list[Group]
    more: bool
    checked: int


@dataclass(frozen=True)
class Term:
    """Part of a query, with a weight; exactly one of the other attributes is given.

    Attributes:
        image: a path, or the bytes of an encoded file.
        id: of a row, for more like it.
    """

    text: str | None = None
    image: str | os.PathLike[str] | bytes | None = None
    image_url: str | None = None
    vector: VectorLike | None = None
    id: str | None = None
    weight: float = 1.0

    def to_json(self) -> dict[str, Any]:
        """Return the term as the API takes it."""
        given = {"text": self.text, "image_url": self.image_url, "id": self.id, "weight": self.weight}
        term = {name: value for name, value in given.items() if value is not None} | _content(self, "vector")
        if len(term) != 2:
            raise InvalidInput(f"a term has {sorted(term)}: expected one of text, image, image_url, vector, id, and a weight")
        return term


@dataclass(frozen=True)
class Row:
    """A row to be added; needs an image, a text or a vector.

    Attributes:
        id: the key; a random one if None.
        image: a path or the bytes of an encoded file, which are sent.
        image_path: a file that the sidecar itself can read, below a folder that it was started with.
        vector, text_vector: ready ones, float32 [D].
        source: shown with hits.
        source_state: a note on the source for the program that added it; lists of rows have it, hits don't.
        same_as: id of a row whose vectors, thumbnail and columns are taken over where none are given here; a column that is
            given as None is emptied.
    """

    id: str | None = None
    image: str | os.PathLike[str] | bytes | None = None
    image_url: str | None = None
    image_path: str | None = None
    text: str | None = None
    vector: VectorLike | None = None
    text_vector: VectorLike | None = None
    metadata: Mapping[str, Any] = field(default_factory=dict)
    source: str | None = None
    source_state: str | None = None
    same_as: str | None = None

    def to_json(self) -> dict[str, Any]:
        """Return the row as the API takes it."""
        names = ("id", "image_url", "image_path", "text", "source", "source_state", "same_as")
        row = {name: getattr(self, name) for name in names if getattr(self, name) is not None}
        row |= _content(self, "vector", "text_vector")
        if self.image is not None and not isinstance(self.image, bytes):
            row.setdefault("source", as_source(os.fspath(self.image)))
        return {**row, "metadata": {name: _metadata(name, value) for name, value in self.metadata.items()}}


def as_terms(what: Any, name: str) -> list[Term]:
    """Return what is searched for as terms: a text alone, a term alone, or a list of terms.

    Raises:
        InvalidInput: it is none of these, or a text that names a picture.
    """
    if isinstance(what, str):
        if names_image(what):
            raise InvalidInput(
                f"{name} is {what[:200]!r}, which names a picture, perhaps: pass Term(image=…) or Term(image_url=…) for the "
                "picture, Term(text=…) for the text"
            )
        return [Term(text=what)]
    if isinstance(what, Term):
        return [what]
    if isinstance(what, Iterable) and not isinstance(what, bytes | bytearray | Mapping):
        terms = list(what)
        wrong = next(((n, term) for n, term in enumerate(terms) if not isinstance(term, Term)), None)
        if wrong is None:
            return terms
        name, what = f"{name}[{wrong[0]}]", wrong[1]
    raise InvalidInput(f"{name} is {a_type(what)}: expected a text, a Term or a list of Terms, Term(image=…) for a picture")


def rows_to_json(rows: Iterable[Row]) -> tuple[dict[int, dict[str, Any]], dict[int, str]]:
    """Return rows as the API takes them, and reasons for those that can't be read, by position."""
    if not isinstance(rows, Iterable) or isinstance(rows, str | bytes | Mapping):
        raise InvalidInput(f"rows is {a_type(rows)}: expected a list of Row(…)")
    sendable: dict[int, dict[str, Any]] = {}
    unread: dict[int, str] = {}
    for n, row in enumerate(rows):
        try:
            sendable[n] = _as_row(row).to_json()
        except ClipError as problem:
            unread[n] = str(problem)
    return sendable, unread


def _as_row(row: Any) -> Row:
    if isinstance(row, Row):
        return row
    raise InvalidInput(f"it is {a_type(row)}: expected a Row, say Row(image='cat.jpg', metadata={{'animal': 'cat'}})")


@dataclass(frozen=True)
class Added:
    """Outcome of an add: counts, ids of the rows that are there now, and the reason by position of each that isn't.

    Attributes:
        others: positions of skipped rows whose ids belong to rows with other vectors; only where they were compared.
    """

    added: int
    replaced: int
    skipped: int
    ids: list[str]
    errors: dict[int, str]
    others: Sequence[int] = ()

    @property
    def sent(self) -> int:
        """Number of all rows."""
        return self.added + self.replaced + self.skipped + len(self.errors)


def stored_row(row: dict[str, Any]) -> dict[str, Any]:
    """Return a row as the API gives it, with its vectors as float32 [D]."""
    encoded = {name: row[name] for name in ("vector_image", "vector_text") if name in row}
    return row | {name: np.frombuffer(base64.b64decode(vector), "<f4") for name, vector in encoded.items()}


def _content(item: Row | Term, *vectors: str) -> dict[str, str]:
    """Return the image and the vectors of an item in base64, without those that are None."""
    encoded = {name: _encoded(value) for name in vectors if (value := getattr(item, name)) is not None}
    if item.image is None:
        return encoded
    limits = Limits()
    most = camera_files.most_bytes("" if isinstance(item.image, bytes) else item.image, limits.image_bytes)
    file = item.image if isinstance(item.image, bytes) else read_picture(item.image, most)
    return encoded | {"image": base64.b64encode(camera_files.as_jpeg(file, limits.image_pixels)).decode()}


def _metadata(name: str, value: Any) -> Any:
    """Return a value of a column as the API takes it; raise InvalidInput if JSON has nothing for it."""
    if isinstance(value, np.generic | np.ndarray):
        return _metadata(name, value.tolist())
    if isinstance(value, list | tuple):
        return [_metadata(name, item) for item in value]
    if isinstance(value, date):  # also a datetime
        return value.isoformat()
    if isinstance(value, bytes):
        return base64.b64encode(value).decode()
    if isinstance(value, Decimal):
        return format(value, "f")
    if value is not None and not isinstance(value, str | int | float | dict):
        raise InvalidInput(f"metadata {name} is {a_type(value)}: expected a string, a number or true/false")
    return value


def _encoded(vector: VectorLike) -> str:
    try:
        return base64.b64encode(np.asarray(vector, "<f4").tobytes()).decode()
    except (TypeError, ValueError) as problem:
        raise InvalidInput(f"the vector isn't a list of numbers ({problem}): send float32 [D]") from problem
