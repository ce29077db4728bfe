"""The SDK of the search sidecar: the verbs of its HTTP API."""

from __future__ import annotations

from collections.abc import Mapping
from functools import partial
from typing import Any

from clip_client import connection_options
from clip_client.blocking import blocking, blocking_iterator
from clip_client.client_variables import SEARCH_TOKEN
from clip_client.concurrency import Threads
from clip_client.connect import sidecar_at
from clip_client.connection_options import Retries, Timeouts, sent_token
from clip_client.feedback_calls import FeedbackBooks, FeedbackEvent, FeedbackKind
from clip_client.pickles import reduced, secrets
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
from clip_client.tls import Tls

__all__ = [
    "Added",
    "Duplicates",
    "FeedbackBooks",
    "FeedbackEvent",
    "FeedbackKind",
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
    """A client of one sidecar; safe to use from several threads. Its pickle opens another one.

    >>> with Search("http://localhost:1234") as search:
    ...     search.query("photos", "a cat", k=5)[0].score

    Args:
        url: where the sidecar listens, http or https; None for the variable ``CLIPSERVE_URL``, or ``http://localhost:1234``.
        token: the sidecar's, if it has one; None for the variable ``CLIPSERVE_SEARCH_TOKEN``, if it is set.
        timeout_s: bound on each request.
        headers: sent with every request, too.
        tls: certificates for https; None for the system's, or those that the environment names.
        timeouts: bounds on the parts of a request.
        retries: repetitions while the sidecar can't be reached. A request that changes something isn't sent again once it
            may have arrived.

    Raises:
        InvalidInput: an argument or a variable can't be used.
    """

    def __init__(
        self,
        url: str | None = None,
        *,
        token: str | None = None,
        timeout_s: float = 60.0,
        headers: Mapping[str, str] | None = None,
        tls: Tls | None = None,
        timeouts: Timeouts | None = None,
        retries: Retries | None = None,
    ) -> None:
        options = connection_options.options(timeout_s, sent_token(token, SEARCH_TOKEN), headers, tls, timeouts, retries)
        concurrency = Threads()
        http = SidecarHttp(*sidecar_at(url, options), options, concurrency)
        self._calls = SearchCalls(http, concurrency)
        self._calls._shown = self.thumbnail
        self.url = http.url
        again: dict[str, Any] = {"timeout_s": timeout_s, "tls": tls, "timeouts": timeouts, "retries": retries}
        self._opening = partial(type(self), self.url, **again)
        self._secrets = secrets(token=token, headers=headers)

    wait_ready = blocking(SearchCalls.wait_ready)
    collections = blocking(SearchCalls.collections)
    create = blocking(SearchCalls.create)
    drop = blocking(SearchCalls.drop)
    stats = blocking(SearchCalls.stats)
    add = blocking(SearchCalls.add)
    add_arrow = blocking(SearchCalls.add_arrow)
    delete = blocking(SearchCalls.delete)
    get = blocking(SearchCalls.get)
    rows = blocking_iterator(SearchCalls.rows)
    import_folder = blocking_iterator(SearchCalls.import_folder)
    arrow_rows = blocking_iterator(SearchCalls.arrow_rows)
    query = blocking(SearchCalls.query)
    thumbnail = blocking(SearchCalls.thumbnail)
    count = blocking(SearchCalls.count)
    facets = blocking(SearchCalls.facets)
    duplicates = blocking(SearchCalls.duplicates)
    keep_picture = blocking(SearchCalls.keep_picture)
    feedback = blocking(SearchCalls.feedback)
    kept_feedback = blocking_iterator(SearchCalls.kept_feedback)
    feedback_books = blocking(SearchCalls.feedback_books)
    delete_feedback = blocking(SearchCalls.delete_feedback)
    rebuild = blocking(SearchCalls.rebuild)
    reembed = blocking(SearchCalls.reembed)
    reembedding = blocking(SearchCalls.reembedding)
    left_out = blocking_iterator(SearchCalls.left_out)
    reembed_back = blocking(SearchCalls.reembed_back)
    drop_old_vectors = blocking(SearchCalls.drop_old_vectors)
    close = blocking(SearchCalls.close)

    def __reduce__(self) -> tuple[Any, ...]:
        return reduced(self._opening, self._secrets, SEARCH_TOKEN)

    def __repr__(self) -> str:
        return self._calls.described("Search")

    def __enter__(self) -> Search:
        return self

    def __exit__(self, *problem: object) -> None:
        self.close()
