"""Bottleneck of a load, by name.

Users wait for each answer before they send again, so something is always at work, or everything waits for the users:

1. The largest user of this machine's processors, if they are full and it isn't a step of the server.
2. The busiest step or process of one thread, if it is at work nearly all of the time; or less of it, where the
   processors are full and requests wait in queues.
3. Otherwise nothing is busy: the network if most of the time is spent there, else the number of users, which is too small.

Steps are ranked by Triton's own clock and not by CPU seconds: threads of an engine may spin while they wait for work.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from processors import CLIENT, OTHERS, SIDECAR, TRITON
from steps import Step

NETWORK, USERS = "the network", "the number of users"

_FULL = 0.9  # of all processors; the rest is lost when work changes hands
_BUSY = 0.75  # of an instance's or a thread's time; requests come in bursts, so hardly any reaches 1
_QUEUED = 0.5  # requests that wait, on average; the delays that let batches form make for less
_MOSTLY = 0.5  # of a request's time


@dataclass(frozen=True)
class Load:
    """Observations during a load.

    The cores in use are by name, see :mod:`processors`; a server elsewhere, or whose processes can't be seen, isn't included.
    """

    steps: Sequence[Step]  # of the ensembles in use
    cores_used: Mapping[str, float]
    cores: int  # of this machine
    generators: int  # processes of the load generator
    local: bool  # True if the server runs on this machine
    queued: float  # requests that waited for a step, on average
    client_ms: float | None  # mean of a request to Triton as the users saw it; None without such requests
    server_ms: float  # the same as Triton saw it

    @property
    def full(self) -> float:
        """Share of this machine's processors that was used, 0 to 1."""
        return sum(self.cores_used.values()) / self.cores


@dataclass(frozen=True)
class Bottleneck:
    """Name, evidence and remedy."""

    name: str
    reason: str


def bottleneck(load: Load) -> Bottleneck:
    """Return the bottleneck of a load."""
    full = TRITON in load.cores_used and load.full >= _FULL
    largest = max(load.cores_used, key=load.cores_used.__getitem__)
    if full and not _computes(load, largest):
        used = f"the {load.cores} processors are {load.full:.0%} busy and it takes {load.cores_used[largest]:.1f} of them"
        return Bottleneck(largest, f"{used}: {_ELSEWHERE[largest]}")
    shares = _busy(load)
    name = max(shares, key=shares.__getitem__)
    if shares[name] >= _BUSY or (full and load.queued >= _QUEUED):
        return Bottleneck(name, _reason(load, name, shares[name], full))
    return _waiting(load, name, shares[name])


def _computes(load: Load, name: str) -> bool:
    """Return True for steps: those of a native backend have no process of their own and compute inside tritonserver."""
    inside = any(step.model not in load.cores_used for step in load.steps)
    return _step(load, name) is not None or (name == TRITON and inside)


def _busy(load: Load) -> dict[str, float]:
    """Return the share of time at work, by name, of steps and of processes with one thread."""
    python = {CLIENT: load.cores_used[CLIENT] / load.generators, SIDECAR: load.cores_used.get(SIDECAR, 0.0)}
    return {step.model: step.busy for step in load.steps} | python


def _reason(load: Load, name: str, share: float, full: bool) -> str:
    step = _step(load, name)
    if not step:
        return f"its one thread is busy {share:.0%} of the time: {_ELSEWHERE[name]}"
    queue = f"a request waits {step.queue_ms:.1f} ms for its {step.compute_ms:.1f} ms of computing"
    evidence = f"it computes {step.busy:.0%} of the time, {queue}"
    if full:
        return f"{evidence}; the {load.cores} processors are {load.full:.0%} busy: less work for it, or more cores, would help"
    return f"{evidence}, and there are processors to spare: more --instances or --threads would help"


_ELSEWHERE = {
    CLIENT: "run it on another machine, or with more --processes",
    SIDECAR: "a machine of its own, apart from Triton and the users, would help",
    TRITON: "fewer and larger requests, or more cores, would help",
    OTHERS: "what was measured is what it left; stop it and measure again",
}


def _waiting(load: Load, name: str, share: float) -> Bottleneck:
    idle = f"nothing is at work all the time, {name} most with {share:.0%}"
    if load.client_ms is None:
        return Bottleneck(USERS, f"{idle}: more --users would be answered")
    outside = 1 - load.server_ms / load.client_ms
    evidence = f"{idle}; of the {load.client_ms:.1f} ms of a request {outside:.0%} are spent outside the server"
    if not load.local and outside >= _MOSTLY:
        return Bottleneck(NETWORK, f"{evidence}: a faster way there, smaller files, or more --users would help")
    return Bottleneck(USERS, f"{evidence}: more --users would be answered")


def _step(load: Load, name: str) -> Step | None:
    return next((step for step in load.steps if step.model == name), None)
