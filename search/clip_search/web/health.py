"""Whether it lives, whether it is ready and what isn't, and what it counted."""

from __future__ import annotations

from fastapi import APIRouter, Request, Response
from starlette.concurrency import run_in_threadpool

from clip_search.web.guard import answer
from clip_search.web.state import State, state

router = APIRouter(tags=["operation"])


@router.get("/health/live")
async def live() -> Response:
    """200 while the process answers."""
    return answer({"live": True})


@router.get("/health/ready")
async def ready(request: Request) -> Response:
    """200 when everything can be asked; else 503 with what isn't ready. Searches by vector may go on."""
    missing = await state(request).health.run(_missing, state(request))
    return answer({"ready": not missing, "not_ready": missing}, 503 if missing else 200)


@router.get("/metrics")
async def metrics(request: Request) -> Response:
    """For Prometheus."""
    text = await run_in_threadpool(state(request).metrics.text)
    return Response(text, media_type="text/plain; version=0.0.4; charset=utf-8")


@router.get("/metrics-summary")
async def metrics_summary(request: Request) -> Response:
    """The knn service's steps, by their share of its time."""
    return Response(state(request).metrics.summary(), media_type="text/plain")


def _missing(shared: State) -> dict[str, str]:
    sidecar = shared.sidecar
    missing = {} if shared.opened.is_set() else {"collections": "being opened"}
    if reason := sidecar.database.trouble():
        missing["database"] = reason
    if reason := sidecar.embedder.not_ready():
        missing["triton"] = reason
    stopped = [found.name for found in sidecar.collections() if not found.writer.alive]
    stopped_reasons = {f"collection {name}": "its writer has stopped" for name in stopped}
    return {**missing, **{f"collection {name}": why for name, why in dict(sidecar.broken).items()}, **stopped_reasons}
