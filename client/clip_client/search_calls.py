"""Verbs of the sidecar's HTTP API, written once as coroutines: :class:`AsyncSearch` has them, :class:`Search` runs them."""

from __future__ import annotations

import os
import time
from collections.abc import AsyncIterator, Iterable, Mapping, Sequence
from typing import Any
from urllib.parse import quote, urlencode

from clip_client.arrow_calls import ArrowCalls
from clip_client.concurrency import Concurrency
from clip_client.errors import InvalidInput, NotFound, Unavailable
from clip_client.feedback_calls import FeedbackCalls
from clip_client.hits import PICTURE_BYTES, Hits, Thumbnails, thumbnail_path
from clip_client.model_host import check_wait
from clip_client.reembed_calls import ReembedCalls
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
    as_terms,
    rows_to_json,
    stored_row,
)
from clip_client.sidecar_http import AwaitableSidecar
from clip_client.spec import Tower

_DESCRIBED = 10_000  # hits that come with metadata unless others are asked for


class SearchCalls(ArrowCalls, FeedbackCalls, ReembedCalls):
    """Calls to one sidecar."""

    def __init__(self, http: AwaitableSidecar, concurrency: Concurrency) -> None:
        self.url = http.url
        self._http = http
        self._concurrency = concurrency
        self._shown: Thumbnails | None = None  # fetches thumbnails for the tables of notebooks, which can't await
        self._is_closed = False
        concurrency.close_at_end(self.close)

    def __repr__(self) -> str:
        return self.described(type(self).__name__)

    def described(self, kind: str) -> str:
        """Return a client of this kind in a line: the sidecar, and its state."""
        return f"<{kind} at {self.url}, {'closed' if self._is_closed else 'open'}>"

    def __reduce__(self) -> tuple[Any, ...]:
        raise InvalidInput(f"an {type(self).__name__} can't be copied or pickled, it belongs to its event loop: make one there")

    async def wait_ready(self, *, timeout_s: float = 60.0) -> None:
        """Return once the sidecar answers, its collections are open and its Triton is ready.

        Raises:
            InvalidInput: ``timeout_s`` isn't a number of seconds.
            Unavailable: they aren't within ``timeout_s``; the message names the missing parts.
        """
        check_wait(timeout_s)
        deadline = time.monotonic() + timeout_s
        while reason := await self._http.not_ready():
            if time.monotonic() > deadline:
                raise Unavailable(f"{self._http.url} isn't ready within {timeout_s:g} s: {reason}")
            await self._concurrency.sleep(0.1)

    async def collections(self) -> list[dict[str, Any]]:
        """Return the statistics of every collection."""
        return list((await self._http.ask("GET", "/v1/collections"))["collections"])

    async def create(
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
        return await self._http.ask("POST", "/v1/collections", description)

    async def drop(self, collection: str) -> None:
        """Remove a collection for good.

        Raises:
            NotFound: there is none of that name.
        """
        await self._http.ask("DELETE", _path(collection))

    async def stats(self, collection: str) -> dict[str, Any]:
        """Return the number of rows, the columns, and the index of each tower."""
        return await self._http.ask("GET", _path(collection))

    async def add(
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
        [(sendable, unread)] = await self._concurrency.apply(rows_to_json, [rows], 1)
        numbers = list(sendable)
        if unread and not sendable:
            raise InvalidInput(f"none of {len(unread)} rows can be sent; row 0: {unread[0]}", errors=unread)
        request: dict[str, Any] = {"rows": list(sendable.values()), "on_conflict": on_conflict, "fingerprint": fingerprint}
        request |= {"columns": dict(columns)} if columns else {}
        try:
            answer = await self._http.ask("POST", _path(collection, "rows"), request)
        except InvalidInput as problem:
            if problem.errors:
                problem.errors = {numbers[n]: reason for n, reason in problem.errors.items()} | unread
            raise
        errors = {numbers[int(error["index"])]: str(error["message"]) for error in answer["errors"]} | unread
        return Added(answer["added"], answer["replaced"], answer["skipped"], answer["ids"], errors)

    async def delete(self, collection: str, ids: Sequence[str] = (), *, where: str = "") -> int:
        """Delete rows by ids or by filter; returns their number once they are gone."""
        selection: dict[str, Any] = {"filter": where} if where else {"ids": list(ids)}
        return int((await self._http.ask("POST", _path(collection, "delete"), selection))["deleted"])

    async def get(self, collection: str, ids: Sequence[str], *, vectors: bool = False) -> list[dict[str, Any]]:
        """Return rows by id, without those that aren't there. Vectors are float32 [D]."""
        answer = await self._http.ask("POST", _path(collection, "get"), {"ids": list(ids), "vectors": vectors})
        return [stored_row(row) for row in answer["rows"]]

    async def rows(
        self,
        collection: str,
        *,
        where: str = "",
        vectors: bool = False,
        after: int = -1,
        page: int = 1000,
        order: Order = "number",
        seed: int = 0,
    ) -> AsyncIterator[dict[str, Any]]:
        """Iterate over rows that a filter keeps.

        Args:
            after: number of the row behind which to begin.
            page: rows that are fetched at a time; of another order than by number there is this one page, of 10,000 at most.
            order: by ``number`` for all rows; ``newest``, or ``random`` by a ``seed``, for the first ones.
        """
        options = {"filter": where, "vectors": vectors, "limit": page, "order": order, "seed": seed}
        following: int | None = after
        while following is not None:
            answer = await self._http.ask("GET", f"{_path(collection, 'rows')}?{urlencode({**options, 'after': following})}")
            for row in answer["rows"]:
                yield stored_row(row)
            following = answer["next"]

    async def query(
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
        columns: Sequence[str] | None = None,
        client: str = "",
    ) -> Hits:
        """Search for a text, a term, or a weighted mix of terms, minus others; hits come best first.

        Args:
            k: at most 100,000 with offset; more than 10,000 hits come without metadata, which :meth:`get` gives.
            sort: column by which the hits that pass, at most 10,000, are sorted instead, those without a value last.
            client: an opaque id of who searches, who is always answered by the same model; the sidecar keeps none of it.

        Raises:
            InvalidInput, TooLarge: a bad filter or column, nothing to look for, more at once than is allowed.
            NotFound: no such collection.
            Unavailable: the sidecar is down, or Triton is and a text or an image was asked for.
        """
        sent = [] if columns is None and k > _DESCRIBED else columns
        passing = {"filter": where, "threshold": threshold, "deduplicate": deduplicate, "modality": modality}
        query: dict[str, Any] = {**await self._terms(what, minus), **passing, "k": k, "offset": offset, "columns": sent}
        query |= {"sort": {"column": sort, "descending": descending}} if sort else {}
        query |= {"client": client} if client else {}
        return self._hits(await self._http.ask("POST", _path(collection, "search"), query))

    async def thumbnail(self, hit: Hit) -> bytes | None:
        """Return the thumbnail of a hit, a JPEG of at most 256 KB; None where it has none."""
        path = thumbnail_path(hit)
        try:
            return await self._http.content(path, PICTURE_BYTES) if path else None
        except NotFound:  # deleted since, or a source that isn't a picture
            return None

    async def count(
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
        wanted = {"k": 1, "count": True, "filter": where, "threshold": threshold, "modality": modality}
        answer = await self._http.ask("POST", _path(collection, "search"), {**await self._terms(what, minus), **wanted})
        return Passing(**answer["passing"])

    async def facets(self, collection: str, *, where: str = "", columns: Sequence[str] = ()) -> dict[str, Any]:
        """Return by column the most frequent values or the range, as the API does; the user's columns unless some are named."""
        options = urlencode({"filter": where, "columns": ",".join(columns)})
        return await self._http.ask("GET", f"{_path(collection, 'facets')}?{options}")

    async def duplicates(
        self, collection: str, *, threshold: float = 0.95, where: str = "", limit: int = 50, offset: int = 0
    ) -> Duplicates:
        """Return groups of pictures that are as near as ``threshold``, the largest first.

        Raises:
            TooLarge, InvalidInput: an option that can't be used.
        """
        wanted = {"threshold": threshold, "filter": where, "limit": limit, "offset": offset}
        answer = await self._http.ask("POST", _path(collection, "duplicates"), wanted)
        groups = [Group(self._hits(group, "rows"), group["size"]) for group in answer["groups"]]
        return Duplicates(groups, answer["more"], answer["checked"])

    async def keep_picture(self, image: str | os.PathLike[str] | bytes) -> str:
        """Keep a small copy of a picture on the sidecar; return its id, which the page's address takes as ``#q=ID``."""
        [term] = await self._concurrency.apply(Term.to_json, [Term(image=image)], 1)
        return str((await self._http.ask("POST", "/v1/queries", {"image": term["image"]}))["id"])

    async def rebuild(self, collection: str, *, wait: bool = False) -> dict[str, Any]:
        """Index everything anew, in the background unless ``wait``."""
        return await self._http.ask("POST", f"{_path(collection, 'rebuild')}?wait={str(wait).lower()}")

    async def close(self) -> None:
        """Close the connections."""
        closable = await self._concurrency.close()
        self._is_closed = True
        if closable:
            await self._http.close()

    def _hits(self, answer: Mapping[str, Any], name: str = "hits") -> Hits:
        return Hits((Hit(**row) for row in answer[name]), self._shown, answer.get("model", ""), answer.get("space", ""))

    async def _terms(self, what: str | Term | Sequence[Term], minus: Sequence[Term]) -> dict[str, Any]:
        mix, dropped = as_terms(what, "what"), as_terms(minus, "minus")
        terms = [*mix, *dropped]
        if any(term.image is not None for term in terms):  # files are read
            [content] = await self._concurrency.apply(_to_terms, [terms], 1)
        else:
            content = _to_terms(terms)
        return {"mix": content[: len(mix)], "minus": content[len(mix) :]}


def _to_terms(terms: Sequence[Term]) -> list[dict[str, Any]]:
    return [term.to_json() for term in terms]


def _path(collection: str, *parts: str) -> str:
    return "/".join(["/v1/collections", quote(collection, safe=""), *parts])
