"""gRPC conversation with Triton on an event loop, as :mod:`clip_client.triton` has it with threads."""

from __future__ import annotations

import asyncio
import math
import random
import time
from collections.abc import Callable, Coroutine, Sequence
from typing import Any

import numpy as np
import numpy.typing as npt
import tritonclient.grpc as grpc_client
import tritonclient.grpc.aio as grpc_on_loop
from grpc.aio import UsageError
from tritonclient.utils import InferenceServerException

from clip_client.errors import InvalidInput, Unavailable
from clip_client.tasks import Tasks
from clip_client.triton import CHANNEL, PAUSES_S, check_address, is_outage, tensor_of, translated


class AsyncTriton:
    """One connection to one Triton, opened on the event loop that first asks for something."""

    def __init__(self, address: str, *, timeout_s: float, tasks: Tasks) -> None:
        check_address(address)
        self.address = address
        self.outages = 0
        self._timeout_s = timeout_s
        self._tasks = tasks
        self._client: Any = None
        self._closed = False

    async def config(self, model: str) -> Any:
        """Return the model's configuration, Triton's ``ModelConfig`` protobuf."""
        return (await self._with_retries(model, lambda s: self._client.get_model_config(model, client_timeout=s))).config

    async def not_ready(self, models: Sequence[str], *, timeout_s: float) -> str:
        """Return a reason if the server or a model isn't ready; empty if all are."""
        self._open()
        try:
            if not await self._sent(self._client.is_server_ready(client_timeout=timeout_s)):
                return "the server is loading models"
            for model in models:
                if not await self._sent(self._client.is_model_ready(model, client_timeout=timeout_s)):
                    return f"no model {model} is ready there"
        except InferenceServerException as problem:
            return str(translated(problem, self.address, "the server"))
        return ""

    async def infer(
        self, model: str, rows: Sequence[bytes] | npt.NDArray[np.uint8], name: str, outputs: Sequence[str]
    ) -> list[npt.NDArray[Any]]:
        """Send N byte strings as the BYTES tensor ``name`` [N, 1], or an array unchanged; return the outputs in order."""
        inputs = [tensor_of(rows, name)]
        requested = [grpc_client.InferRequestedOutput(output) for output in outputs]
        answer = await self._with_retries(
            model, lambda s: self._client.infer(model, inputs, outputs=requested, client_timeout=s)
        )
        return [answer.as_numpy(output) for output in outputs]

    async def close(self) -> None:
        """Close the connection; calls that are under way raise Unavailable."""
        self._closed = True
        client, self._client = self._client, None
        if client is not None:
            await client.close()

    def _open(self) -> None:
        self._tasks.check()
        if self._closed:
            raise self._end()
        if self._client is None:
            self._client = grpc_on_loop.InferenceServerClient(self.address, channel_args=CHANNEL)

    async def _with_retries(self, model: str, send: Callable[[float], Coroutine[Any, Any, Any]]) -> Any:
        """Send, and send again while the server is unavailable: a few times, within the time allowed."""
        deadline = time.monotonic() + self._timeout_s
        pauses_s = iter(PAUSES_S)
        while True:
            self._open()
            try:
                return await self._sent(send(max(deadline - time.monotonic(), 0.001)))
            except InferenceServerException as problem:
                wait_s = next(pauses_s, math.inf) * random.uniform(0.5, 1.5)  # noqa: S311  (jitter, not a secret)
                if not is_outage(problem) or time.monotonic() + wait_s > deadline:
                    raise translated(problem, self.address, model) from problem
                self.outages += 1
            except ValueError as problem:  # protobuf's for 2 GB
                raise InvalidInput(f"the request for {model} can't be sent ({problem}): send less at once") from problem
            await self._tasks.sleep(wait_s)

    async def _sent(self, call: Coroutine[Any, Any, Any]) -> Any:
        """Await a call, and tell a connection that is closed meanwhile from a task that is cancelled."""
        try:
            return await call
        except (asyncio.CancelledError, UsageError) as problem:
            if self._closed and not is_cancelled():
                raise self._end() from problem
            raise

    def _end(self) -> Unavailable:
        return Unavailable(f"the connection to {self.address} was closed: make a new client")


def is_cancelled() -> bool:
    """Return true if somebody cancels the current task; Python 3.10 can't tell."""
    task = asyncio.current_task()
    return bool(task and getattr(task, "cancelling", int)())
