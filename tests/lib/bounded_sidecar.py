"""A search sidecar with bounds that a test can meet: python bounded_sidecar.py DATA PORT TRITON BOUNDS, the last one JSON.

Beside the fields of :class:`Bounds` it takes ``body_bytes`` and ``fetch_s``.
"""

from __future__ import annotations

import ipaddress
import json
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from sidecars import Sidecar

from clip_search.cli import serve
from clip_search.options import Bounds, FetchOptions, HttpOptions, Options
from clip_search.web.traces import Traces

LOCAL = (ipaddress.ip_network("127.0.0.1/32"),)


class Bounded(Sidecar):
    """A sidecar whose options aren't all on the command line."""

    def __post_init__(self) -> None:
        command = [sys.executable, __file__, str(self.data), str(self.port), self.triton, *self.options]
        self.process = subprocess.Popen(command, stdout=subprocess.DEVNULL)


@contextmanager
def running(data: Path, triton: str, **bounds: Any) -> Iterator[Sidecar]:
    """A sidecar whose collections are open, stopped at the end."""
    sidecar = Bounded(data, triton, (json.dumps(bounds),))
    try:
        sidecar.wait_open()
        yield sidecar
    finally:
        sidecar.stop()


def main(data: str, port: str, triton: str, given: str) -> int:
    """Serve."""
    bounds = json.loads(given)
    http = HttpOptions(port=int(port), body_bytes=bounds.pop("body_bytes", HttpOptions.body_bytes))
    fetch = FetchOptions(networks=LOCAL, ports=(range(1024, 65536),), timeout_s=bounds.pop("fetch_s", 10))
    return serve.serve(Options(data, triton=triton, fetch=fetch, http=http, bounds=Bounds(**bounds)), Traces())


if __name__ == "__main__":
    sys.exit(main(*sys.argv[1:]))
