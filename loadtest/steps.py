"""Steps of the ensembles under a load: how busy each was, from Triton's own statistics."""

from collections.abc import Mapping
from dataclasses import dataclass

from clip_client.spec import TOWERS, ensemble
from clip_client.triton import Triton
from lib.triton_work import Work


@dataclass(frozen=True)
class Step:
    """One model of an ensemble under a load."""

    ensemble: str
    model: str
    instances: int
    requests: int
    busy: float  # share of the time that its instances were computing, 0 to 1
    batch: float  # mean items of a batch
    queue_ms: float  # mean of a request
    compute_ms: float  # mean of a request, with the time of its whole batch


@dataclass(frozen=True)
class Pipeline:
    """Models of one published checkpoint: the steps of its ensembles, and the number of instances of each."""

    steps: Mapping[str, tuple[str, ...]]
    instances: Mapping[str, int]


def pipeline(triton: Triton, name: str) -> Pipeline:
    """Read a checkpoint's pipeline from the server; raise InvalidInput if it has none, Unavailable if it is down."""
    configs = {model: triton.config(model) for model in (ensemble(name, tower) for tower in TOWERS)}
    steps = {model: tuple(step.model_name for step in config.ensemble_scheduling.step) for model, config in configs.items()}
    names = [step for models in steps.values() for step in models]
    return Pipeline(steps, {model: sum(group.count for group in triton.config(model).instance_group) for model in names})


def steps(pipeline: Pipeline, work: Mapping[str, Work], duration_s: float) -> list[Step]:
    """Return the steps that answered requests, in the order of the ensembles."""
    return [
        _step(ensemble, model, work[model], pipeline.instances[model], duration_s)
        for ensemble, models in pipeline.steps.items()
        for model in models
        if work[model].requests
    ]


def _step(ensemble: str, model: str, work: Work, instances: int, duration_s: float) -> Step:
    return Step(
        ensemble=ensemble,
        model=model,
        instances=instances,
        requests=work.requests,
        busy=work.busy_ns / 1e9 / duration_s / instances,
        batch=work.items / work.executions,
        queue_ms=work.queue_ms,
        compute_ms=work.compute_ms,
    )
