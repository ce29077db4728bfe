"""State that the routes share, and access to the parts of a request."""

import threading
from collections.abc import Callable
from dataclasses import dataclass, field
from functools import partial
from typing import Any, TypeVar

from fastapi import Request
from pydantic import BaseModel
from starlette.concurrency import run_in_threadpool

from clip_search.arrays import Floats
from clip_search.collection import Collection
from clip_search.embedder import TIMEOUT_S
from clip_search.lru import Lru
from clip_search.sidecar import Sidecar
from clip_search.steps import step
from clip_search.web.body_reader import Body, Reader
from clip_search.web.metrics import Metrics
from clip_search.web.request_models import parsed
from clip_search.web.row_parser import Rows, parsed_rows
from clip_search.web.row_process import RowProcess
from clip_search.web.sending import Sender
from clip_search.web.thread_pool import Pool
from clip_search.web.tokens import Tokens

_Kind = TypeVar("_Kind", bound=BaseModel)
_Out = TypeVar("_Out")
_LABEL_SETS = 16  # of a thousand labels each, tens of megabytes
_SMALL = 64 * 2**10  # bodies up to this size are parsed in a fraction of a millisecond: a thread would cost more


def _pool(purpose: str, threads: int = 40) -> Callable[[], Pool]:
    return partial(Pool, purpose, threads=threads, waiting=400, wait_s=TIMEOUT_S)


@dataclass(frozen=True)
class State:
    """Shared parts; a pool of threads for each thing that may stand still, so that nothing else waits for it."""

    sidecar: Sidecar
    metrics: Metrics
    reader: Reader
    sender: Sender
    tokens: Tokens
    row_process: RowProcess = field(default_factory=RowProcess)
    labels: Lru[tuple[str, ...], Floats] = field(default_factory=lambda: Lru(_LABEL_SETS))  # embeddings [L, D]
    opened: threading.Event = field(default_factory=threading.Event)  # set once all collections are open
    searching: Pool = field(default_factory=_pool("the index"))  # for the index alone
    ranking: Pool = field(default_factory=_pool("long lists of hits", threads=2))  # a hundred megabytes each meanwhile
    model: Pool = field(default_factory=_pool("the model"))  # waits for Triton
    fetching: Pool = field(default_factory=_pool("pictures that are fetched"))  # waits for other hosts, then for Triton
    importing: Pool = field(default_factory=_pool("imports of folders", threads=2))  # each has some ten megabytes
    writing: Pool = field(default_factory=_pool("the table"))  # waits for the disk
    pictures: Pool = field(default_factory=_pool("small pictures", threads=8))  # waits for memory to decode pictures
    full: Pool = field(default_factory=_pool("pictures in full", threads=8))  # reads files, and waits for memory to decode them
    counting: Pool = field(default_factory=_pool("facets", threads=4))  # looks through a hundred thousand rows
    comparing: Pool = field(default_factory=_pool("near duplicates", threads=1))  # holds some hundred megabytes meanwhile
    measuring: Pool = field(default_factory=_pool("metrics", threads=2))  # asks disks and Triton, for a moment
    feedback: Pool = field(default_factory=_pool("feedback", threads=16))  # waits for the disk, events of many in one commit
    health: Pool = field(default_factory=_pool("the model's health", threads=8))  # asks Triton, for a moment


def state(request: Request) -> State:
    """Return the application's state."""
    return request.app.state.shared  # type: ignore[no-any-return]


def collection(request: Request) -> Collection:
    """Return the collection that the path names."""
    return state(request).sidecar.collection(request.path_params["name"])


async def body(request: Request, kind: type[_Kind]) -> _Kind:
    """Read and parse the request's JSON."""
    return await off_loop(request, parsed, await content(request), kind)


async def content(request: Request) -> bytes:
    """Read the request's body."""
    sent: Body = request.scope["body"]
    with step("read"):
        return await sent.content()


async def rows(request: Request) -> Rows:
    """Read and parse the rows that a request adds, in another process if they are many; raise InvalidInput for no rows."""
    sent: Body = request.scope["body"]
    with step("read"):
        file = await sent.file()
    if not file:
        return await off_loop(request, parsed_rows, await sent.content())
    parsed = await off_loop(request, state(request).row_process.parsed_rows, file)
    sent.let_go()
    return parsed


async def off_loop(request: Request, work: Callable[..., _Out], *arguments: Any) -> _Out:
    """Call a function that takes longer the larger the body is: in a thread if the body is large."""
    sent: Body = request.scope["body"]
    with step("parse"):
        return work(*arguments) if sent.size <= _SMALL else await run_in_threadpool(work, *arguments)
