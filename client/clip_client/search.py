"""The SDK of the search sidecar: the verbs of its HTTP API."""

from __future__ import annotations

import base64
import json
import os
import time
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from datetime import date
from decimal import Decimal
from types import TracebackType
from typing import Any, Literal
from urllib.parse import quote, urlencode

import numpy as np
import numpy.typing as npt
import urllib3

from clip_client.comparison import Floats
from clip_client.errors import ClipError, ContractMismatch, InvalidInput, Timeout, Unavailable
from clip_client.file_names import as_source
from clip_client.images import read_file
from clip_client.preprocess import Limits
from clip_client.spec import Tower

OnConflict = Literal["error", "replace", "skip"]
VectorLike = Sequence[float] | npt.NDArray[Any]


@dataclass(frozen=True)
class Hit:
    """A row that was found.

    Attributes:
        id: the row's key.
        row: its number, which changes when it is replaced.
        score: cosine to the query.
        source: path or URL that it came from.
        thumbnail: path of a small picture on the sidecar; None where there is none.
        metadata: the user's columns.
    """

    id: str
    row: int
    score: float
    source: str | None
    thumbnail: str | None
    metadata: dict[str, Any]


@dataclass(frozen=True)
class Term:
    """Something to look for, with a weight; exactly one of the others is given.

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
        """The term as the API takes it."""
        given = {"text": self.text, "image_url": self.image_url, "id": self.id, "weight": self.weight}
        found = {name: value for name, value in given.items() if value is not None}
        if self.image is not None:
            found["image"] = _file(self.image)
        if self.vector is not None:
            found["vector"] = _encoded(self.vector)
        if len(found) != 2:
            raise InvalidInput(f"a term has {sorted(found)}: expected one of text, image, image_url, vector, id, and a weight")
        return found


@dataclass(frozen=True)
class Row:
    """A row to be added; needs an image, a text or a vector.

    Attributes:
        id: the key; a random one if None.
        image: a path or the bytes of an encoded file, which are sent.
        image_path: a file that the sidecar itself can read, below a folder that it was started with.
        vector, text_vector: ready ones, float32 [D].
        source: shown with hits.
        source_state: a note on the source for whoever added it; lists of rows have it, hits don't.
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
        """The row as the API takes it."""
        names = ("id", "image_url", "image_path", "text", "source", "source_state", "same_as")
        found = {name: getattr(self, name) for name in names if getattr(self, name) is not None}
        found |= {name: _encoded(getattr(self, name)) for name in ("vector", "text_vector") if getattr(self, name) is not None}
        if self.image is not None:
            found["image"] = _file(self.image)
            if not isinstance(self.image, bytes):
                found.setdefault("source", as_source(os.fspath(self.image)))
        return {**found, "metadata": {name: _metadata(name, value) for name, value in self.metadata.items()}}


@dataclass(frozen=True)
class Added:
    """What became of rows: counts, the ids of those that are there now, and the reason by position of each that isn't."""

    added: int
    replaced: int
    skipped: int
    ids: list[str]
    errors: dict[int, str]

    @property
    def sent(self) -> int:
        """Number of all rows."""
        return self.added + self.replaced + self.skipped + len(self.errors)


