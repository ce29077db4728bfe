"""HTTP conversation with a search sidecar: requests, readiness; errors of ours instead of statuses and urllib3's."""

import json
from typing import Any, Protocol

import urllib3

from clip_client.errors import ClipError, ContractMismatch, InvalidInput, Timeout, Unavailable, error_class

_CONNECTIONS = 16  # kept open, for as many threads; more threads open more, which are closed after use


class AwaitableSidecar(Protocol):
    """Requests to one sidecar, awaited on an event loop, or in threads by those that never suspend."""

    @property
    def url(self) -> str:
        """URL of the sidecar."""

    async def ask(self, method: str, path: str, content: Any = None) -> dict[str, Any]:
        """Send a request, as :meth:`SidecarHttp.ask` does."""

    async def not_ready(self) -> str:
        """Return the parts that aren't ready, with reasons; empty when all are."""

    async def close(self) -> None:
        """Close the connections."""


class SidecarHttp:
    """Connections to one sidecar; safe to use from several threads."""

    def __init__(self, url: str, *, token: str, timeout_s: float) -> None:
        if not url.startswith(("http://", "https://")):
            raise InvalidInput(f"the sidecar's URL is {url!r}: expected http://host:port")
        self.url = url.rstrip("/")
        headers = {"Content-Type": "application/json"} | ({"Authorization": f"Bearer {token}"} if token else {})
        self._pool = urllib3.PoolManager(headers=headers, timeout=timeout_s, retries=False, maxsize=_CONNECTIONS)
        self._timeout_s = timeout_s

    def ask(self, method: str, path: str, content: Any = None) -> dict[str, Any]:
        """Send a request, with ``content`` as its JSON body unless that is None, and return the answer's JSON object.

        Raises:
            InvalidInput: or its subclass that the status stands for.
            ContractMismatch: the collection holds vectors of another model.
            Unavailable: the sidecar can't be reached, or says that it can't answer now.
            Timeout: the sidecar, or its Triton, is too slow.
        """
        body = None if content is None else json.dumps(content).encode()
        try:
            response = self._pool.request(method, self.url + path, body=body)
        except urllib3.exceptions.HTTPError as problem:
            raise self._failure(problem) from problem
        if response.status >= 300:  # the sidecar never redirects
            raise _error(response.status, response.data)
        try:
            return {**json.loads(response.data)}
        except (ValueError, TypeError) as problem:  # not JSON, or no object
            raise _foreign(response.status) from problem

    def not_ready(self) -> str:
        """Return the parts that aren't ready, with reasons; empty when all are."""
        try:
            missing = json.loads(self._pool.request("GET", f"{self.url}/health/ready").data)["not_ready"]
        except (urllib3.exceptions.HTTPError, ValueError, KeyError, TypeError, AttributeError) as problem:
            return f"no answer from a sidecar ({problem})"
        return "; ".join(f"{name}: {reason}" for name, reason in missing.items())

    def close(self) -> None:
        """Close the connections."""
        self._pool.clear()

    def _failure(self, problem: urllib3.exceptions.HTTPError) -> ClipError:
        refused = isinstance(problem, urllib3.exceptions.NewConnectionError)  # which urllib3 takes for a timeout
        if isinstance(problem, urllib3.exceptions.TimeoutError) and not refused:
            return Timeout(f"{self.url} didn't answer within {self._timeout_s:g} s: raise timeout_s or ask for less")
        return Unavailable(f"{self.url} can't be reached ({problem}): start it, clipserve search serve")


def _foreign(status: int) -> Unavailable:
    return Unavailable(f"the sidecar answers {status}: is something else listening there?")


def _error(status: int, body: bytes) -> ClipError:
    """Return the error that an answer stands for."""
    try:
        details = json.loads(body)["error"]
        message, kind = details["message"], details["type"]
        reasons = {int(n): reason for n, reason in details.get("errors", {}).items()}
    except (ValueError, KeyError, TypeError, AttributeError):
        return _foreign(status)
    if kind == ContractMismatch.__name__:
        return ContractMismatch(message)
    error = error_class(status)
    if issubclass(error, InvalidInput):
        return error(message, errors=reasons)
    return error(message)
