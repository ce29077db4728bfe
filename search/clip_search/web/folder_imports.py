"""Route of imports from folders on the sidecar's own machine."""

import dataclasses
from collections.abc import AsyncIterator, Generator
from typing import Annotated, Literal

import anyio
import orjson
from fastapi import APIRouter, Request, Response
from fastapi.responses import StreamingResponse
from pydantic import Field
from starlette.concurrency import run_in_threadpool

from clip_search.folder_import import FolderImport, begun
from clip_search.imports.steps import Step
from clip_search.web import response_models as answers
from clip_search.web.api_document import body_of
from clip_search.web.app_state import State, body, collection, state
from clip_search.web.guard import failure
from clip_search.web.request_models import Body
from clip_search.web.response_models import failures

router = APIRouter(prefix="/v1/collections", tags=["collections"])
_LINES = "application/x-ndjson"


class NewFolder(Body):
    """Request to import a folder that lies below the folders that the sidecar reads."""

    folder: Annotated[str, Field(max_length=4096, description="absolute path")]
    state: (
        Annotated[list[int], Field(max_length=2, description="inode and time of change in ns, as the client sees them")] | None
    ) = None
    prefix: Annotated[str, Field(max_length=1024, description="in front of each row's number, which together are its id")] = ""
    on_conflict: Literal["skip", "replace"] = "skip"
    fingerprint: Annotated[str, Field(max_length=64, description="of the model, if the folder's files don't say")] = ""


@router.post(
    "/{name}/import",
    response_class=StreamingResponse,
    responses={200: {"model": answers.ImportStep, "content": {_LINES: {}}}, **failures(404, 409, 413, 503)},
    openapi_extra=body_of(NewFolder),
)
async def import_folder(request: Request, name: str) -> Response:
    """Add the rows of a folder; each line of the answer is the outcome of some of them. Whoever closes the connection ends it.

    Sent again, it goes on: rows that are there are unchanged. A last line with ``error`` tells why it ended early.
    """
    named, shared, sent = collection(request), state(request), await body(request, NewFolder)
    wanted = FolderImport(sent.folder, tuple(sent.state or ()), sent.prefix, sent.on_conflict, sent.fingerprint)
    steps = await shared.importing.run(begun, shared.sidecar, named, wanted)
    return StreamingResponse(_lines(shared, steps), media_type=_LINES)


async def _lines(shared: State, steps: Generator[Step]) -> AsyncIterator[bytes]:
    try:
        while (step := await shared.importing.run(next, steps, None)) is not None:
            yield orjson.dumps(dataclasses.asdict(step)) + b"\n"
    except Exception as problem:  # the status is sent already: a last line tells what other routes do with theirs
        yield bytes(failure(problem).body) + b"\n"
    finally:
        with anyio.CancelScope(shield=True):
            await run_in_threadpool(steps.close)
