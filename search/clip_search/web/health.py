"""Routes for operation: liveness, readiness, metrics."""

from fastapi import APIRouter, Request, Response
from fastapi.responses import PlainTextResponse

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
    not_ready = await state(request).health.run(missing, state(request))
    lags = {each.name: each.behind_s for each in state(request).sidecar.collections() if each.behind_s is not None}
    behind = {"behind_s": lags} if state(request).sidecar.options.read_only else {}
    return answer({"ready": not not_ready, "not_ready": not_ready, **behind}, 503 if not_ready else 200)


@router.get("/metrics", response_class=PlainTextResponse)
async def metrics(request: Request) -> Response:
    """Return the metrics in Prometheus' text format."""
    shared = state(request)
    text = await shared.measuring.run(shared.metrics.text)  # a disk that stands still holds up nothing else
    return Response(text, media_type="text/plain; version=0.0.4; charset=utf-8")


@router.get("/metrics-summary", response_class=PlainTextResponse)
async def metrics_summary(request: Request) -> Response:
    """Return the steps of the knn service, by their share of its time."""
    return Response(state(request).metrics.summary(), media_type="text/plain")


def missing(shared: State) -> dict[str, str]:
    """Return the parts that aren't ready, with reasons."""
    sidecar = shared.sidecar
    parts = {} if shared.opened.is_set() else {"collections": "being opened"}
    if reason := sidecar.trouble():
        parts["database"] = reason
    if reason := sidecar.embedder.not_ready():
        parts["triton"] = reason
    broken = {f"collection {name}": reason for name, reason in dict(sidecar.broken).items()}
    troubles = {f"collection {each.name}": reason for each in sidecar.collections() if (reason := each.trouble())}
    return {**parts, **broken, **troubles}
