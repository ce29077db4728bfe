"""HTTP conversation with one Triton; errors of ours instead of statuses and urllib3's."""

from __future__ import annotations

import json
from abc import ABC, abstractmethod
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from types import SimpleNamespace
from typing import Any

import numpy.typing as npt
import urllib3

from clip_client.connection import Outage, Rows, closed, refused_token
from clip_client.connection_options import Options
from clip_client.errors import ClipError, InvalidInput, Timeout, TooLarge, Unauthorized, Unavailable
from clip_client.model_host import LOADING
from clip_client.request_ids import sent
from clip_client.rest_tensors import JSON_LENGTH, answered_tensors, request_body
from clip_client.server_addresses import ServerAddress
from clip_client.tls import Tls

_CONNECTIONS = 16  # kept open, for as many threads
_OUTAGES = (429, 502, 503, 504)  # a proxy's for a server that isn't there, or that has too much to do


@dataclass(frozen=True)
class Answer:
    """Answer to an HTTP request."""

    status: int
    headers: Mapping[str, str]
    body: bytes


class RestConnection(ABC):
    """Conversation with one Triton; its forms say how a request is sent."""

    def __init__(self, address: ServerAddress, options: Options) -> None:
        self.address = address
        self._options = options

    async def config(self, model: str, *, timeout_s: float) -> Any:
        """Return the model's configuration: the fields of Triton's ``ModelConfig`` that clients read."""
        answer = await self._asked(model, "GET", f"/v2/models/{model}/config", timeout_s)
        try:
            return _config(json.loads(answer.body))
        except (ValueError, KeyError, TypeError, AttributeError, RecursionError) as problem:
            raise self._foreign(answer) from problem

    async def server(self, *, timeout_s: float) -> tuple[str, str, Sequence[str]]:
        """Return the server's name, its version, and the extensions of the protocol that it speaks."""
        answer = await self._asked("its metadata", "GET", "/v2", timeout_s)
        try:
            described = json.loads(answer.body)
            return str(described["name"]), str(described["version"]), [str(name) for name in described["extensions"]]
        except (ValueError, KeyError, TypeError) as problem:
            raise self._foreign(answer) from problem

    async def not_ready(self, models: Sequence[str], *, timeout_s: float) -> str:
        """Return a reason if the server or a model isn't ready; empty if all are."""
        answer = await self._sent("GET", "/v2/health/ready", timeout_s)
        if answer.status in (400, 503) and not _error_text(answer):
            return LOADING
        self._check(answer, "the server")
        for model in models:
            if (await self._sent("GET", f"/v2/models/{model}/ready", timeout_s)).status != 200:
                return f"no model {model} is ready there"
        return ""

    async def infer(
        self, model: str, rows: Rows, name: str, outputs: Sequence[str], *, timeout_s: float
    ) -> list[npt.NDArray[Any]]:
        """Send rows as the tensor ``name``; return the outputs in order."""
        body, json_bytes = request_body(rows, name, outputs)
        headers = {JSON_LENGTH: str(json_bytes), "Content-Type": "application/octet-stream"}
        answer = await self._asked(model, "POST", f"/v2/models/{model}/infer", timeout_s, body, headers)
        try:
            return answered_tensors(answer.body, answer.headers.get(JSON_LENGTH), outputs)
        except (ValueError, KeyError, TypeError) as problem:
            if JSON_LENGTH in answer.headers:  # a Triton's, damaged on its way
                raise Outage(f"its answer can't be read: {problem}") from problem
            raise self._foreign(answer) from problem

    async def statistics(self, *, timeout_s: float) -> Any:
        """Refuse: nobody asks for them over HTTP."""
        raise InvalidInput(f"{self.address} is asked for its statistics over HTTP: pass its gRPC address")

    @abstractmethod
    async def close(self) -> None:
        """Close the connections."""

    @abstractmethod
    async def _sent(
        self, method: str, path: str, timeout_s: float, body: bytes | None = None, headers: Mapping[str, str] | None = None
    ) -> Answer: ...

    async def _asked(
        self,
        what: str,
        method: str,
        path: str,
        timeout_s: float,
        body: bytes | None = None,
        headers: Mapping[str, str] | None = None,
    ) -> Answer:
        answer = await self._sent(method, path, timeout_s, body, headers)
        self._check(answer, what)
        return answer

    @property
    def _url(self) -> str:
        scheme, target, path = self.address.scheme, self.address.target, self.address.path
        return f"{scheme}://{target}{path}"

    def _check(self, answer: Answer, what: str) -> None:
        if answer.status != 200:
            raise self._error(answer, what)

    def _error(self, answer: Answer, what: str) -> ClipError:
        status, text = answer.status, _error_text(answer)
        if status in _OUTAGES or "no available versions" in text:
            return Outage(f"status {status}{': ' if text else ''}{text}")
        if status in (401, 403):
            token = bool(self._options.token)
            return Unauthorized(refused_token(self.address, had_token=token, is_forbidden=status == 403, answer=text))
        if "unknown model" in text or "is not found" in text:
            return InvalidInput(f"{self.address} serves no model {what}: publish it, or pass the name it has")
        if status == 413:
            return TooLarge(f"{self.address} takes no requests of this size: send less at once, or raise its proxy's limit")
        if text:
            return (
                InvalidInput(f"{what} refuses the request: {text}") if status < 500 else Unavailable(f"{what} failed: {text}")
            )
        return self._foreign(answer)

    def _foreign(self, answer: Answer) -> Unavailable:
        if 300 <= answer.status < 400:
            return Unavailable(f"{self.address} redirects, which isn't followed: pass the address that it leads to")
        hint = "clipserve serve answers inference over gRPC alone, others may need a path in front"
        return Unavailable(f"{self.address} answers {answer.status}, not as a Triton does: {hint}")

    def _timeout(self, what: str, problem: BaseException) -> Timeout:
        return Timeout(f"{self.address} didn't answer for {what} in time ({problem}): raise timeout_s or send less")


