"""gRPC conversation with one Triton, blocking or on an event loop; errors of ours instead of its own."""

from __future__ import annotations

import asyncio
import struct
from collections.abc import Callable, Sequence
from typing import Any

import grpc
import numpy as np
import numpy.typing as npt
import tritonclient.grpc as grpc_client
from tritonclient.utils import InferenceServerException, np_to_triton_dtype

from clip_client.connection import Outage, Rows, closed, refused_token
from clip_client.connection_options import Options
from clip_client.errors import ClipError, InvalidInput, Timeout, Unauthorized, Unavailable
from clip_client.model_host import LOADING
from clip_client.request_ids import current, sent
from clip_client.server_addresses import ServerAddress
from clip_client.tls import Tls

_MESSAGE_BYTES = 2**31 - 1

_CHANNEL = [
    ("grpc.max_send_message_length", _MESSAGE_BYTES),
    ("grpc.max_receive_message_length", _MESSAGE_BYTES),
    ("grpc.enable_http_proxy", 0),  # a proxy for the web has no business between this client and its server
    ("grpc.enable_retries", 0),  # the retries are ours, so that a refused connection never passes for a timeout
    # From one attempt to the next, give or take a fifth: less than all pauses of the default retries, which jitter may halve,
    # so that a server that is back is noticed. gRPC's own waits last for up to two minutes.
    ("grpc.initial_reconnect_backoff_ms", 100),
    ("grpc.max_reconnect_backoff_ms", 250),
    ("grpc.keepalive_time_ms", 30_000),
    ("grpc.keepalive_timeout_ms", 10_000),
]


class BlockingClient(grpc_client.InferenceServerClient):  # type: ignore[misc]  # it has no types
    """Client that Ctrl-C may leave half made: nothing of it is closed then, and its end has no complaint to print."""

    _channel = _stream = None

    def __del__(self) -> None:
        if self._channel is not None:
            super().__del__()


