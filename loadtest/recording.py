"""What is read before and after a load, and what the difference says."""

from __future__ import annotations

import time
from collections.abc import Mapping
from dataclasses import dataclass

import processors
from bottleneck import Load
from clip_client.triton import Triton
from steps import Pipeline, Work, pipeline, steps, worked

_TIMEOUT_S = 30.0


@dataclass(frozen=True)
class Target:
    """What is loaded: Triton's host:port and the name of a checkpoint there; the URL of a sidecar, or empty."""

    triton: str
    name: str
    sidecar: str

    @property
    def servers(self) -> dict[str, str]:
        """Addresses by name."""
        return {processors.TRITON: self.triton} | ({processors.SIDECAR: self.sidecar} if self.sidecar else {})


@dataclass(frozen=True)
class Snapshot:
    """A moment: a clock, what every model has done, what every process has used."""

    at_s: float
    models: Mapping[str, Work]
    cpu_s: Mapping[str, float]


class Recording:
    """A load from its first request on.

    Raises:
        ClipError: the server can't be reached, or hasn't the checkpoint.
    """

    def __init__(self, target: Target) -> None:
        self.target = target
        with Triton(target.triton, timeout_s=_TIMEOUT_S) as triton:
            self._pipeline: Pipeline = pipeline(triton, target.name)
        self._before = self._after = self._now()

    def stop(self) -> None:
        """The load is over."""
        self._after = self._now()

    @property
    def stopped(self) -> bool:
        """Whether it is."""
        return self._after is not self._before

    @property
    def duration_s(self) -> float:
        """From start to stop."""
        return self._after.at_s - self._before.at_s

    def load(self, generators: int, client_ms: float | None) -> Load:
        """What happened in between; ``client_ms`` is the mean of a request to Triton as the users saw it."""
        models = self._after.models.items()
        done = {name: work.since(self._before.models[name]) for name, work in models}
        used = {name: max(0.0, s - self._before.cpu_s.get(name, 0.0)) for name, s in self._after.cpu_s.items()}
        requests = [done[ensemble] for ensemble in self._pipeline.steps]
        return Load(
            steps=steps(self._pipeline, done, self.duration_s),
            cores_used={name: s / self.duration_s for name, s in used.items()},
            cores=processors.count(),
            generators=generators,
            local=processors.is_local(self.target.triton),
            queued=sum(done[model].queue_ns for model in self._pipeline.instances) / 1e9 / self.duration_s,
            client_ms=client_ms,
            server_ms=sum(one.total_ns for one in requests) / 1e6 / max(1, sum(one.requests for one in requests)),
        )

    def _now(self) -> Snapshot:
        with Triton(self.target.triton, timeout_s=_TIMEOUT_S) as triton:
            return Snapshot(time.monotonic(), worked(triton), processors.cpu_s(self.target.servers))
