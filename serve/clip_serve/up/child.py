"""Child process of a run: a clipserve command that ends with its parent, however that ends."""

import ctypes
import os
import signal
import sys

from clip_client.cli import main

_PR_SET_PDEATHSIG = 1


def run(parent: int, arguments: list[str]) -> int:
    """Run a command for the process ``parent``; return its exit status. SIGTERM is as good as Ctrl-C from here on."""
    signal.signal(signal.SIGTERM, signal.default_int_handler)
    ctypes.CDLL(None).prctl(_PR_SET_PDEATHSIG, signal.SIGTERM)
    if os.getppid() != parent:  # it died before the line above
        return 1
    return main(arguments)


if __name__ == "__main__":
    sys.exit(run(int(sys.argv[1]), sys.argv[2:]))
