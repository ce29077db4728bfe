"""Addresses and ports of a server."""

import socket
from dataclasses import dataclass

from clip_client.errors import InvalidInput


@dataclass(frozen=True)
class Endpoints:
    """Address and ports of the server; the host is an address, ``name`` the name that the user gave, if any."""

    host: str
    http_port: int
    grpc_port: int
    metrics_port: int
    name: str = ""

    @property
    def url_host(self) -> str:
        """The host as it is written in front of a port."""
        return f"[{self.host}]" if ":" in self.host else self.host

    def listening(self, port: int) -> socket.socket:
        """Open a socket that listens on a port; raise InvalidInput if another program took the port a moment ago."""
        try:
            return socket.create_server((self.host, port), family=self._family, dualstack_ipv6=self.host == "::")
        except OSError as problem:
            raise InvalidInput(f"{self.host}:{port} can't be used ({problem.strerror}): start again") from problem

    @property
    def _family(self) -> socket.AddressFamily:
        return socket.AF_INET6 if ":" in self.host else socket.AF_INET

    def check_free(self) -> None:
        """Raise InvalidInput for the first port that is taken, or a host that isn't this machine's."""
        if len({self.http_port, self.grpc_port, self.metrics_port}) < 3:
            raise InvalidInput("HTTP, gRPC and metrics need a port each: pass three different ones")
        for option in ("http_port", "grpc_port", "metrics_port"):
            port = getattr(self, option)
            with socket.socket(self._family) as probe:
                probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
                try:
                    probe.bind((self.host, port))
                except OSError as problem:
                    flag = f"--{option.replace('_', '-')}"
                    raise InvalidInput(
                        f"{self.host}:{port} can't be used ({problem.strerror}): stop what uses it, or pass another {flag}"
                    ) from problem


def numeric(host: str) -> str:
    """Return the first numeric address of a host name, since Triton misreads names; raise InvalidInput if it has none."""
    try:
        return str(socket.getaddrinfo(host or "?", None, type=socket.SOCK_STREAM)[0][4][0])
    except OSError as problem:
        raise InvalidInput(f"--host {host!r} isn't an address ({problem.strerror}): pass e.g. 127.0.0.1") from problem
