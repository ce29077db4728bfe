"""HTTP conversation with a search sidecar, and its blocking form; errors of ours instead of statuses and urllib3's."""

from __future__ import annotations

import contextlib
import json
import re
import time
from abc import ABC, abstractmethod
from collections.abc import AsyncGenerator
from typing import Any, Protocol

import urllib3

from clip_client import tls_faults
from clip_client.concurrency import Concurrency
from clip_client.connection import IDLE_S, Lost, Outage
from clip_client.connection_options import Options
from clip_client.errors import ClipError, Timeout, TooLarge, Unavailable
from clip_client.request_ids import RequestContext, call, current, fresh, sent
from clip_client.retry_pauses import Pressed, pauses_s, unpressed
from clip_client.sent_json import about_size, dumped
from clip_client.server_addresses import ServerAddress
from clip_client.sidecar_errors import answered_error, foreign
from clip_client.tls import Tls

ARROW = "application/vnd.apache.arrow.stream"
"""Media type of rows as an Arrow IPC stream."""

_NOT_SENT = (
    urllib3.exceptions.NewConnectionError,
    urllib3.exceptions.ConnectTimeoutError,
    urllib3.exceptions.SSLError,
)
_MOST_TOLD = 2**20  # bytes of an answer that refuses a request
_CONNECTIONS = 16  # kept open, for as many threads; more threads open more, which are closed after use
_LARGE_BYTES = 65_536  # bodies from which on JSON isn't read or written on an event loop
_ROUTE = re.compile(r"/v1/collections/[^/]+")  # a span is named for the route, not for the collection
_QUESTIONS = ("/search", "/get", "/duplicates", "/compare", "/classify")  # paths of POST that change nothing


class AwaitableSidecar(Protocol):
    """Requests to one sidecar, awaited on an event loop, or in threads by those that never suspend."""

    @property
    def url(self) -> str:
        """URL of the sidecar."""

    async def ask(self, method: str, path: str, content: Any = None) -> dict[str, Any]:
        """Send a request, as :meth:`Sidecar.ask` does."""

    async def content(self, path: str, most_bytes: int) -> bytes:
        """Return the body of an answer that isn't JSON, as :meth:`Sidecar.content` does."""

    def lines(self, path: str, content: Any) -> AsyncGenerator[dict[str, Any]]:
        """Send a request, and iterate over the lines of its answer, as :meth:`Sidecar.lines` does."""

    async def not_ready(self) -> str:
        """Return the parts that aren't ready, with reasons; empty when all are."""

    async def close(self) -> None:
        """Close the connections."""


