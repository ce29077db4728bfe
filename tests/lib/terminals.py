"""Commands in a terminal of their own."""

from __future__ import annotations

import contextlib
import fcntl
import os
import pty
import struct
import subprocess
import termios
from collections.abc import Sequence
from pathlib import Path


def run_in_terminal(command: Sequence[str | Path], columns: int = 80, typed: str = "", **variables: str) -> tuple[int, str]:
    """Run a command with a terminal as its standard streams; return its exit status, and what the terminal got."""
    leader, follower = pty.openpty()
    fcntl.ioctl(follower, termios.TIOCSWINSZ, struct.pack("HHHH", 50, columns, 0, 0))
    environment = {name: value for name, value in os.environ.items() if name not in ("COLUMNS", "NO_COLOR", "FORCE_COLOR")}
    environment |= {"TERM": "xterm-256color", **variables}
    with subprocess.Popen(command, stdin=follower, stdout=follower, stderr=follower, env=environment) as process:
        os.close(follower)
        os.write(leader, typed.encode())
        shown = b""
        with contextlib.suppress(OSError):  # EIO: nobody holds the other end any more
            while part := os.read(leader, 65_536):
                shown += part
        status = process.wait()
    os.close(leader)
    return status, shown.decode("utf-8", "replace")
