"""What each step of the ensembles did during a load, from Triton's own statistics."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import Any

from clip_client.spec import TOWERS, ensemble
from clip_client.triton import Triton


@dataclass(frozen=True)
class Work:
    """What a model has done since its server started.

    Attributes:
        requests: answered, whatever the number of items.
        items, executions: what was computed, and in how many batches.
        total_ns, queue_ns, compute_ns: summed over requests; each has the whole time of the batch that it was part of.
        busy_ns: summed over batches, each counted once.
    """

    requests: int
    items: int
    executions: int
    total_ns: int
    queue_ns: int
    compute_ns: int
    busy_ns: int

    def since(self, before: Work) -> Work:
        """The difference."""
        return Work(*(now - then for now, then in zip(vars(self).values(), vars(before).values(), strict=True)))


@dataclass(frozen=True)
class Step:
    """One model of an ensemble under a load.

    Attributes:
        ensemble, model: names.
        busy: share of the time that its instances were computing, 0 to 1.
        batch: mean items of a batch.
        queue_ms, compute_ms: mean of a request, its whole batch computed with it.
    """

    ensemble: str
    model: str
    instances: int
    requests: int
    busy: float
    batch: float
    queue_ms: float
    compute_ms: float


@dataclass(frozen=True)
class Pipeline:
    """The models of one published checkpoint: the steps of its ensembles, and how many instances each has."""

    steps: Mapping[str, tuple[str, ...]]
    instances: Mapping[str, int]


def pipeline(triton: Triton, name: str) -> Pipeline:
    """Read it from the configurations.

    Raises:
        InvalidInput: the server has no such checkpoint.
        Unavailable: it can't be reached.
    """
    configs = {model: triton.config(model) for model in (ensemble(name, tower) for tower in TOWERS)}
    steps = {model: tuple(step.model_name for step in config.ensemble_scheduling.step) for model, config in configs.items()}
    names = [step for models in steps.values() for step in models]
    return Pipeline(steps, {one: sum(group.count for group in triton.config(one).instance_group) for one in names})


def worked(triton: Triton) -> dict[str, Work]:
    """What every model of the server has done so far."""
    return {model.name: _work(model) for model in triton.statistics().model_stats}


def steps(pipeline: Pipeline, done: Mapping[str, Work], duration_s: float) -> list[Step]:
    """The steps that answered requests, in the order of the ensembles."""
    return [
        _step(ensemble, model, done[model], pipeline.instances[model], duration_s)
        for ensemble, models in pipeline.steps.items()
        for model in models
        if done[model].requests
    ]


def _step(ensemble: str, model: str, work: Work, instances: int, duration_s: float) -> Step:
    return Step(
        ensemble=ensemble,
        model=model,
        instances=instances,
        requests=work.requests,
        busy=work.busy_ns / 1e9 / duration_s / instances,
        batch=work.items / work.executions,
        queue_ms=work.queue_ns / 1e6 / work.requests,
        compute_ms=work.compute_ns / 1e6 / work.requests,
    )


def _work(model: Any) -> Work:
    stats = model.inference_stats
    return Work(
        requests=stats.success.count,
        items=model.inference_count,
        executions=model.execution_count,
        total_ns=stats.success.ns,
        queue_ns=stats.queue.ns,
        compute_ns=sum(_compute_ns(stats)),
        busy_ns=sum(ns for batch in model.batch_stats for ns in _compute_ns(batch)),
    )


def _compute_ns(stats: Any) -> Iterator[int]:
    """A batch takes its inputs, computes, and hands out its outputs; an instance does nothing else meanwhile."""
    return (part.ns for part in (stats.compute_input, stats.compute_infer, stats.compute_output))