class Sidecar(ABC):
    """Requests to one sidecar; its forms say how one is sent."""

    def __init__(self, url: str, address: ServerAddress, options: Options, concurrency: Concurrency) -> None:
        self.url = url.rstrip("/")
        self._address = address
        self._options = options
        self._concurrency = concurrency
        self._headers = {"content-type": "application/json", **options.sent_headers}

    async def ask(self, method: str, path: str, content: Any = None) -> dict[str, Any]:
        """Send a request, with ``content`` as its JSON body unless it is bytes or None, and return the answer's JSON object.

        Raises:
            InvalidInput: or its subclass that the status stands for.
            ContractMismatch: the collection holds vectors of another model.
            Unavailable: the sidecar can't be reached, or says that it can't answer now.
            Timeout: the sidecar, or its Triton, is too slow.
        """
        self._concurrency.check()
        body = content if isinstance(content, bytes) else b""
        if content is not None and not isinstance(content, bytes):
            body = await self._apart(dumped, content, about_size(content))
        with call(f"{method} {_ROUTE.sub('/v1/collections/NAME', path.partition('?')[0])}"):
            status, answer = await self._asked(method, path, body)
            if status >= 300:  # the sidecar never redirects
                raise self._error(status, answer)
            try:
                return {**await self._apart(json.loads, answer, len(answer))}
            except (ValueError, TypeError) as problem:  # not JSON, or no object
                raise foreign(status) from problem

    async def content(self, path: str, most_bytes: int) -> bytes:
        """Return the body of an answer that isn't JSON.

        Raises:
            TooLarge: it has more bytes than ``most_bytes``.
            ClipError: as :meth:`ask`.
        """
        self._concurrency.check()
        with call("GET a body"):
            status, answer = await self._asked("GET", path, b"", most_bytes)
            if status >= 300:
                raise self._error(status, answer)
        if len(answer) > most_bytes:
            raise TooLarge(f"{self.url}{path} has more than {most_bytes} bytes: expected fewer")
        return answer

    async def lines(self, path: str, content: Any) -> AsyncGenerator[dict[str, Any]]:
        """Send a request with JSON, and iterate over its answer, a JSON object a line; whoever stops closes the connection.

        Raises:
            ClipError: as :meth:`ask`; that of a line with ``error``.
        """
        self._concurrency.check()
        ids = fresh(current())
        try:
            async with contextlib.aclosing(self._streamed(path, dumped(content), ids)) as lines:
                async for line in lines:
                    told = {**json.loads(line)}
                    if "error" in told:
                        raise ids.named(self._error(int(told["error"]["code"]), line))
                    yield told
        except Outage as problem:
            raise ids.named(Unavailable(f"{self.url} can't be reached, or stopped in the middle ({problem})")) from problem
        except (ValueError, TypeError, KeyError) as problem:
            if isinstance(problem, ClipError):
                raise
            raise foreign(200) from problem

    async def not_ready(self) -> str:
        """Return the parts that aren't ready, with reasons; empty when all are."""
        self._concurrency.check()
        try:
            _, answer = await self._sent("GET", "/health/ready", b"", self._options.request_s)
            missing = {**json.loads(answer)["not_ready"]}
        except (ClipError, ValueError, KeyError, TypeError) as problem:
            fault = await self._fault(problem) if isinstance(problem, Outage) else ""
            return f"no answer from a sidecar ({fault or problem})"
        return "; ".join(f"{name}: {reason}" for name, reason in missing.items())

    def _sent_headers(self, path: str) -> dict[str, str]:
        """Return the headers of a request, with the type of its body."""
        return sent(self._headers) | ({"content-type": ARROW} if path.partition("?")[0].endswith("/arrow") else {})

    @abstractmethod
    async def close(self) -> None:
        """Close the connections."""

    @abstractmethod
    def _streamed(self, path: str, body: bytes, ids: RequestContext) -> AsyncGenerator[bytes]:
        """Send a POST, and iterate over the lines of the answer as they come; raises as :meth:`_sent`."""

    @abstractmethod
    async def _sent(
        self, method: str, path: str, body: bytes, timeout_s: float, most_bytes: int | None = None
    ) -> tuple[int, bytes]:
        """Return status and body, of which no more than a byte beyond ``most_bytes`` is read.

        Raises:
            Outage: the request wasn't sent.
            Lost: no answer came.
            Timeout: nor in time.
        """

    async def _asked(self, method: str, path: str, body: bytes, most_bytes: int | None = None) -> tuple[int, bytes]:
        """Send a request, again where nobody is there; where its answer was lost only if it changes nothing."""
        deadline = time.monotonic() + self._options.request_s
        while True:
            try:
                return await self._attempted(method, path, body, most_bytes, deadline)
            except Pressed as problem:
                if self._options.retries.attempts == 1 or time.monotonic() + problem.pause_s > deadline:
                    return problem.status, problem.answer
                await self._concurrency.sleep(problem.pause_s)

    async def _attempted(self, method: str, path: str, body: bytes, most: int | None, deadline: float) -> tuple[int, bytes]:
        """Send a request as often as nobody is there; raises Pressed if it has to wait."""
        is_question = method == "GET" or path.endswith(_QUESTIONS)
        problem: Outage | None = None
        for pause_s in pauses_s(self._options.retries):
            if pause_s:
                if time.monotonic() + pause_s > deadline:
                    break
                await self._concurrency.sleep(pause_s)
            try:
                left_s = max(min(deadline - time.monotonic(), self._options.attempt_s), 0.001)
                return await self._sent(method, path, body, left_s, most)
            except Outage as outage:
                problem = outage
                if isinstance(outage, Lost) and not is_question:
                    break
        assert problem is not None  # noqa: S101  (there is one attempt at least)
        fault = await self._fault(problem)
        if fault:
            raise Unavailable(f"{self.url} can't be reached: {fault}") from problem
        raise Unavailable(f"{self.url} can't be reached ({problem}): start it, clipserve search serve") from problem

    async def _fault(self, problem: Exception) -> str:
        told = str(problem)
        [fault] = await self._concurrency.apply(
            lambda address: tls_faults.fault(address, self._options, told), [self._address], 1
        )
        return fault

    async def _apart(self, function: Any, value: Any, size: int) -> Any:
        """Call a function, and where that takes long, wherever the client calls what blocks."""
        if size < _LARGE_BYTES:
            return function(value)
        [result] = await self._concurrency.apply(function, [value], 1)
        return result

    def _timeout(self) -> Timeout:
        s = min(self._options.request_s, self._options.attempt_s)
        return Timeout(f"{self.url} didn't answer within {s:g} s: raise timeout_s (--timeout), or ask for less")

    def _error(self, status: int, body: bytes) -> ClipError:
        return answered_error(self.url, status, body, had_token=bool(self._options.token))


