"""Searches of one client while others misbehave: bodies of 64 MB, 500 slow connections, a flood of searches.

python bench/flood.py                # starts a sidecar of its own; about three minutes
python bench/flood.py --seconds 10   # of each phase

Phases alone and under attack take turns; printed are the victim's p95 in both and the sidecar's largest memory, that of its
child processes included. Attackers have other loopback addresses (127.0.0.2, …) and, as they would run on other machines,
the lowest priority.
"""

from __future__ import annotations

import argparse
import contextlib
import http.client
import json
import multiprocessing
import os
import socket
import subprocess
import sys
import tempfile
import threading
import time
from collections import Counter
from collections.abc import Callable, Iterator
from pathlib import Path

import numpy as np
import psutil

SIZE, ROWS, THINK_S = 320, 20_000, 0.02
SETTLED_S, LONGEST_S = 3.0, 60.0
HEAD = "POST {path} HTTP/1.1\r\nHost: localhost\r\nContent-Length: {size}\r\n\r\n"
SEARCH, ADD = "/v1/collections/a/search", "/v1/collections/a/rows"


def main() -> None:
    """Measure and print."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--seconds", type=float, default=8.0, help="of each phase")
    parser.add_argument("--rounds", type=int, default=3, help="phases of each kind")
    parser.add_argument("--options", nargs="*", default=[], help="further options of clipserve search serve, without dashes")
    options = parser.parse_args()
    with (
        tempfile.TemporaryDirectory(prefix="clipserve-flood-") as folder,
        sidecar(Path(folder), options.options) as (port, process),
    ):
        fill(port)
        print(f"idle: {memory(process) / 2**20:.0f} MB; {os.cpu_count()} cores, load {os.getloadavg()[0]:.1f}")
        for attack in (bodies, slowloris, flood):
            alone, under, answers, peak = measured(port, process, attack, options)
            print(
                f"{attack.__name__}: p95 alone {1000 * alone:.1f} ms, under attack {1000 * under:.1f} ms, "
                f"{under / alone:.2f} times; largest memory {peak / 2**20:.0f} MB; attackers' answers {dict(answers)}",
                flush=True,
            )


@contextlib.contextmanager
def sidecar(folder: Path, more: list[str]) -> Iterator[tuple[int, psutil.Process]]:
    """Yield port and process of a sidecar without Triton."""
    with socket.create_server(("127.0.0.1", 0)) as free:
        port = free.getsockname()[1]
    where = ["--data", str(folder / "data"), "--port", str(port), "--host", "127.0.0.1", "--triton", "127.0.0.1:9"]
    command = [sys.executable, "-m", "clip_search.cli.parser", "serve", *where, *(f"--{option}" for option in more)]
    process = subprocess.Popen(command, stdout=subprocess.DEVNULL)
    try:
        for _ in range(600):
            with contextlib.suppress(OSError):
                if ask(port, "GET", "/health/live")[0] == 200:
                    break
            time.sleep(0.1)
        yield port, psutil.Process(process.pid)
    finally:
        process.terminate()
        process.wait(30)


def ask(port: int, method: str, path: str, body: object = None) -> tuple[int, bytes]:
    """Return status and body of one request."""
    connection = http.client.HTTPConnection("127.0.0.1", port, timeout=120)
    connection.request(method, path, json.dumps(body) if body else None)
    answer = connection.getresponse()
    return answer.status, answer.read()


def fill(port: int) -> None:
    """Make the collection."""
    ask(port, "POST", "/v1/collections", {"name": "a", "dimension": SIZE})
    vectors = np.random.default_rng(0).normal(size=(ROWS, SIZE)).round(4)
    for start in range(0, ROWS, 2000):
        rows = [{"id": str(n), "vector": vectors[n].tolist()} for n in range(start, start + 2000)]
        ask(port, "POST", ADD, {"rows": rows})


def settle(port: int) -> None:
    """Wait until nothing has changed for some seconds: rows that an attack replaced are indexed anew."""
    before, since, start = b"", time.monotonic(), time.monotonic()
    while time.monotonic() - since < SETTLED_S and time.monotonic() - start < LONGEST_S:
        now = ask(port, "GET", "/v1/collections/a")[1]
        before, since = now, since if now == before else time.monotonic()
        time.sleep(0.2)


def measured(
    port: int, process: psutil.Process, attack: Callable[..., None], options: argparse.Namespace
) -> tuple[float, float, Counter[str], int]:
    """Return the victim's p95 alone and under attack in seconds, the attackers' answers, and the largest memory."""
    times: dict[bool, list[float]] = {False: [], True: []}
    answers: Counter[str] = Counter()
    peak = 0
    for _ in range(options.rounds):
        settle(port)
        times[False] += victim(port, options.seconds)
        stop, told = multiprocessing.get_context("spawn").Event(), multiprocessing.get_context("spawn").Queue()
        attacker = multiprocessing.get_context("spawn").Process(target=attack, args=(port, stop, told))
        attacker.start()
        told.get(timeout=120)  # it has begun
        peaks: list[int] = []
        watch = threading.Thread(target=watched, args=(process, peaks, options.seconds + 1))
        watch.start()
        time.sleep(1)
        times[True] += victim(port, options.seconds)
        stop.set()
        answers += told.get(timeout=120)
        attacker.join(60)
        watch.join()
        peak = max(peak, *peaks)
    return *(float(np.percentile(times[kind], 95)) for kind in (False, True)), answers, peak  # type: ignore[return-value]


def memory(process: psutil.Process) -> int:
    """Return the resident bytes of a process and its children."""
    total = process.memory_info().rss
    for child in process.children():
        with contextlib.suppress(psutil.NoSuchProcess):
            total += child.memory_info().rss
    return total


def watched(process: psutil.Process, peaks: list[int], seconds: float) -> None:
    """Note the memory of a process for a while."""
    end = time.monotonic() + seconds
    while time.monotonic() < end:
        peaks.append(memory(process))
        time.sleep(0.02)


def victim(port: int, seconds: float) -> list[float]:
    """Return the times of searches, one after the other with a pause."""
    connection, times, end = http.client.HTTPConnection("127.0.0.1", port, timeout=120), [], time.monotonic() + seconds
    draw = np.random.default_rng(1)
    while time.monotonic() < end:
        body = json.dumps({"vector": draw.normal(size=SIZE).tolist(), "k": 10})
        start = time.perf_counter()
        connection.request("POST", SEARCH, body)
        answer = connection.getresponse()
        answer.read()
        times.append(time.perf_counter() - start)
        if answer.status != 200:
            raise RuntimeError(f"a search was answered {answer.status}")
        time.sleep(THINK_S)
    return times


def bodies(port: int, stop, told) -> None:  # type: ignore[no-untyped-def]
    """Send bodies of 64 MB of numbers on four connections."""
    vector = json.dumps(np.random.default_rng(2).normal(size=SIZE).tolist())
    rows = [f'{{"id":"b{n:06d}","vector":{vector}}}' for n in range(10_000)]
    count = min(len(rows), 64 * 2**20 // (len(rows[0]) + 1) - 1)
    body = ('{"on_conflict":"replace","rows":[' + ",".join(rows[:count]) + "]}").encode()
    attackers((port, stop, told), "127.0.0.2", 4, ADD, body)


def flood(port: int, stop, told) -> None:  # type: ignore[no-untyped-def]
    """Search on 400 connections as fast as answers come."""
    body = json.dumps({"vector": np.ones(SIZE).tolist(), "k": 100}).encode()
    attackers((port, stop, told), "127.0.0.3", 400, SEARCH, body)


def attackers(process, address, count, path, body) -> None:  # type: ignore[no-untyped-def]
    """Send one body again and again on some connections."""
    port, stop, told = process
    os.nice(19)
    answers: Counter[str] = Counter()
    request = HEAD.format(path=path, size=len(body)).encode() + body

    def send() -> None:
        while not stop.is_set():
            try:
                with socket.create_connection(("127.0.0.1", port), timeout=60, source_address=(address, 0)) as connection:
                    while not stop.is_set():
                        connection.sendall(request)
                        answers[received(connection)] += 1
            except OSError as problem:
                answers[type(problem).__name__] += 1
                time.sleep(0.1)

    threads = [threading.Thread(target=send, daemon=True) for _ in range(count)]
    for thread in threads:
        thread.start()
    told.put(None)
    stop.wait()
    time.sleep(0.5)
    told.put(answers)
    told.close()
    told.join_thread()
    os._exit(0)


def received(connection: socket.socket) -> str:
    """Return the status of an answer, once all of it is there."""
    content = b""
    while b"\r\n\r\n" not in content:
        part = connection.recv(65_536)
        if not part:
            raise ConnectionError
        content += part
    head, _, rest = content.partition(b"\r\n\r\n")
    size = int(head.lower().partition(b"content-length:")[2].split()[0])
    while len(rest) < size:
        rest += connection.recv(65_536)
    return head.split()[1].decode()


def slowloris(port: int, stop, told) -> None:  # type: ignore[no-untyped-def]
    """Hold 500 connections whose heads drip."""
    os.nice(19)
    answers: Counter[str] = Counter()
    held: list[socket.socket] = []
    begun = False
    while not stop.is_set():
        while len(held) < 500:
            held.append(socket.create_connection(("127.0.0.1", port), timeout=60, source_address=("127.0.0.4", 0)))
            held[-1].sendall(b"GET / HTTP/1.1\r\nHost: localhost\r\n")
        if not begun:
            told.put(None)
            begun = True
        for connection in list(held):
            try:
                connection.sendall(b"X-a: b\r\n")
            except OSError:
                answers["closed"] += 1
                held.remove(connection)
        time.sleep(0.5)
    told.put(answers)


if __name__ == "__main__":
    main()
