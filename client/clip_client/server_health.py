"""Health and metadata of a server: what is live and ready, and what it says of itself."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

from clip_client.errors import ClipError
from clip_client.html_tables import table
from clip_client.model_host import LOADING, ModelHost
from clip_client.model_repository import BACKEND, encoder, models
from clip_client.preprocess import Limits
from clip_client.served_model import ServedModel
from clip_client.spec import TOWERS, ModelSpec

_PRECISION = "INFERENCE_PRECISION_HINT"  # OpenVINO's


@dataclass(frozen=True)
class Health:
    """State of a server and of one checkpoint's models; true where all is ready.

    Attributes:
        address: of the server, or the repository in this process.
        live: the server answers.
        ready: it answers, and all models are ready.
        models: reason by model why it isn't ready; empty where it is.
        reason: why the server isn't live or ready; empty where it is.
    """

    address: str
    live: bool
    ready: bool
    models: Mapping[str, str] = field(default_factory=dict)
    reason: str = ""

    def __bool__(self) -> bool:
        return self.ready

    def __repr__(self) -> str:
        state = "ready" if self.ready else "live, not ready" if self.live else "down"
        lines = [f"Health({self.address}: {state}{f', {self.reason}' if self.reason else ''})"]
        return "\n".join([*lines, *(f"  {model}: {reason or 'ready'}" for model, reason in self.models.items())])

    def _repr_html_(self) -> str:
        """Return a table for notebooks."""
        state = "ready" if self.ready else self.reason or ("live, not ready" if self.live else "down")
        return table([[self.address, state], *([model, reason or "ready"] for model, reason in self.models.items())])


@dataclass(frozen=True)
class ServerMetadata:
    """Description of a server and of the checkpoint that it holds.

    Attributes:
        address: of the server, or the repository in this process.
        server: its name, ``triton`` say.
        version: of the server.
        extensions: of the protocol that it speaks.
        spec: of the checkpoint.
        max_batch: most items of one request.
        limits: bounds on an image.
        preprocessing: ``exact`` or ``fast``.
        encoders: engine by tower, and its precision where that was chosen.
        serving: number of the version that answers to the published name.
    """

    address: str
    server: str
    version: str
    extensions: tuple[str, ...]
    spec: ModelSpec
    max_batch: int
    limits: Limits
    preprocessing: str
    encoders: Mapping[str, str]
    serving: int = 1

    @property
    def fingerprint(self) -> str:
        """Fingerprint of the embedding space."""
        return self.spec.fingerprint

    def __repr__(self) -> str:
        return "\n".join([f"ServerMetadata({self.address})", *(f"  {name}: {value}" for name, value in self._rows())])

    def _repr_html_(self) -> str:
        """Return a table for notebooks."""
        return table([["address", self.address], *self._rows()])

    def _rows(self) -> list[tuple[str, str]]:
        spec = self.spec
        return [
            ("server", f"{self.server} {self.version}"),
            ("checkpoint", f"{spec.checkpoint}{f' at {spec.revision}' if spec.revision else ''}, published as {spec.name}"),
            ("fingerprint", spec.fingerprint),
            *([("version", str(self.serving))] if self.serving > 1 else []),
            ("embeddings", f"float32 [{spec.embedding_size}]"),
            ("images", f"{spec.image_size} x {spec.image_size} pixels, {self.preprocessing} preprocessing"),
            ("texts", f"{spec.context_length} tokens at most"),
            ("limits", f"{self.limits.image_bytes:,} bytes and {self.limits.image_pixels:,} pixels an image"),
            ("request", f"{self.max_batch} items at most"),
            ("encoders", ", ".join(f"{tower}: {engine}" for tower, engine in self.encoders.items())),
            ("extensions", ", ".join(self.extensions)),
        ]


async def health_of(host: ModelHost, name: str, timeout_s: float) -> Health:
    """Ask a host, and for each model of a checkpoint; nothing is raised."""
    waiting = await _not_ready(host, [], timeout_s)
    if waiting and LOADING not in waiting:
        return Health(host.address, False, False, {}, waiting)
    states = {model: await _not_ready(host, [model], timeout_s) for tower in TOWERS for model in models(name, tower)}
    return Health(host.address, True, not waiting and not any(states.values()), states, waiting)


async def metadata_of(host: ModelHost, model: ServedModel) -> ServerMetadata:
    """Return what a host says of itself and of a checkpoint."""
    server, version, extensions = await host.server()
    encoders: dict[str, str] = {tower: _engine(await host.config(encoder(model.name, tower))) for tower in TOWERS}
    return ServerMetadata(
        host.address,
        server,
        version,
        tuple(extensions),
        model.spec,
        model.max_batch,
        model.limits,
        model.preprocessing,
        encoders,
        model.number,
    )


async def _not_ready(host: ModelHost, names: list[str], timeout_s: float) -> str:
    try:
        return await host.not_ready(names, timeout_s=timeout_s)
    except ClipError as problem:
        return str(problem)


def _engine(config: Any) -> str:
    precision = config.parameters[_PRECISION].string_value if _PRECISION in config.parameters else ""
    return f"{config.backend or _backend_behind(config)} {precision}".strip()


def _backend_behind(config: Any) -> str:
    """Return the backend that an encoder of the plain name leads to, as its parameters say."""
    return str(config.parameters[BACKEND].string_value) if BACKEND in config.parameters else ""