class SidecarHttp(Sidecar):
    """Connections to one sidecar; safe to use from several threads."""

    def __init__(self, url: str, address: ServerAddress, options: Options, concurrency: Concurrency) -> None:
        super().__init__(url, address, options, concurrency)
        context = (options.tls or Tls()).context() if address.is_secure else None
        self._pool = urllib3.PoolManager(headers=self._headers, retries=False, maxsize=_CONNECTIONS, ssl_context=context)
        self._asked_at = time.monotonic()

    async def close(self) -> None:
        """Close the connections."""
        self._pool.clear()

    async def _sent(
        self, method: str, path: str, body: bytes, timeout_s: float, most_bytes: int | None = None
    ) -> tuple[int, bytes]:
        timeout = urllib3.Timeout(connect=min(self._options.timeouts.connect_s, timeout_s), read=timeout_s)
        self._let_go()
        try:
            answer = self._pool.request(
                method,
                self.url + path,
                body=body or None,
                headers=self._sent_headers(path),
                timeout=timeout,
                preload_content=most_bytes is None,
                redirect=False,
            )
            if most_bytes is None:
                return unpressed(answer.status, answer.headers, answer.data)
            with answer:
                return unpressed(answer.status, answer.headers, answer.read(most_bytes + 1, decode_content=True))
        except urllib3.exceptions.HTTPError as problem:
            raise self._of_library(problem) from problem

    async def _streamed(self, path: str, body: bytes, ids: RequestContext) -> AsyncGenerator[bytes]:
        headers = {**ids.headers, **self._headers}
        self._let_go()
        timeout = urllib3.Timeout(connect=self._options.timeouts.connect_s, read=self._options.request_s)
        try:
            answer = self._pool.request(
                "POST", self.url + path, body=body, headers=headers, timeout=timeout, preload_content=False, redirect=False
            )
            with answer:
                if answer.status >= 300:
                    raise self._error(answer.status, answer.read(_MOST_TOLD))
                for line in answer:
                    yield line
        except urllib3.exceptions.HTTPError as problem:
            raise self._of_library(problem) from problem

    def _let_go(self) -> None:
        """Close connections that nobody has used for a while: the server, or a proxy, may close them while a request comes."""
        now = time.monotonic()
        if now - self._asked_at > IDLE_S:
            self._pool.clear()
        self._asked_at = now

    def _of_library(self, problem: urllib3.exceptions.HTTPError) -> ClipError | Outage:
        """Return the error of ours for one of urllib3's."""
        if isinstance(problem, _NOT_SENT):
            return Outage(str(problem))
        return self._timeout() if isinstance(problem, urllib3.exceptions.TimeoutError) else Lost(str(problem))