class Search:
    """A client of one sidecar; safe to use from several threads.

    >>> with Search("http://localhost:1234") as search:
    ...     search.query("photos", "a cat", k=5)[0].score

    Args:
        url: where the sidecar listens.
        token: what it asks for, if it does.
        timeout_s: bound on each request.
    """

    def __init__(self, url: str = "http://localhost:1234", *, token: str = "", timeout_s: float = 60.0) -> None:
        if not url.startswith(("http://", "https://")):
            raise InvalidInput(f"the sidecar's URL is {url!r}: expected http://host:port")
        self.url = url.rstrip("/")
        headers = {"Content-Type": "application/json"} | ({"Authorization": f"Bearer {token}"} if token else {})
        self._pool = urllib3.PoolManager(headers=headers, timeout=timeout_s, retries=False, maxsize=16)
        self._timeout_s = timeout_s

    def wait_ready(self, *, timeout_s: float = 60.0) -> None:
        """Return once the sidecar answers, its collections are open and its Triton is ready.

        Raises:
            Unavailable: they aren't within ``timeout_s``; the message says what is missing.
        """
        deadline = time.monotonic() + timeout_s
        while reason := self._not_ready():
            if time.monotonic() > deadline:
                raise Unavailable(f"{self.url} isn't ready within {timeout_s:g} s: {reason}")
            time.sleep(0.1)

    def collections(self) -> list[dict[str, Any]]:
        """Statistics of every collection."""
        return list(self._ask("GET", "/v1/collections")["collections"])

    def create(
        self,
        collection: str,
        *,
        dimension: int | None = None,
        fingerprint: str | None = None,
        columns: Mapping[str, str] | None = None,
    ) -> dict[str, Any]:
        """Make a collection; what isn't said of its model is taken from the one that is served.

        Raises:
            InvalidInput: it is there already, or can't be made.
        """
        wanted = {"name": collection, "dimension": dimension, "fingerprint": fingerprint, "columns": dict(columns or {})}
        return self._ask("POST", "/v1/collections", wanted)

    def drop(self, collection: str) -> None:
        """Remove a collection for good."""
        self._ask("DELETE", _path(collection))

    def stats(self, collection: str) -> dict[str, Any]:
        """Rows, columns, and how the vectors are searched."""
        return self._ask("GET", _path(collection))

    def add(
        self,
        collection: str,
        rows: Iterable[Row],
        *,
        on_conflict: OnConflict = "error",
        fingerprint: str = "",
        columns: Mapping[str, str] | None = None,
    ) -> Added:
        """Add rows in one request; returns once they are durable and found. A row that is bad is in ``errors`` alone.

        Args:
            columns: kinds by name of columns that may not be there yet; the others are of their first value's kind.

        Raises:
            InvalidInput: no row is good, or an id is there already and ``on_conflict`` is ``error``.
            ContractMismatch: the collection holds vectors of another model.
            Unavailable: the sidecar or Triton is down, or the disk is full.
        """
        written, unread = _written(rows)
        numbers = list(written)
        if unread and not written:
            raise InvalidInput(f"none of {len(unread)} rows can be sent; row 0: {unread[0]}", errors=unread)
        wanted = {"rows": list(written.values()), "on_conflict": on_conflict, "fingerprint": fingerprint}
        try:
            done = self._ask("POST", _path(collection, "rows"), wanted | ({"columns": dict(columns)} if columns else {}))
        except InvalidInput as problem:
            if problem.errors:
                problem.errors = {numbers[n]: reason for n, reason in problem.errors.items()} | unread
            raise
        errors = {numbers[int(one["index"])]: str(one["message"]) for one in done["errors"]} | unread
        return Added(done["added"], done["replaced"], done["skipped"], done["ids"], errors)

    def delete(self, collection: str, ids: Sequence[str] = (), *, where: str = "") -> int:
        """Delete rows by ids or by filter; returns how many once they are gone."""
        wanted: dict[str, Any] = {"filter": where} if where else {"ids": list(ids)}
        return int(self._ask("POST", _path(collection, "delete"), wanted)["deleted"])

    def get(self, collection: str, ids: Sequence[str], *, vectors: bool = False) -> list[dict[str, Any]]:
        """Rows by id; those that aren't there are left out. Vectors are float32 [D]."""
        found = self._ask("POST", _path(collection, "get"), {"ids": list(ids), "vectors": vectors})
        return [_row(row) for row in found["rows"]]

    def rows(
        self, collection: str, *, where: str = "", vectors: bool = False, after: int = -1, page: int = 1000
    ) -> Iterator[dict[str, Any]]:
        """All rows that a filter keeps, by number, fetched ``page`` at a time."""
        following: int | None = after
        while following is not None:
            options = urlencode({"filter": where, "vectors": vectors, "after": following, "limit": page})
            found = self._ask("GET", f"{_path(collection, 'rows')}?{options}")
            yield from map(_row, found["rows"])
            following = found["next"]

    def query(
        self,
        collection: str,
        what: str | Term | Sequence[Term],
        *,
        minus: Sequence[Term] = (),
        k: int = 10,
        offset: int = 0,
        where: str = "",
        threshold: float | None = None,
        deduplicate: bool | float = False,
        modality: Tower | None = None,
    ) -> list[Hit]:
        """Search for a text, a term, or a weighted mix of terms, minus others; hits come best first.

        Raises:
            InvalidInput: no such collection, a bad filter, nothing to look for.
            Unavailable: the sidecar is down, or Triton is and a text or an image was asked for.
        """
        terms = [Term(text=what)] if isinstance(what, str) else [what] if isinstance(what, Term) else what
        wanted = {
            "mix": [term.to_json() for term in terms],
            "minus": [term.to_json() for term in minus],
            "k": k,
            "offset": offset,
            "filter": where,
            "threshold": threshold,
            "deduplicate": deduplicate,
            "modality": modality,
        }
        return [Hit(**hit) for hit in self._ask("POST", _path(collection, "search"), wanted)["hits"]]

    def rebuild(self, collection: str, *, wait: bool = False) -> dict[str, Any]:
        """Index everything anew, in the background unless ``wait``."""
        return self._ask("POST", f"{_path(collection, 'rebuild')}?wait={str(wait).lower()}")

    def close(self) -> None:
        """Close the connections."""
        self._pool.clear()

    def __enter__(self) -> Search:
        return self

    def __exit__(self, kind: type[BaseException] | None, problem: BaseException | None, trace: TracebackType | None) -> None:
        self.close()

    def _not_ready(self) -> str:
        """What is missing; empty when nothing is."""
        try:
            missing = json.loads(self._pool.request("GET", f"{self.url}/health/ready").data)["not_ready"]
        except (urllib3.exceptions.HTTPError, ValueError, KeyError, TypeError) as problem:
            return f"no answer from a sidecar ({problem})"
        return "; ".join(f"{name}: {why}" for name, why in missing.items())

    def _ask(self, method: str, path: str, wanted: Any = None) -> dict[str, Any]:
        body = None if wanted is None else json.dumps(wanted).encode()
        try:
            response = self._pool.request(method, self.url + path, body=body)
        except urllib3.exceptions.TimeoutError as problem:
            if isinstance(problem, urllib3.exceptions.NewConnectionError):
                raise Unavailable(f"{self.url} can't be reached ({problem}): start it, clipserve search serve") from problem
            raise Timeout(
                f"{self.url} didn't answer within {self._timeout_s:g} s: raise timeout_s or ask for less"
            ) from problem
        except urllib3.exceptions.HTTPError as problem:
            raise Unavailable(f"{self.url} can't be reached ({problem}): start it, clipserve search serve") from problem
        if response.status >= 400:
            raise _error(response.status, response.data)
        return dict(json.loads(response.data))


