"""Options of ``clipserve embed`` that choose an engine and who does the parts."""

from __future__ import annotations

import argparse
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from pathlib import Path

from clip_client.argument_types import count
from clip_client.errors import InvalidInput
from clip_client.model_repository import FOLDER
from clip_embed.attempts import Attempts
from clip_embed.engines.base import Engine, EngineOptions
from clip_embed.fetch import FetchOptions
from clip_embed.manifest import Manifest
from clip_embed.places import Place
from clip_embed.run import Crew, Here


@dataclass(frozen=True)
class Work:
    """Whatever a crew is given.

    Attributes:
        place, manifest: of the run.
        fetch: bounds on fetching pictures.
        engine: of this process.
    """

    place: Place
    manifest: Manifest
    fetch: FetchOptions
    engine: Engine


def add(group: argparse._ArgumentGroup) -> None:
    """Add the options."""
    group.add_argument(
        "--engine",
        choices=("local", "triton", "ray"),
        default="local",
        help="models in this process, servers, or workers on Ray (default: local)",
    )
    group.add_argument("--name", default="clip", help="name of the published checkpoint (default: clip)")
    group.add_argument("--repository", type=Path, default=FOLDER, metavar="FOLDER", help="local, ray: model repository")
    group.add_argument("--device", default="CPU", help="local, ray: CPU, GPU, AUTO, CUDA, … (default: CPU)")
    group.add_argument(
        "--threads",
        type=count,
        metavar="N",
        help="local, ray: of encoder and decoders (default: all cores; ray: --worker-cpus)",
    )
    group.add_argument(
        "--address",
        default="",
        metavar="HOST:PORT,…",
        help="triton: gRPC endpoints, with commas between them; ray: a cluster (default: one of this machine, for the run)",
    )
    group.add_argument(
        "--patience",
        type=float,
        default=300.0,
        metavar="S",
        help="triton, ray: seconds to wait for a server that is gone, or for a machine of a worker (default: 300)",
    )
    group.add_argument("--workers", type=count, metavar="N", help="ray: workers (default: as many as there is room for)")
    group.add_argument(
        "--worker-cpus", type=count, metavar="N", help="ray: CPUs of a worker (default: 2; here alone, a share of all cores)"
    )
    group.add_argument("--worker-gpus", type=float, metavar="N", help="ray: GPUs of a worker (default: 0)")
    group.add_argument(
        "--servers", default="", metavar="HOST:PORT,…", help="ray: Tritons that the workers embed with, instead of own models"
    )


def engine_of(arguments: argparse.Namespace) -> EngineOptions:
    """Return the engine that embeds, here or in each worker."""
    is_ray = arguments.engine == "ray"
    addresses, servers = _split(arguments.address), _split(arguments.servers)
    if addresses and arguments.engine == "local":
        raise InvalidInput("--address is for servers and clusters: pass --engine triton or --engine ray too")
    for option in ("workers", "worker_cpus", "worker_gpus", "servers"):
        if getattr(arguments, option) and not is_ray:
            raise InvalidInput(f"--{option.replace('_', '-')} is for workers on Ray: pass --engine ray too")
    return EngineOptions(
        "triton" if servers else "local" if is_ray else arguments.engine,
        arguments.name,
        arguments.repository.expanduser().absolute(),
        arguments.device,
        arguments.threads,
        servers if is_ray else addresses,
        arguments.patience,
    )


@contextmanager
def crew_of(arguments: argparse.Namespace, work: Work) -> Iterator[Crew]:
    """Start whoever does the parts; stop them at the end."""
    if arguments.engine == "ray":
        with _ray_crew(arguments, work) as crew:
            yield crew
        return
    with Attempts(work.place, work.manifest, work.fetch, work.engine) as attempts:
        yield Here(attempts)


@contextmanager
def _ray_crew(arguments: argparse.Namespace, work: Work) -> Iterator[Crew]:
    from clip_embed.ray_crew import RayCrew
    from clip_embed.ray_session import RayOptions, session
    from clip_embed.ray_worker import Order

    options = RayOptions(arguments.address or None, arguments.workers, arguments.worker_cpus, arguments.worker_gpus or 0.0)
    location = str(work.manifest.identity.input.get("location", ""))
    needed = (location,) if location and Path(location).exists() else ()
    output = str(work.place.local.absolute()) if work.place.local else arguments.output
    order = Order(output, needed, engine_of(arguments), work.fetch)
    with ExitStack() as stack:
        yield RayCrew(lambda: stack.enter_context(session(options)), order, arguments.patience)


def _split(text: str) -> tuple[str, ...]:
    return tuple(filter(None, (address.strip() for address in text.split(","))))