class GrpcConnection:
    """One channel to one Triton."""

    def __init__(self, address: ServerAddress, options: Options, *, on_loop: bool) -> None:
        self.address = address
        self._options = options
        self._on_loop = on_loop
        self._headers = dict(options.sent_headers)
        self._opened: Any = None if on_loop else self._client_of(BlockingClient)
        self._is_closed = False

    async def config(self, model: str, *, timeout_s: float) -> Any:
        """Return the model's configuration, Triton's ``ModelConfig`` protobuf."""
        return (await self._asked(model, lambda client: client.get_model_config, timeout_s, model)).config

    async def server(self, *, timeout_s: float) -> tuple[str, str, Sequence[str]]:
        """Return the server's name, its version, and the extensions of the protocol that it speaks."""
        answer = await self._asked("its metadata", lambda client: client.get_server_metadata, timeout_s)
        return answer.name, answer.version, [*answer.extensions]

    async def not_ready(self, models: Sequence[str], *, timeout_s: float) -> str:
        """Return a reason if the server or a model isn't ready; empty if all are."""
        if not await self._asked("the server", lambda client: client.is_server_ready, timeout_s):
            return LOADING
        for model in models:
            if not await self._asked("the server", lambda client: client.is_model_ready, timeout_s, model):
                return f"no model {model} is ready there"
        return ""

    async def statistics(self, *, timeout_s: float) -> Any:
        """Return every model's counters since the server started, Triton's ``ModelStatisticsResponse`` protobuf."""
        return await self._asked("the statistics", lambda client: client.get_inference_statistics, timeout_s)

    async def infer(
        self, model: str, rows: Rows, name: str, outputs: Sequence[str], *, timeout_s: float
    ) -> list[npt.NDArray[Any]]:
        """Send rows as the tensor ``name``; return the outputs in order."""
        # An object array: np.bytes_ drops trailing zeros, and many images end in some.
        batch = rows if isinstance(rows, np.ndarray) else np.array(rows, np.object_).reshape(-1, 1)
        tensor = grpc_client.InferInput(name, batch.shape, np_to_triton_dtype(batch.dtype))
        tensor.set_data_from_numpy(batch)
        requested = [grpc_client.InferRequestedOutput(output) for output in outputs]
        asked = {"outputs": requested, "request_id": current().id}
        answer = await self._asked(model, lambda client: client.infer, timeout_s, model, [tensor], **asked)
        try:
            return [answer.as_numpy(output) for output in outputs]
        except (struct.error, ValueError) as problem:  # of lengths that were damaged on their way
            raise Outage(f"its answer can't be read: {problem}") from problem

    async def close(self) -> None:
        """Close the channel."""
        self._is_closed = True
        if self._opened is not None:
            closing = self._opened.close()
            if self._on_loop:
                await closing
                await _last_events()

    async def _asked(
        self, what: str, method: Callable[[Any], Callable[..., Any]], timeout_s: float, *arguments: Any, **options: Any
    ) -> Any:
        """Call a method of tritonclient's; both of its clients have the same ones."""
        if self._is_closed:
            raise closed(self.address)
        try:
            answer = method(self._client)(*arguments, headers=sent(self._headers), client_timeout=timeout_s, **options)
            return await answer if self._on_loop else answer
        except InferenceServerException as problem:
            raise self._translated(problem, what) from problem
        except (asyncio.CancelledError, grpc.aio.UsageError) as problem:  # of a channel on a loop that is closed meanwhile
            if self._is_closed and not is_cancelled():
                raise closed(self.address) from problem
            raise
        except ValueError as problem:  # gRPC's for a channel that was closed, protobuf's for 2 GB
            if "closed" in str(problem):
                raise closed(self.address) from problem
            raise InvalidInput(f"the request for {what} can't be sent ({problem}): send less at once") from problem

    @property
    def _client(self) -> Any:
        if self._opened is None:  # a channel on a loop is made there
            import tritonclient.grpc.aio as grpc_on_loop

            self._opened = self._client_of(grpc_on_loop.InferenceServerClient)
        return self._opened

    def _client_of(self, kind: Any) -> Any:
        connect_ms = max(1, round(min(self._options.timeouts.connect_s, 3600) * 1000))
        arguments = [*_CHANNEL, ("grpc.min_reconnect_backoff_ms", connect_ms)]  # despite its name, for one attempt to connect
        credentials = _credentials(self._options.tls or Tls()) if self.address.is_secure else None
        return kind(self.address.target, creds=credentials, channel_args=arguments)

    def _translated(self, problem: InferenceServerException, what: str) -> ClipError:
        status, text = str(problem.status()).removeprefix("StatusCode."), _readable(problem.message())
        if status == "UNAVAILABLE" or "no available versions" in text:
            return Outage(text)
        if status == "DEADLINE_EXCEEDED":
            return Timeout(f"{self.address} didn't answer for {what} in time ({text}): raise timeout_s or send less")
        if status in ("UNAUTHENTICATED", "PERMISSION_DENIED"):
            forbidden, token = status == "PERMISSION_DENIED", bool(self._options.token)
            return Unauthorized(refused_token(self.address, had_token=token, is_forbidden=forbidden, answer=text))
        if status == "NOT_FOUND":
            return InvalidInput(f"{self.address} serves no model {what}: publish it, or pass the name it has")
        if status in ("INVALID_ARGUMENT", "RESOURCE_EXHAUSTED"):
            return InvalidInput(f"{what} refuses the request: {text}")
        if status == "UNIMPLEMENTED":
            return Unavailable(f"{self.address} speaks gRPC, but not Triton's ({text}): pass the port of its gRPC endpoint")
        return Unavailable(f"{what} failed ({status}: {text}): the server's log says more")


def _readable(text: str) -> str:
    """Return gRPC's words with the brackets of an IPv6 address, which it writes as in a URL."""
    return text.replace("%5B", "[").replace("%5D", "]").replace("%25", "%")


def _credentials(tls: Tls) -> grpc.ChannelCredentials:
    key, certificate = tls.own() or (None, None)
    return grpc.ssl_channel_credentials(tls.trusted(), key, certificate)


async def _last_events() -> None:
    """Wait until gRPC's thread has told of the calls that were cancelled; it logs those that a loop's end hides from it.

    It tells all loops of events in their order; that a new channel's state isn't READY is such an event.
    """
    async with grpc.aio.insecure_channel("localhost:1") as channel:  # never connected
        await channel.wait_for_state_change(grpc.ChannelConnectivity.READY)


def is_cancelled() -> bool:
    """Return true if somebody cancels the current task; Python 3.10 can't tell."""
    task = asyncio.current_task()
    return bool(task and getattr(task, "cancelling", int)())
