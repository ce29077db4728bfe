"""Routes for operation: liveness, readiness, metrics."""

from fastapi import APIRouter, Request, Response
from fastapi.responses import PlainTextResponse
from starlette.concurrency import run_in_threadpool

from clip_search.web import response_models as answers
from clip_search.web.app_state import State, state
from clip_search.web.guard import answer

router = APIRouter(tags=["operation"])


@router.get("/health/live", response_model=answers.Live)
async def live() -> Response:
    """Answer 200 while the process lives."""
    return answer({"live": True})


@router.get("/health/ready", response_model=answers.Readiness, responses={503: {"model": answers.Readiness}})
async def ready(request: Request) -> Response:
    """Answer 200 if everything is ready, else 503 with the parts that aren't. Searches by vector may go on.

    A sidecar that only reads tells how many seconds each collection may be behind.
    """
    missing = await state(request).health.run(_missing, state(request))
    lags = {each.name: each.behind_s for each in state(request).sidecar.collections() if each.behind_s is not None}
    behind = {"behind_s": lags} if state(request).sidecar.options.read_only else {}
    return answer({"ready": not missing, "not_ready": missing, **behind}, 503 if missing else 200)


@router.get("/metrics", response_class=PlainTextResponse)
async def metrics(request: Request) -> Response:
    """Return the metrics in Prometheus' text format."""
    text = await run_in_threadpool(state(request).metrics.text)
    return Response(text, media_type="text/plain; version=0.0.4; charset=utf-8")


@router.get("/metrics-summary", response_class=PlainTextResponse)
async def metrics_summary(request: Request) -> Response:
    """Return the steps of the knn service, by their share of its time."""
    return Response(state(request).metrics.summary(), media_type="text/plain")


def _missing(shared: State) -> dict[str, str]:
    sidecar = shared.sidecar
    missing = {} if shared.opened.is_set() else {"collections": "being opened"}
    if reason := sidecar.trouble():
        missing["database"] = reason
    if reason := sidecar.embedder.not_ready():
        missing["triton"] = reason
    broken = {f"collection {name}": reason for name, reason in dict(sidecar.broken).items()}
    troubles = {f"collection {each.name}": reason for each in sidecar.collections() if (reason := each.trouble())}
    return {**missing, **broken, **troubles}