def _error(status: int, body: bytes) -> ClipError:
    try:
        details = json.loads(body)["error"]
        message, kind, errors = details["message"], details["type"], details.get("errors", {})
    except (ValueError, KeyError, TypeError):
        return Unavailable(f"the sidecar answers {status}: is something else listening there?")
    if kind == ContractMismatch.__name__:
        return ContractMismatch(message)
    if status == 504:
        return Timeout(message)
    if status >= 500:
        return Unavailable(message)
    return InvalidInput(message, errors={int(n): reason for n, reason in errors.items()})


def _written(rows: Iterable[Row]) -> tuple[dict[int, dict[str, Any]], dict[int, str]]:
    """Rows as the API takes them, and why others can't be had, by position."""
    written: dict[int, dict[str, Any]] = {}
    unread: dict[int, str] = {}
    for n, row in enumerate(rows):
        try:
            written[n] = row.to_json()
        except ClipError as problem:
            unread[n] = str(problem)
    return written, unread


def _metadata(name: str, value: Any) -> Any:
    """A value of a column as the API takes it.

    Raises:
        InvalidInput: JSON has nothing for it.
    """
    if isinstance(value, np.generic | np.ndarray):
        return _metadata(name, value.tolist())
    if isinstance(value, list | tuple):
        return [_metadata(name, one) for one in value]
    if isinstance(value, date):  # a datetime is one too
        return value.isoformat()
    if isinstance(value, bytes):
        return base64.b64encode(value).decode()
    if isinstance(value, Decimal):
        return format(value, "f")
    if value is not None and not isinstance(value, str | int | float | dict):
        raise InvalidInput(f"metadata {name} is a {type(value).__name__}: expected a string, a number or true/false")
    return value


def _path(collection: str, *parts: str) -> str:
    return "/".join(["/v1/collections", quote(collection, safe=""), *parts])


def _file(image: str | os.PathLike[str] | bytes) -> str:
    content = image if isinstance(image, bytes) else read_file(image, Limits())
    return base64.b64encode(content).decode()


def _encoded(vector: VectorLike) -> str:
    try:
        return base64.b64encode(np.asarray(vector, "<f4").tobytes()).decode()
    except (TypeError, ValueError) as problem:
        raise InvalidInput(f"the vector isn't a list of numbers ({problem}): send float32 [D]") from problem


def _row(row: dict[str, Any]) -> dict[str, Any]:
    for name in ("vector_image", "vector_text"):
        if name in row:
            row[name] = _decoded(row[name])
    return row


def _decoded(vector: str) -> Floats:
    return np.frombuffer(base64.b64decode(vector), "<f4")
