"""The SDK of the search sidecar: the verbs of its HTTP API."""

from __future__ import annotations

from clip_client.awaited_sidecar import AwaitedSidecar
from clip_client.blocking import blocking, blocking_iterator
from clip_client.concurrency import Threads
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
)
from clip_client.search_calls import SearchCalls
from clip_client.sidecar_http import SidecarHttp

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
        http, concurrency = SidecarHttp(url, token=token, timeout_s=timeout_s), Threads()
        self._calls = SearchCalls(AwaitedSidecar(http, concurrency), concurrency)
        self.url = http.url

    wait_ready = blocking(SearchCalls.wait_ready)
    collections = blocking(SearchCalls.collections)
    create = blocking(SearchCalls.create)
    drop = blocking(SearchCalls.drop)
    stats = blocking(SearchCalls.stats)
    add = blocking(SearchCalls.add)
    delete = blocking(SearchCalls.delete)
    get = blocking(SearchCalls.get)
    rows = blocking_iterator(SearchCalls.rows)
    query = blocking(SearchCalls.query)
    count = blocking(SearchCalls.count)
    facets = blocking(SearchCalls.facets)
    duplicates = blocking(SearchCalls.duplicates)
    keep_picture = blocking(SearchCalls.keep_picture)
    rebuild = blocking(SearchCalls.rebuild)
    close = blocking(SearchCalls.close)

    def __enter__(self) -> Search:
        return self

    def __exit__(self, *problem: object) -> None:
        self.close()
