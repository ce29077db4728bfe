"""Recording of a load: snapshots before and after, and their difference."""

import time
from collections.abc import Mapping
from dataclasses import dataclass

import psutil

import processors
from busiest import Load
from clip_client.triton import Triton
from lib.triton_work import Work, work
from steps import Pipeline, pipeline, steps

_TIMEOUT_S = 30.0  # a busy server answers late


@dataclass(frozen=True)
class Target:
    """Servers under load: Triton's host:port and the name of a checkpoint there; the URL of a sidecar, or empty."""

    triton: str
    name: str
    sidecar: str

    @property
    def servers(self) -> dict[str, str]:
        """Addresses by name."""
        return {processors.TRITON: self.triton} | ({processors.SIDECAR: self.sidecar} if self.sidecar else {})


@dataclass(frozen=True)
class Snapshot:
    """A moment: its clock, the work of every model and the CPU seconds of every process so far."""

    at_s: float
    models: Mapping[str, Work]
    cpu_s: Mapping[str, float]


class Recording:
    """Recording of a load from its first request on; raises ClipError for a server that can't be reached or lacks the model."""

    def __init__(self, target: Target) -> None:
        self.target = target
        with Triton(target.triton, timeout_s=_TIMEOUT_S) as triton:
            self._pipeline: Pipeline = pipeline(triton, target.name)
        self._before = self._after = self._now()

    def stop(self) -> None:
        """End the recording."""
        self._after = self._now()

    @property
    def stopped(self) -> bool:
        """True after the end."""
        return self._after is not self._before

    @property
    def duration_s(self) -> float:
        """Seconds from start to stop."""
        return self._after.at_s - self._before.at_s

    def load(self, generators: int, client_ms: float | None) -> Load:
        """Return the load in between; ``client_ms`` is the mean of a request to Triton as the users saw it."""
        models = {name: after.since(self._before.models.get(name)) for name, after in self._after.models.items()}
        used = {name: max(0.0, s - self._before.cpu_s.get(name, 0.0)) for name, s in self._after.cpu_s.items()}
        ensembles = [models[ensemble] for ensemble in self._pipeline.steps]
        requests = sum(ensemble.requests for ensemble in ensembles)
        return Load(
            steps=steps(self._pipeline, models, self.duration_s),
            cores_used={name: s / self.duration_s for name, s in used.items()},
            cores=psutil.cpu_count() or 1,
            generators=generators,
            local=processors.is_local(self.target.triton),
            queued=sum(models[model].queue_ns for model in self._pipeline.instances) / 1e9 / self.duration_s,
            client_ms=client_ms,
            server_ms=sum(ensemble.total_ns for ensemble in ensembles) / 1e6 / max(1, requests),
        )

    def _now(self) -> Snapshot:
        with Triton(self.target.triton, timeout_s=_TIMEOUT_S) as triton:
            return Snapshot(time.monotonic(), work(triton), processors.cpu_s(self.target.servers))
