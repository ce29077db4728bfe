"""Door to Triton's own control of its models: its HTTP on a socket in a folder that the launcher alone may enter."""

from __future__ import annotations

import http.client
import json
import socket
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from clip_client.errors import Unavailable

_QUICK_S = 10.0  # for an answer that needs no loading


@dataclass(frozen=True)
class Door:
    """Requests to one Triton; each raises Unavailable with Triton's reason.

    Attributes:
        path: of the Unix socket.
        load_s: patience with a model that is loaded.
    """

    path: Path
    load_s: float

    def index(self) -> list[tuple[str, str, str]]:
        """Return (model, version, state) of everything that is or was loaded."""
        told = self._asked("/v2/repository/index", _QUICK_S)
        return [(one["name"], one["version"], one.get("state", "")) for one in told if "version" in one]

    def load(self, model: str) -> None:
        """Load a model and those that its steps lead to, or read its configuration anew; return once it is ready."""
        self._asked(f"/v2/repository/models/{model}/load", self.load_s)

    def unload(self, model: str) -> None:
        """Unload a model once the requests that it has are answered; :meth:`index` tells when."""
        self._asked(f"/v2/repository/models/{model}/unload", _QUICK_S)

    def _asked(self, path: str, timeout_s: float) -> Any:
        connection = _UnixConnection(self.path, timeout_s)
        try:
            connection.request("POST", path, b"{}", {"Content-Type": "application/json"})
            answer = connection.getresponse()
            status, body = answer.status, answer.read()
            told = json.loads(body) if body else []
        except (OSError, http.client.HTTPException, ValueError) as problem:
            raise Unavailable(f"Triton doesn't answer on its private socket ({problem})") from problem
        finally:
            connection.close()
        if status != 200:
            reason = str(told.get("error", told) if isinstance(told, dict) else told)
            raise Unavailable(reason.partition("\n")[0].strip())  # a Python model's call stack follows
        return told


class _UnixConnection(http.client.HTTPConnection):
    def __init__(self, path: Path, timeout_s: float) -> None:
        super().__init__("localhost", timeout=timeout_s)
        self._path = path

    def connect(self) -> None:
        self.sock = socket.socket(socket.AF_UNIX)
        self.sock.settimeout(self.timeout)
        self.sock.connect(str(self._path))