class BlockingRest(RestConnection):
    """Connections to one Triton in the calling thread."""

    def __init__(self, address: ServerAddress, options: Options) -> None:
        super().__init__(address, options)
        context = (options.tls or Tls()).context() if address.is_secure else None
        headers = dict(options.sent_headers)
        self._pool: urllib3.PoolManager | None = urllib3.PoolManager(
            headers=headers, retries=False, maxsize=_CONNECTIONS, ssl_context=context
        )

    async def close(self) -> None:
        """Close the connections."""
        if self._pool is not None:
            self._pool.clear()
        self._pool = None

    async def _sent(
        self, method: str, path: str, timeout_s: float, body: bytes | None = None, headers: Mapping[str, str] | None = None
    ) -> Answer:
        pool = self._pool
        if pool is None:
            raise closed(self.address)
        timeout = urllib3.Timeout(total=timeout_s, connect=min(self._options.timeouts.connect_s, timeout_s))
        every = {**sent(pool.headers), **(headers or {})}
        try:
            answer = pool.request(method, self._url + path, body=body, headers=every, timeout=timeout, redirect=False)
        except (urllib3.exceptions.NewConnectionError, urllib3.exceptions.ConnectTimeoutError) as problem:
            raise Outage(str(problem)) from problem
        except urllib3.exceptions.TimeoutError as problem:
            raise self._timeout(path.rpartition("/")[0], problem) from problem
        except urllib3.exceptions.HTTPError as problem:
            raise Outage(str(problem)) from problem
        return Answer(answer.status, answer.headers, answer.data)


def _config(described: Any) -> SimpleNamespace:
    """Return a configuration in Triton's JSON with the names of its protobuf, which isn't loaded for this."""
    parameters = {
        key: SimpleNamespace(string_value=str(one["string_value"])) for key, one in described.get("parameters", {}).items()
    }
    most, backend = int(described["max_batch_size"]), str(described.get("backend", ""))
    outputs = [SimpleNamespace(name=str(one["name"])) for one in described.get("output", [])]
    return SimpleNamespace(max_batch_size=most, backend=backend, parameters=parameters, output=outputs)


def _error_text(answer: Answer) -> str:
    """Return Triton's own words for an error, empty if somebody else answers."""
    try:
        error = json.loads(answer.body)["error"]
        return error if isinstance(error, str) else ""
    except (ValueError, KeyError, TypeError):
        return ""
