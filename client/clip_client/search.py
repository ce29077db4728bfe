"""The SDK of the search sidecar: the verbs of its HTTP API."""

from __future__ import annotations

import time
from collections.abc import Iterable, Iterator, Mapping, Sequence
from typing import Any
from urllib.parse import quote, urlencode

from clip_client.errors import ClipError, InvalidInput, Unavailable
from clip_client.ports import SEARCH_URL
from clip_client.rows_and_hits import (
    Added,
    Duplicates,
    Group,
    Hit,
    OnConflict,
    Order,
    Passing,
    Row,
    Term,
    VectorLike,
    stored_row,
)
from clip_client.sidecar_http import SidecarHttp
from clip_client.spec import Tower

__all__ = [
    "Added",
    "Duplicates",
    "Group",
    "Hit",
    "OnConflict",
    "Order",
    "Passing",
    "Row",
    "Search",
    "Term",
    "VectorLike",
]


class Search:
    """A client of one sidecar; safe to use from several threads.

    >>> with Search("http://localhost:1234") as search:
    ...     search.query("photos", "a cat", k=5)[0].score

    Args:
        url: where the sidecar listens.
        token: the sidecar's, if it has one.
        timeout_s: bound on each request.
    """

    def __init__(self, url: str = SEARCH_URL, *, token: str = "", timeout_s: float = 60.0) -> None:
        self._http = SidecarHttp(url, token=token, timeout_s=timeout_s)
        self.url = self._http.url

    def wait_ready(self, *, timeout_s: float = 60.0) -> None:
        """Return once the sidecar answers, its collections are open and its Triton is ready.

        Raises:
            Unavailable: they aren't within ``timeout_s``; the message names the missing parts.
        """
        deadline = time.monotonic() + timeout_s
        while reason := self._http.not_ready():
            if time.monotonic() > deadline:
                raise Unavailable(f"{self.url} isn't ready within {timeout_s:g} s: {reason}")
            time.sleep(0.1)

    def collections(self) -> list[dict[str, Any]]:
        """Return the statistics of every collection."""
        return list(self._http.ask("GET", "/v1/collections")["collections"])

    def create(
        self,
        collection: str,
        *,
        dimension: int | None = None,
        fingerprint: str | None = None,
        columns: Mapping[str, str] | None = None,
    ) -> dict[str, Any]:
        """Make a collection; dimension and fingerprint are the served model's unless given.

        Raises:
            Conflict: it is there already.
            InvalidInput: it can't be made.
        """
        description = {"name": collection, "dimension": dimension, "fingerprint": fingerprint, "columns": dict(columns or {})}
        return self._http.ask("POST", "/v1/collections", description)

    def drop(self, collection: str) -> None:
        """Remove a collection for good.

        Raises:
            NotFound: there is none of that name.
        """
        self._http.ask("DELETE", _path(collection))

    def stats(self, collection: str) -> dict[str, Any]:
        """Return the number of rows, the columns, and the index of each tower."""
        return self._http.ask("GET", _path(collection))

    def add(
        self,
        collection: str,
        rows: Iterable[Row],
        *,
        on_conflict: OnConflict = "error",
        fingerprint: str = "",
        columns: Mapping[str, str] | None = None,
    ) -> Added:
        """Add rows in one request; returns once they are durable and searchable. A bad row is in ``errors`` and stops no other.

        Args:
            columns: kinds by name, for columns that the collection may lack; others get the kind of their first value.

        Raises:
            InvalidInput: no row is good.
            Conflict: an id is there already and ``on_conflict`` is ``error``.
            TooLarge: send fewer rows at once.
            ContractMismatch: the collection holds vectors of another model.
            Unavailable: the sidecar or Triton is down, or the disk is full.
        """
        sendable, unread = _to_json(rows)
        numbers = list(sendable)
        if unread and not sendable:
            raise InvalidInput(f"none of {len(unread)} rows can be sent; row 0: {unread[0]}", errors=unread)
        request: dict[str, Any] = {"rows": list(sendable.values()), "on_conflict": on_conflict, "fingerprint": fingerprint}
        if columns:
            request["columns"] = dict(columns)
        try:
            answer = self._http.ask("POST", _path(collection, "rows"), request)
        except InvalidInput as problem:
            if problem.errors:
                problem.errors = {numbers[n]: reason for n, reason in problem.errors.items()} | unread
            raise
        errors = {numbers[int(error["index"])]: str(error["message"]) for error in answer["errors"]} | unread
        return Added(answer["added"], answer["replaced"], answer["skipped"], answer["ids"], errors)

    def delete(self, collection: str, ids: Sequence[str] = (), *, where: str = "") -> int:
        """Delete rows by ids or by filter; returns their number once they are gone."""
        selection: dict[str, Any] = {"filter": where} if where else {"ids": list(ids)}
        return int(self._http.ask("POST", _path(collection, "delete"), selection)["deleted"])

    def get(self, collection: str, ids: Sequence[str], *, vectors: bool = False) -> list[dict[str, Any]]:
        """Return rows by id, without those that aren't there. Vectors are float32 [D]."""
        answer = self._http.ask("POST", _path(collection, "get"), {"ids": list(ids), "vectors": vectors})
        return [stored_row(row) for row in answer["rows"]]

    def rows(
        self,
        collection: str,
        *,
        where: str = "",
        vectors: bool = False,
        after: int = -1,
        page: int = 1000,
        order: Order = "number",
        seed: int = 0,
    ) -> Iterator[dict[str, Any]]:
        """Iterate over rows that a filter keeps.

        Args:
            after: number of the row behind which to begin.
            page: rows that are fetched at a time; of another order than by number there is this one page, of 10,000 at most.
            order: by ``number`` for all rows; ``newest``, or ``random`` by a ``seed``, for the first ones.
        """
        options = {"filter": where, "vectors": vectors, "limit": page, "order": order, "seed": seed}
        following: int | None = after
        while following is not None:
            answer = self._http.ask("GET", f"{_path(collection, 'rows')}?{urlencode({**options, 'after': following})}")
            yield from map(stored_row, answer["rows"])
            following = answer["next"]

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
        sort: str = "",
        descending: bool = False,
    ) -> list[Hit]:
        """Search for a text, a term, or a weighted mix of terms, minus others; hits come best first.

        Args:
            sort: column by which the hits that pass, at most 10,000, are sorted instead, those without a value last.

        Raises:
            InvalidInput: a bad filter or column, nothing to look for.
            NotFound: no such collection.
            TooLarge: more was asked for at once than is allowed.
            Unavailable: the sidecar is down, or Triton is and a text or an image was asked for.
        """
        query: dict[str, Any] = {
            **_terms(what, minus),
            "k": k,
            "offset": offset,
            "filter": where,
            "threshold": threshold,
            "deduplicate": deduplicate,
            "modality": modality,
        }
        if sort:
            query["sort"] = {"column": sort, "descending": descending}
        return [Hit(**hit) for hit in self._http.ask("POST", _path(collection, "search"), query)["hits"]]

    def count(
        self,
        collection: str,
        what: str | Term | Sequence[Term],
        *,
        minus: Sequence[Term] = (),
        where: str = "",
        threshold: float | None = None,
        modality: Tower | None = None,
    ) -> Passing:
        """Return the number of rows that a search would pass, exactly up to 10,000; raises as :meth:`query`."""
        query = {**_terms(what, minus), "k": 1, "filter": where, "threshold": threshold, "modality": modality, "count": True}
        return Passing(**self._http.ask("POST", _path(collection, "search"), query)["passing"])

    def facets(self, collection: str, *, where: str = "", columns: Sequence[str] = ()) -> dict[str, Any]:
        """Return by column the most frequent values or the range, as the API does; the user's columns unless some are named."""
        options = urlencode({"filter": where, "columns": ",".join(columns)})
        return self._http.ask("GET", f"{_path(collection, 'facets')}?{options}")

    def duplicates(
        self, collection: str, *, threshold: float = 0.95, where: str = "", limit: int = 50, offset: int = 0
    ) -> Duplicates:
        """Return groups of pictures that are as near as ``threshold``, the largest first.

        Raises:
            TooLarge, InvalidInput: an option that can't be used.
        """
        wanted = {"threshold": threshold, "filter": where, "limit": limit, "offset": offset}
        answer = self._http.ask("POST", _path(collection, "duplicates"), wanted)
        groups = [Group([Hit(**hit) for hit in group["rows"]], group["size"]) for group in answer["groups"]]
        return Duplicates(groups, answer["more"], answer["checked"])

    def rebuild(self, collection: str, *, wait: bool = False) -> dict[str, Any]:
        """Index everything anew, in the background unless ``wait``."""
        return self._http.ask("POST", f"{_path(collection, 'rebuild')}?wait={str(wait).lower()}")

    def close(self) -> None:
        """Close the connections."""
        self._http.close()

    def __enter__(self) -> Search:
        return self

    def __exit__(self, *problem: object) -> None:
        self.close()


def _to_json(rows: Iterable[Row]) -> tuple[dict[int, dict[str, Any]], dict[int, str]]:
    """Return rows as the API takes them, and reasons for those that can't be read, by position."""
    sendable: dict[int, dict[str, Any]] = {}
    unread: dict[int, str] = {}
    for n, row in enumerate(rows):
        try:
            sendable[n] = row.to_json()
        except ClipError as problem:
            unread[n] = str(problem)
    return sendable, unread


def _terms(what: str | Term | Sequence[Term], minus: Sequence[Term]) -> dict[str, Any]:
    terms = [Term(text=what)] if isinstance(what, str) else [what] if isinstance(what, Term) else what
    return {"mix": [term.to_json() for term in terms], "minus": [term.to_json() for term in minus]}


def _path(collection: str, *parts: str) -> str:
    return "/".join(["/v1/collections", quote(collection, safe=""), *parts])
