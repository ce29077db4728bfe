"""Start of the programs that clipserve is compared with, each in an environment of its own."""

import contextlib
import os
import subprocess
import tempfile
import time
from collections.abc import Iterator, Sequence
from pathlib import Path

import urllib3

from lib.serving import stopped

_START_S = 300  # with the loading of a checkpoint
_OFFLINE = {"HF_HUB_OFFLINE": "1", "DO_NOT_TRACK": "1", "INFINITY_ANONYMOUS_USAGE_STATS": "0", "CUDA_VISIBLE_DEVICES": ""}


def environment() -> dict[str, str]:
    """Return this process's variables, without those that would reach into another Python or its threads."""
    return {name: value for name, value in os.environ.items() if not name.startswith(("PYTHON", "OMP_"))} | _OFFLINE


def program_path(peers: Path | None, environment: str, program: str) -> Path | None:
    """Return the path of a program in an environment; print a line if it isn't there."""
    path = peers / environment / "bin" / program if peers else None
    if path and path.exists():
        return path.absolute()
    print(f"{environment} is skipped: " + (f"there is no {path}" if path else "no --peers FOLDER was given"), flush=True)
    return None


def run(program: Path, *arguments: str) -> None:
    """Run a program to its end; exit if it fails."""
    ended = subprocess.run([program, *arguments], env=environment(), capture_output=True, text=True, check=False)
    if ended.returncode:
        raise SystemExit(f"{program.name} {arguments[0]} failed ({ended.returncode}): {ended.stderr[-2000:]}")


@contextlib.contextmanager
def started(program: Path, arguments: Sequence[str], url: str) -> Iterator[urllib3.BaseHTTPResponse]:
    """Start a server, wait until a URL of it answers, give that answer; stop it at the end. Exit if it doesn't start."""
    with tempfile.TemporaryFile() as log:
        process = subprocess.Popen([program, *arguments], env=environment(), stdout=log, stderr=subprocess.STDOUT)
        with stopped(process):
            answer = _first_answer(process, url)
            if answer is None:
                log.seek(0)
                raise SystemExit(f"{program.name} didn't start: {log.read()[-2000:].decode(errors='replace')}")
            yield answer


def _first_answer(process: subprocess.Popen[bytes], url: str) -> urllib3.BaseHTTPResponse | None:
    deadline = time.monotonic() + _START_S
    while process.poll() is None and time.monotonic() < deadline:
        with contextlib.suppress(urllib3.exceptions.HTTPError):
            answer = urllib3.request("GET", url, retries=False, timeout=5)
            if answer.status == 200:
                return answer
        time.sleep(0.5)
    return None
