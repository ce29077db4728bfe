"""The application: routes, and the guard around them."""

from __future__ import annotations

import contextlib
import threading
from collections.abc import AsyncIterator

from fastapi import FastAPI, Request, Response
from fastapi.exceptions import RequestValidationError
from starlette.exceptions import HTTPException
from starlette.middleware.cors import CORSMiddleware
from starlette.requests import ClientDisconnect

from clip_client.errors import ClipError, InvalidInput
from clip_search.sidecar import Sidecar
from clip_search.web import collections, health, knn, openai, pictures
from clip_search.web.guard import Guard, Refused, failure
from clip_search.web.metrics import Metrics
from clip_search.web.reading import Reader
from clip_search.web.state import Described, State

_DESCRIPTION = "Search pictures and texts by CLIP embeddings. Bodies are JSON, whatever their content type."


def app(sidecar: Sidecar) -> FastAPI:
    """The application of a sidecar; collections are opened when it starts, while it answers already."""
    shared = State(sidecar, Metrics(sidecar), Reader(sidecar.options))
    made = Described(title="clipserve search", description=_DESCRIPTION, lifespan=_lifespan)
    made.state.shared = shared
    for part in (collections, knn, openai, health, pictures):
        made.include_router(part.router)
    made.add_exception_handler(ClipError, _failed)
    made.add_exception_handler(HTTPException, _http)
    made.add_exception_handler(RequestValidationError, _parameter)
    made.add_exception_handler(ClientDisconnect, _gone)
    options = sidecar.options.http
    made.add_middleware(Guard, options=options, metrics=shared.metrics, reader=shared.reader)
    if options.origins:
        made.add_middleware(CORSMiddleware, allow_origins=options.origins, allow_methods=["*"], allow_headers=["*"])
    return made


@contextlib.asynccontextmanager
async def _lifespan(application: FastAPI) -> AsyncIterator[None]:
    shared: State = application.state.shared

    def open_all() -> None:
        shared.sidecar.open_all()
        shared.opened.set()

    threading.Thread(target=open_all, name="opening", daemon=True).start()
    yield
    shared.sidecar.close()


async def _failed(request: Request, problem: Exception) -> Response:
    return failure(problem)


async def _gone(request: Request, problem: Exception) -> Response:
    """The client went away while it sent its body: nobody reads this, it is counted under nginx's status for it."""
    return Response(status_code=499)


async def _http(request: Request, problem: Exception) -> Response:
    """What Starlette itself refuses: no such route, another method."""
    assert isinstance(problem, HTTPException)  # noqa: S101  (it was registered for this type)
    return failure(Refused(problem.status_code, f"{request.method} {request.scope['path'][:200]}: {problem.detail}; see /docs"))


async def _parameter(request: Request, problem: Exception) -> Response:
    """A path or query parameter of another type."""
    assert isinstance(problem, RequestValidationError)  # noqa: S101  (it was registered for this type)
    first = problem.errors()[0]
    return failure(InvalidInput(f"{first['loc'][-1]}: {first['msg']}, got {str(first['input'])[:80]!r}; see /docs"))
