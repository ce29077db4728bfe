"""gRPC conversation with Triton: readiness, model configs, inference; errors of ours instead of its own."""

from __future__ import annotations

import math
import random
import re
import time
from collections.abc import Callable, Sequence
from typing import Any

import numpy as np
import numpy.typing as npt
import tritonclient.grpc as grpc_client
from tritonclient.utils import InferenceServerException, np_to_triton_dtype

from clip_client.errors import ClipError, InvalidInput, Timeout, Unavailable
from clip_client.model_host import check_timeout

_ADDRESS = re.compile(r"[^/\s]+:\d+")
_MESSAGE_BYTES = 2**31 - 1

PAUSES_S = (0.1, 0.2, 0.4)  # between attempts, each give or take a half

CHANNEL = [
    ("grpc.max_send_message_length", _MESSAGE_BYTES),
    ("grpc.max_receive_message_length", _MESSAGE_BYTES),
    ("grpc.enable_http_proxy", 0),  # a proxy for the web has no business between this client and its server
    ("grpc.enable_retries", 0),  # the retries are here, so that a refused connection never passes for a timeout
    ("grpc.min_reconnect_backoff_ms", 1000),  # despite its name, for one attempt to connect
    # From one attempt to the next, give or take a fifth: less than all pauses above, which jitter may halve, so that a server
    # that is back is noticed. The defaults wait for up to two minutes.
    ("grpc.initial_reconnect_backoff_ms", 100),
    ("grpc.max_reconnect_backoff_ms", 250),
    ("grpc.keepalive_time_ms", 30_000),
    ("grpc.keepalive_timeout_ms", 10_000),
]


class Triton:
    """One connection to one Triton; safe to use from several threads."""

    def __init__(self, address: str, *, timeout_s: float) -> None:
        check_address(address)
        check_timeout(timeout_s)
        self.address = address
        self.outages = 0
        """Times that the server was unavailable; another checkpoint may have come up since."""
        self._timeout_s = timeout_s
        self._client = grpc_client.InferenceServerClient(address, channel_args=CHANNEL)

    def config(self, model: str) -> Any:
        """Return the model's configuration, Triton's ``ModelConfig`` protobuf."""
        answer = self._with_retries(model, lambda timeout_s: self._client.get_model_config(model, client_timeout=timeout_s))
        return answer.config

    def not_ready(self, models: Sequence[str], *, timeout_s: float) -> str:
        """Return a reason if the server or a model isn't ready; empty if all are."""
        try:
            if not self._client.is_server_ready(client_timeout=timeout_s):
                return "the server is loading models"
            waiting = [m for m in models if not self._client.is_model_ready(m, client_timeout=timeout_s)]
        except InferenceServerException as problem:
            return str(translated(problem, self.address, "the server"))
        return f"no model {waiting[0]} is ready there" if waiting else ""

    def statistics(self) -> Any:
        """Return every model's counters since the server started, Triton's ``ModelStatisticsResponse`` protobuf."""
        return self._with_retries(
            "the statistics", lambda timeout_s: self._client.get_inference_statistics(client_timeout=timeout_s)
        )

    def infer(
        self, model: str, rows: Sequence[bytes] | npt.NDArray[np.uint8], name: str, outputs: Sequence[str]
    ) -> list[npt.NDArray[Any]]:
        """Send N byte strings as the BYTES tensor ``name`` [N, 1], or an array unchanged; return the outputs in order."""
        tensor = tensor_of(rows, name)
        requested = [grpc_client.InferRequestedOutput(output) for output in outputs]
        answer = self._with_retries(
            model, lambda timeout_s: self._client.infer(model, [tensor], outputs=requested, client_timeout=timeout_s)
        )
        return [answer.as_numpy(output) for output in outputs]

    def close(self) -> None:
        """Close the connection."""
        self._client.close()

    def __enter__(self) -> Triton:
        return self

    def __exit__(self, *problem: object) -> None:
        self.close()

    def _with_retries(self, model: str, send: Callable[[float], Any]) -> Any:
        """Send, and send again while the server is unavailable: a few times, within the time allowed."""
        deadline = time.monotonic() + self._timeout_s
        pauses_s = iter(PAUSES_S)
        while True:
            try:
                return send(max(deadline - time.monotonic(), 0.001))
            except InferenceServerException as problem:
                wait_s = next(pauses_s, math.inf) * random.uniform(0.5, 1.5)  # noqa: S311  (jitter, not a secret)
                if not is_outage(problem) or time.monotonic() + wait_s > deadline:
                    raise translated(problem, self.address, model) from problem
                self.outages += 1
            except ValueError as problem:  # gRPC's for a channel that was closed, protobuf's for 2 GB
                if "closed" in str(problem):
                    raise Unavailable(f"the connection to {self.address} was closed: make a new client") from problem
                raise InvalidInput(f"the request for {model} can't be sent ({problem}): send less at once") from problem
            time.sleep(wait_s)


def check_address(address: str) -> None:
    """Raise InvalidInput for an address without a port."""
    if not _ADDRESS.fullmatch(address):
        raise InvalidInput(f"the address is {address!r}: expected host:port of a gRPC endpoint, e.g. localhost:8001")


def tensor_of(rows: Sequence[bytes] | npt.NDArray[np.uint8], name: str) -> Any:
    """Return N byte strings as the input ``name`` [N, 1], or an array unchanged."""
    # An object array: np.bytes_ drops trailing zeros, and many images end in some.
    batch = rows if isinstance(rows, np.ndarray) else np.array(rows, np.object_).reshape(-1, 1)
    tensor = grpc_client.InferInput(name, batch.shape, np_to_triton_dtype(batch.dtype))
    tensor.set_data_from_numpy(batch)
    return tensor


def translated(problem: InferenceServerException, address: str, model: str) -> ClipError:
    """Return our error for Triton's or gRPC's."""
    status, text = _status(problem), problem.message()
    if is_outage(problem):
        return Unavailable(f"{address} can't be reached ({text}): is it up? 'clipserve serve' starts one")
    if status == "DEADLINE_EXCEEDED":
        return Timeout(f"{address} didn't answer for {model} in time ({text}): raise timeout_s or send less")
    if status == "NOT_FOUND":
        return InvalidInput(f"{address} serves no model {model}: publish it, or pass the name it has")
    if status in ("INVALID_ARGUMENT", "RESOURCE_EXHAUSTED"):
        return InvalidInput(f"{model} refuses the request: {text}")
    return Unavailable(f"{model} failed ({status}: {text}): the server's log says more")


def _status(problem: InferenceServerException) -> str:
    return str(problem.status()).removeprefix("StatusCode.")


def is_outage(problem: InferenceServerException) -> bool:
    """Return true if nobody is there, or a server on its way down."""
    return _status(problem) == "UNAVAILABLE" or "no available versions" in problem.message()
