"""HTTP connections with bounds that httptools and uvicorn lack: on their number, and on the size and time of a head."""

import asyncio
from collections import Counter
from collections.abc import Callable, Sequence
from typing import Any

from uvicorn.protocols.http.httptools_impl import STATUS_LINE, HttpToolsProtocol

from clip_client.addresses import Network
from clip_search.errors import Busy, Stalled, TooMany
from clip_search.options import Bounds
from clip_search.web.client_address import address_of, is_among
from clip_search.web.guard import failure
from clip_search.web.refusal import Refused


class _HeadTooLarge(Exception):
    """Signal that ends the parser's work."""


def bounded(bounds: Bounds, proxies: Sequence[Network] = ()) -> type[HttpToolsProtocol]:
    """Return the protocol for uvicorn's option ``http``, with these bounds; proxies have many clients, and connections."""
    return type("BoundedProtocol", (_Bounded,), {"bounds": bounds, "proxies": proxies, "of_address": Counter()})


class _Bounded(HttpToolsProtocol):
    """Connection with a timer, for the head of a request and for the rest of one that was answered early."""

    bounds: Bounds
    proxies: Sequence[Network]
    of_address: Counter[str]  # connections by address
    _address = ""
    _timer: asyncio.TimerHandle | None = None
    _refusal: Exception | None = None
    _in_head = True
    _had_head = False
    _in_request = False
    _is_over = False
    _head_bytes = 0

    def connection_made(self, transport: asyncio.Transport) -> None:  # type: ignore[override]
        super().connection_made(transport)
        self._address = address_of(self.client)
        self.of_address[self._address] += 1
        most = self.bounds.client_connections
        if len(self.connections) > self.bounds.connections:
            self._refuse(
                Busy(f"{self.bounds.connections} connections are open, no more are taken: close some, or try again later")
            )
        elif self.of_address[self._address] > most and not is_among(self._address, self.proxies):
            self._refuse(TooMany(f"{most} connections of {self._address} are open, no more are taken: close some"))
        else:
            self._await(self._no_head)

    def connection_lost(self, exc: Exception | None) -> None:
        self._cancel()
        self.of_address[self._address] -= 1
        if not self.of_address[self._address]:
            del self.of_address[self._address]
        super().connection_lost(exc)

    def data_received(self, data: bytes) -> None:
        if self._is_over or self.transport.is_closing():
            return
        self._had_head = not self._in_head
        super().data_received(data)
        if not self._had_head:  # all of it belongs to a head that isn't complete: the parser keeps it
            self._head_bytes += len(data)
            if self._head_bytes > self.bounds.head_bytes:
                self._refuse(self._too_large())

    def send_400_response(self, msg: str) -> None:
        self._refuse(self._refusal or Refused(400, f"{msg} The bytes that were sent aren't HTTP/1.1: look at the client"))

    def on_message_begin(self) -> None:
        super().on_message_begin()
        self._in_request, self._head_bytes, self._refusal = True, 0, None
        self._await(self._no_head)

    def on_url(self, url: bytes) -> None:
        super().on_url(url)
        self._check_head()

    def on_header(self, name: bytes, value: bytes) -> None:
        super().on_header(name, value)
        self._check_head()

    def on_headers_complete(self) -> None:
        self._cancel()
        self._in_head, self._had_head = False, True
        super().on_headers_complete()
        self.scope["peer"] = self.client  # type: ignore[typeddict-unknown-key]

    def on_message_complete(self) -> None:
        self._in_request, self._in_head = False, True
        self._head_bytes = 0
        self._cancel()
        super().on_message_complete()

    def on_response_complete(self) -> None:
        super().on_response_complete()
        if self._in_request and not self._in_head and self.cycle.response_complete:
            # the rest of the body is read and dropped, for a while
            self._await(self.transport.close)

    def _check_head(self) -> None:
        """Bound the head, and trailers behind the body."""
        size = len(self.url) + sum(len(name) + len(value) for name, value in self.headers)
        if size > self.bounds.head_bytes or len(self.headers) > self.bounds.headers:
            self._refusal = self._too_large()
            raise _HeadTooLarge

    def _too_large(self) -> Refused:
        return Refused(
            431,
            f"the request's head has more than {self.bounds.head_bytes:,} bytes or {self.bounds.headers} headers: send a "
            "shorter URL and fewer headers",
        )

    def _no_head(self) -> None:
        """Close a connection whose request doesn't come; without an answer if nothing was sent."""
        if self.cycle is not None and not self.cycle.response_complete:  # the request before is still being answered
            self._await(self._no_head)
        elif self._in_request or self._head_bytes:
            self._refuse(Stalled(f"no request within {self.bounds.head_s:g} s: expected its line and all of its headers"))
        else:
            self.transport.close()

    def _refuse(self, problem: Exception) -> None:
        """Answer without the application, drop what still comes, so that the answer arrives, and close."""
        if self._is_over:
            return
        self._is_over = True
        if self.cycle is None or self.cycle.response_complete:
            self.transport.write(_answered(problem))
            self.transport.write_eof()
            self._await(self.transport.close)
        else:
            self.transport.close()

    def _await(self, then: Callable[[], Any]) -> None:
        self._cancel()
        self._timer = self.loop.call_later(self.bounds.head_s, then)

    def _cancel(self) -> None:
        if self._timer:
            self._timer.cancel()
        self._timer = None


def _answered(problem: Exception) -> bytes:
    answer = failure(problem)
    headers = {**dict(answer.headers), "connection": "close"}
    lines = [f"{name}: {value}\r\n".encode() for name, value in headers.items()]
    return b"".join([STATUS_LINE[answer.status_code], *lines, b"\r\n", bytes(answer.body)])
