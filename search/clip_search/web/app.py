"""Application: routes, and the guard around them."""

import contextlib
import threading
from collections.abc import AsyncIterator

from fastapi import Depends, FastAPI, Request, Response
from fastapi.exceptions import RequestValidationError
from starlette.exceptions import HTTPException
from starlette.middleware.cors import CORSMiddleware
from starlette.requests import ClientDisconnect

from clip_client.errors import ClipError, InvalidInput
from clip_client.request_ids import REQUEST_ID
from clip_search.sidecar import Sidecar
from clip_search.web import (
    arrow,
    classifying,
    collections,
    comparing,
    exploring,
    feedback,
    folder_imports,
    health,
    knn,
    openai,
    pages,
    queries,
    reembedding,
    roboflow,
    row_pictures,
    row_thumbnails,
)
from clip_search.web.api_document import Application
from clip_search.web.app_state import State
from clip_search.web.body_reader import Reader
from clip_search.web.collection_metrics import CollectionMetrics
from clip_search.web.guard import Guard, failure
from clip_search.web.metrics import Metrics
from clip_search.web.refusal import Refused
from clip_search.web.request_log import RequestLog
from clip_search.web.response_models import ANY_ROUTE
from clip_search.web.scopes import check_scope
from clip_search.web.sending import Sender
from clip_search.web.state_metrics import StateMetrics
from clip_search.web.tokens import Tokens
from clip_search.web.traces import Traces

_DESCRIPTION = "Search pictures and texts by CLIP embeddings. Bodies are JSON, whatever their content type."


_VECTORS = (comparing, classifying, knn, openai, roboflow)
_PICTURES = (row_thumbnails, row_pictures, queries)
_PARTS = (collections, arrow, folder_imports, exploring, feedback, reembedding, *_VECTORS, health, *_PICTURES, pages)


def app(sidecar: Sidecar, tokens: Tokens | None = None, traces: Traces | None = None) -> FastAPI:
    """Return the application of a sidecar; it answers at once, and opens collections in the background when it starts.

    Args:
        sidecar: what it serves.
        tokens: that it takes; those of the options if None.
        traces: recorder of spans; none are recorded if None.
    """
    reader, sender, options = Reader(sidecar.options), Sender(sidecar.options.bounds), sidecar.options.http
    tokens = tokens or Tokens(options)
    shared = State(sidecar, Metrics(sidecar.feedback), reader, sender, tokens)
    shared.metrics.register(CollectionMetrics(sidecar), StateMetrics(shared))
    application = Application(
        title="clipserve search", description=_DESCRIPTION, lifespan=_lifespan, docs_url=None, redoc_url=None
    )  # fmt: skip
    application.state.shared = shared
    application.asks_token = tokens.are_asked_for
    for part in _PARTS:
        application.include_router(part.router, responses=ANY_ROUTE, dependencies=[Depends(check_scope)])
    application.add_exception_handler(ClipError, _failed)
    application.add_exception_handler(HTTPException, _http)
    application.add_exception_handler(RequestValidationError, _parameter)
    application.add_exception_handler(ClientDisconnect, _gone)
    application.add_middleware(Guard, shared=shared)
    _allow_origins(application, options.origins)
    application.add_middleware(RequestLog, addresses=options.log_addresses, traces=traces or Traces())
    return application


def _allow_origins(application: FastAPI, origins: tuple[str, ...]) -> None:
    """Let pages of other sites call, and read the request's id."""
    if origins:
        application.add_middleware(
            CORSMiddleware, allow_origins=origins, allow_methods=["*"], allow_headers=["*"], expose_headers=[REQUEST_ID]
        )


@contextlib.asynccontextmanager
async def _lifespan(application: FastAPI) -> AsyncIterator[None]:
    shared: State = application.state.shared

    def open_all() -> None:
        shared.sidecar.open_all()
        shared.opened.set()

    threading.Thread(target=open_all, name="opening", daemon=True).start()
    shared.tokens.start()
    yield
    shared.tokens.stop()
    shared.row_process.close()
    shared.sidecar.close()


async def _failed(request: Request, problem: Exception) -> Response:
    return failure(problem)


async def _gone(request: Request, problem: Exception) -> Response:
    """Count a request whose client went away while it sent the body, under nginx's status for it; nobody reads the answer."""
    return Response(status_code=499)


async def _http(request: Request, problem: Exception) -> Response:
    """Answer what Starlette itself refuses: no such route, another method."""
    assert isinstance(problem, HTTPException)  # noqa: S101  (it was registered for this type)
    return failure(Refused(problem.status_code, f"{request.method} {request.scope['path'][:200]}: {problem.detail}; see /docs"))


async def _parameter(request: Request, problem: Exception) -> Response:
    """Answer a path or query parameter of another type."""
    assert isinstance(problem, RequestValidationError)  # noqa: S101  (it was registered for this type)
    first = problem.errors()[0]
    return failure(InvalidInput(f"{first['loc'][-1]}: {first['msg']}, got {str(first['input'])[:80]!r}; see /docs"))
