"""A long stream of pictures through a server that is killed on the way: nothing is lost or comes twice, memory stays bounded.

    python examples/streams/restarts.py --repository model_repository --count 100000 --kills 2

Starts a server of its own, streams small generated pictures of which every hundredth is corrupt, and kills tritonserver at even
distances; a new server takes the same port. At the end it checks that the results came in order, each once, that exactly the
corrupt pictures have a reason, and that this process' memory stayed below the limit. Needs clipserve[serve] and tqdm.
"""

from __future__ import annotations

import argparse
import contextlib
import resource
import subprocess
import sys
import threading
import time
import zlib
from collections.abc import Iterator
from pathlib import Path

import psutil

from clip_client import Clip

CORRUPT = 100  # one picture in so many
CHECKED = 997  # embeddings of one picture in so many are computed again at the end
CLIPSERVE = Path(sys.executable).with_name("clipserve")


def main() -> int:
    """Stream, check, report; return 1 if something is wrong."""
    options = parser().parse_args()
    server = KilledServer(options.repository, options.port)
    try:
        with Clip(f"127.0.0.1:{options.port}", timeout_s=120) as clip:
            return report(options, *streamed(clip, server, options.count, options.kills))
    finally:
        server.stop()


def parser() -> argparse.ArgumentParser:
    """Return the parser of the options."""
    made = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    made.add_argument(
        "--repository", type=Path, default=Path("model_repository"), metavar="FOLDER", help="a published checkpoint"
    )
    made.add_argument("--count", type=int, default=100_000, metavar="N", help="pictures")
    made.add_argument("--kills", type=int, default=2, metavar="N", help="times that the server is killed")
    made.add_argument("--most-mb", type=int, default=300, metavar="N", help="most memory of this process")
    made.add_argument(
        "--port", type=int, default=18_001, metavar="N", help="of the server's gRPC; the two behind it are used, too"
    )
    return made


class KilledServer:
    """Server on fixed ports, to be killed and started again."""

    def __init__(self, repository: Path, port: int) -> None:
        flags = zip(("--grpc-port", "--http-port", "--metrics-port"), range(port, port + 3), strict=True)
        ports = [str(part) for flag in flags for part in flag]
        self._command = [CLIPSERVE, "serve", "--repository", repository, *ports]
        self.started = 0
        self._start()

    def restart(self) -> None:
        """Kill tritonserver, wait until its launcher has given up, and start both again."""
        for process in psutil.Process(self._process.pid).children(recursive=True):
            if process.name() == "tritonserver":
                process.kill()
        self._process.wait()
        self._start()

    def stop(self) -> None:
        """Stop it."""
        self._process.terminate()
        self._process.wait()

    def _start(self) -> None:
        self._process = subprocess.Popen(self._command, stdout=subprocess.PIPE, text=True)
        if self._process.stdout.readline().startswith("ready"):
            self.started += 1
        else:
            print("the server didn't start", file=sys.stderr)


def picture(n: int) -> bytes:
    """Return a PNG of 8 x 8 pixels that differs from all others; every hundredth is cut short."""
    colour = n.to_bytes(3, "big")
    rows = b"".join(b"\0" + bytes((value + 9 * row) % 256 for value in colour) * 8 for row in range(8))
    head = (8).to_bytes(4, "big") * 2 + b"\x08\x02\0\0\0"
    parts = (b"IHDR" + head, b"IDAT" + zlib.compress(rows), b"IEND")
    chunks = [(len(part) - 4).to_bytes(4, "big") + part + zlib.crc32(part).to_bytes(4, "big") for part in parts]
    encoded = b"\x89PNG\r\n\x1a\n" + b"".join(chunks)
    return encoded[:40] if n % CORRUPT == 0 else encoded


def pictures(server: KilledServer, count: int, kills: int) -> Iterator[bytes]:
    """Generate pictures; have the server killed at even distances, while others are under way."""
    at = {count * (kill + 1) // (kills + 1) for kill in range(kills)}
    restarts: list[threading.Thread] = []
    for n in range(count):
        if n in at:
            restarts.append(threading.Thread(target=server.restart))
            restarts[-1].start()
        yield picture(n)
    for restart in restarts:
        restart.join()


def streamed(clip: Clip, server: KilledServer, count: int, kills: int) -> tuple[list[str], float]:
    """Stream all; return what is wrong, and the seconds that it took."""
    wrong: list[str] = []
    expected, chosen = 0, {}
    start = time.monotonic()
    with contextlib.closing(clip.embed_images(pictures(server, count, kills), on_error="none", progress=True)) as stream:
        for item in stream:
            if item.position != expected:
                wrong.append(f"position {item.position} came in the place of {expected}")
            if (item.embedding is None) != (item.position % CORRUPT == 0):
                wrong.append(f"picture {item.position}: {item.reason or 'corrupt, and embedded'}")
            if item.position % CHECKED == 1 and item.embedding is not None:
                chosen[item.position] = item.embedding
            expected = item.position + 1
    seconds = time.monotonic() - start
    if expected != count:
        wrong.append(f"{expected} results, expected {count}")
    if server.started != kills + 1:
        wrong.append(f"the server was started {server.started} times, expected {kills + 1}")
    again = clip.embed_image([picture(n) for n in chosen])
    wrong += [f"picture {n} has another's embedding" for n, row in zip(chosen, again, strict=True) if row @ chosen[n] < 0.9999]
    return wrong, seconds


def report(options: argparse.Namespace, wrong: list[str], seconds: float) -> int:
    """Print the outcome; return 1 if something is wrong."""
    used_mb = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024
    if used_mb > options.most_mb:
        wrong.append(f"this process took {used_mb:.0f} MB, at most {options.most_mb} MB are expected")
    speed = f"{seconds:.0f} s, {options.count / seconds:.0f} a second"
    print(f"{options.count:,} pictures in {speed}; {options.kills} restarts; {used_mb:.0f} MB at most")
    print("\n".join(wrong[:20]) or "all in order, each once, every corrupt picture named")
    return 1 if wrong else 0


if __name__ == "__main__":
    sys.exit(main())
