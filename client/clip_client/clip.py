"""The SDK: images and texts in, embeddings and comparisons out."""

from __future__ import annotations

import os
from collections.abc import Iterable, Mapping
from dataclasses import asdict
from functools import partial
from pathlib import Path

from clip_client import connection_options
from clip_client.awaited_host import AwaitedHost, BlockingHost
from clip_client.blocking import blocking, run
from clip_client.clip_calls import IN_FLIGHT, ClipCalls, ClipOptions, Embeddings, OnError, Place, TextLike
from clip_client.clip_tasks import BlockingTasks
from clip_client.comparison import Comparison, Floats
from clip_client.concurrency import Concurrency, Threads
from clip_client.connect import clip_host, servers_at
from clip_client.connection_options import Retries, Timeouts
from clip_client.errors import InvalidInput, Unavailable
from clip_client.images import ImageLike
from clip_client.library_methods import LibraryMethods
from clip_client.model_host import ModelHost
from clip_client.model_repository import FOLDER
from clip_client.pickles import secrets
from clip_client.spec import ModelSpec
from clip_client.tls import Tls

__all__ = ["Clip", "Comparison", "Embeddings", "Floats", "ImageLike", "OnError", "Place", "TextLike"]


class Clip(BlockingTasks, LibraryMethods):
    """A client of the two ensembles of one checkpoint: on a Triton, or in this process (:meth:`local`).

    >>> with Clip("localhost:8001") as clip:
    ...     clip.compare("cat.jpg", ["a cat", "a dog"]).probabilities

    Args:
        address: host and port of Triton's gRPC endpoint, or a URL with grpc, grpcs, http or https; several in a list, or with
            commas between, take turns. None for the variable ``CLIPSERVE_ADDRESS``, or ``localhost:8001``.
        name: the checkpoint's, as it was published.
        timeout_s: bound on each request (a long list is many requests).
        requests_in_flight: most requests that are under way at once for a list.
        preprocess: place where images are decoded and resized, with the same result: the ``server``, or the ``client``, which
            spares a busy server the work.
        token: sent with every request; None for the variable ``CLIPSERVE_TOKEN``, if it is set.
        headers: sent with every request, too.
        tls: certificates for grpcs and https; None for the system's, or those that the environment names.
        timeouts: bounds on the parts of a request.
        retries: repetitions while no server can be reached.

    Raises:
        InvalidInput: an argument or a variable can't be used.
    """

    def __init__(
        self,
        address: str | Iterable[str] | None = None,
        *,
        name: str = "clip",
        timeout_s: float = 30.0,
        requests_in_flight: int = IN_FLIGHT,
        preprocess: Place = "server",
        token: str | None = None,
        headers: Mapping[str, str] | None = None,
        tls: Tls | None = None,
        timeouts: Timeouts | None = None,
        retries: Retries | None = None,
    ) -> None:
        options, concurrency = ClipOptions(name, timeout_s, requests_in_flight, preprocess), Threads()
        connection = connection_options.options(timeout_s, token, headers, tls, timeouts, retries)
        servers = servers_at(address, connection)
        again = {**asdict(options), "tls": tls, "timeouts": timeouts, "retries": retries}
        self._opening = partial(type(self), [str(server) for server in servers], **again)
        self._secrets = secrets(token=token, headers=headers)
        self._begin(clip_host(servers, connection, concurrency, name=name), options, concurrency)

    @classmethod
    def local(
        cls,
        repository: str | os.PathLike[str] = FOLDER,
        *,
        name: str = "clip",
        device: str = "CPU",
        threads: int | None = None,
        timeout_s: float = 30.0,
    ) -> Clip:
        """Open the models of a repository in this process: the same embeddings and errors, without a server.

        It needs ``clipserve[local]``. Weights are loaded when they are first used, or by :meth:`wait_ready`. What is open stays
        open when the repository is exchanged; weights of another checkpoint aren't loaded then. A forked process opens its own.

        >>> with Clip.local("model_repository") as clip:
        ...     clip.embed_text("a cat")

        Args:
            repository: folder that ``clipserve export`` published into.
            name: the checkpoint's, as it was published.
            device: that runs the encoders, as their engine calls it: for OpenVINO ``CPU``, ``GPU``, ``AUTO``; for ONNX Runtime
                ``CPU``, ``CUDA``, or the whole name of an execution provider.
            threads: of each encoder on the CPU, and of the decoders of images; None for the published number, or all cores.
            timeout_s: bound on fetching an image from a URL.

        Raises:
            InvalidInput: no such repository, name or device; half of a checkpoint, or a variant that needs a server.
            ContractMismatch: models of several checkpoints, of another version, or damaged.
            Unavailable: a package isn't installed, or an export is writing.
        """
        options, concurrency = ClipOptions(name, timeout_s), Threads()
        clip = cls.__new__(cls)
        clip._opening = partial(cls.local, repository, name=name, device=device, threads=threads, timeout_s=timeout_s)
        clip._begin(AwaitedHost(_local_host(repository, name, device, threads), concurrency), options, concurrency)
        return clip

    def _begin(self, host: ModelHost, options: ClipOptions, concurrency: Concurrency) -> None:
        self.name = options.name
        self._calls = ClipCalls(host, options, concurrency)

    @property
    def spec(self) -> ModelSpec:
        """Spec of the checkpoint; fetched once.

        Raises:
            ContractMismatch: the models aren't clipserve's, or image and text come from different checkpoints.
        """
        return run(self._calls.spec())

    wait_ready = blocking(ClipCalls.wait_ready)
    embed_image = blocking(ClipCalls.embed_image)
    embed_text = blocking(ClipCalls.embed_text)
    count_tokens = blocking(ClipCalls.count_tokens)
    compare = blocking(ClipCalls.compare)
    close = blocking(ClipCalls.close)

    def __repr__(self) -> str:
        return self._calls.described("Clip")

    def __enter__(self) -> Clip:
        return self

    def __exit__(self, *problem: object) -> None:
        self.close()


def _local_host(repository: str | os.PathLike[str], name: str, device: str, threads: int | None) -> BlockingHost:
    if not isinstance(repository, str | os.PathLike):
        raise InvalidInput(f"repository is {repository!r}: expected the path of a folder")
    try:
        from clip_client.local_host import LocalHost
        from clip_client.local_tower import Hardware
    except ImportError as problem:
        raise Unavailable(f"Clip.local needs another package ({problem}): pip install 'clipserve[local]'") from problem
    return LocalHost(Path(repository), name, Hardware(device, threads))
