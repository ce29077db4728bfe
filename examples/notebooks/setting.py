"""Setting of the notebooks: the bundled pictures, the bundled checkpoint exported once, and a server of their own.

Everything is written below one folder, a temporary one unless ``CLIPSERVE_NOTEBOOKS`` names another.
"""

from __future__ import annotations

import atexit
import json
import os
import signal
import socket
import statistics
import subprocess
import sys
import sysconfig
import tempfile
import time
import warnings
from collections.abc import Callable, Hashable, Mapping, Sequence
from dataclasses import dataclass
from functools import cache
from pathlib import Path
from typing import Any, TypeVar

import pyarrow.parquet as pq
from IPython.display import Markdown
from matplotlib.figure import Figure

from clip_client import Clip
from clip_client.plots.figures import BEST, figure

warnings.filterwarnings("ignore", message="IProgress not found")  # bars are left out where ipywidgets are

PICTURES = Path(__file__).resolve().parents[1] / "emoji" / "pictures"
VARIANTS = ("onnx-fp32", "openvino-fp16", "openvino-int8")
Key = TypeVar("Key", bound=Hashable)
_STOP_S = 30.0
_MAX_LOSS = 3  # points: a single picture of the 64 that a sample leaves to judge on is 1.6
_SERVERS: list[subprocess.Popen[bytes]] = []


@dataclass(frozen=True)
class Emoji:
    """A bundled picture: its file, its name, its character."""

    path: Path
    caption: str
    character: str


@cache
def folder() -> Path:
    """Return the folder that notebooks write to."""
    if named := os.environ.get("CLIPSERVE_NOTEBOOKS"):
        Path(named).mkdir(parents=True, exist_ok=True)
        return Path(named)
    temporary = tempfile.TemporaryDirectory(prefix="clipserve-notebooks-")
    atexit.register(temporary.cleanup)
    return Path(temporary.name)


def emoji(every: int = 1) -> list[Emoji]:
    """Return the bundled pictures, or every so many of them."""
    rows = pq.read_table(PICTURES / "captions.parquet").to_pylist()[::every]
    return [Emoji(PICTURES / row["file_name"], row["caption"], row["emoji"]) for row in rows]


def run(command: str, *arguments: object) -> str:
    """Run a command of clipserve, without its progress; return what it prints.

    Raises:
        RuntimeError: it fails; with what it said.
    """
    ended = subprocess.run([*_clipserve(), command, *map(str, arguments)], capture_output=True, text=True, check=False)
    if ended.returncode:
        raise RuntimeError(f"clipserve {command} ended with status {ended.returncode}: {ended.stderr[-2000:]}")
    return ended.stdout


def repository(variant: str = "onnx-fp32") -> Path:
    """Return a model repository with a variant of the bundled checkpoint, exported on first use (some seconds to a minute)."""
    published = folder() / "repositories" / variant
    if not published.exists():
        places = ("--artifacts", folder() / "artifacts", "--repository", published)
        judgement = ("--eval", sample(), "--calibration", sample(first=10), "--max-loss", _MAX_LOSS)
        run("export", "--quick", "--variants", variant, *judgement, *places, "--json", _report(variant))
    return published


def report(variant: str) -> dict[str, Any]:
    """Return what the export of a variant found, by tower."""
    rows = json.loads(_report(variant).read_text(encoding="utf-8"))["variants"]
    return {row["tower"]: row for row in rows if row["variant"] == variant}


def medians(calls: Mapping[Key, Callable[[], object]], turns: int = 5) -> dict[Key, float]:
    """Return the median milliseconds of each call; they take turns, so that a busy moment hits all, after one to warm up."""
    times: dict[Key, list[float]] = {key: [] for key in calls}
    for _ in range(turns + 1):
        for key, call in calls.items():
            start = time.perf_counter()
            call()
            times[key].append(1000 * (time.perf_counter() - start))
    return {key: statistics.median(spent[1:]) for key, spent in times.items()}


def sample(first: int = 0) -> Path:
    """Return a folder with every 20th bundled picture from one on, and a table of captions: enough where time is short."""
    few = folder() / f"sample-{first}"
    few.mkdir(exist_ok=True)
    rows = emoji()[first::20]
    for row in rows:
        (few / row.path.name).write_bytes(row.path.read_bytes())
    lines = [f'{row.path.name},"{row.caption}"\n' for row in rows]
    (few / "captions.csv").write_text("file_name,caption\n" + "".join(lines), encoding="utf-8")
    return few


def serve(repository: Path) -> str:
    """Start Triton on a repository; return its gRPC address once ready; :func:`stop` ends it, or else the notebook's end."""
    http, grpc, metrics = _free_ports(3)
    ports = ("--http-port", http, "--grpc-port", grpc, "--metrics-port", metrics)
    command = [*_clipserve(), "serve", "--repository", str(repository), *map(str, ports)]
    with (folder() / "serve.log").open("ab") as log:
        server = subprocess.Popen(command, stdout=log, stderr=log, stdin=subprocess.DEVNULL)
    _SERVERS.append(server)
    with Clip(f"localhost:{grpc}") as clip:
        clip.wait_ready(timeout_s=300)
    return f"localhost:{grpc}"


def table(heading: Sequence[str], rows: Sequence[Sequence[object]]) -> Markdown:
    """Return a table that a notebook shows; numbers get up to four digits."""
    lines = [heading, ["---"] + ["---:"] * (len(heading) - 1), *([_cell(value) for value in row] for row in rows)]
    return Markdown("\n".join(f"| {' | '.join(line)} |" for line in lines))


def bars(title: str, values: Mapping[str, float]) -> Figure:
    """Draw a bar for each value, with its number."""
    drawn = figure(7, 0.9 + 0.4 * len(values), title)
    axes = drawn.subplots()
    rows = axes.barh(list(values), list(values.values()), 0.6, color=BEST)
    axes.bar_label(rows, [_cell(value) for value in values.values()], padding=3)
    axes.invert_yaxis()
    axes.margins(x=0.12)
    axes.spines[["top", "right"]].set_visible(False)
    return drawn


def points(names: tuple[str, str], values: Mapping[str, tuple[float, float]]) -> Figure:
    """Draw a named point for each time with its share, from 0 to 1."""
    drawn = figure(6, 3.6)
    axes = drawn.subplots()
    for n, (label, (x, y)) in enumerate(values.items()):
        axes.scatter(x, y, s=50, color=BEST)
        axes.annotate(label, (x, y), xytext=(0, -16 - 13 * n), textcoords="offset points", fontsize=9, ha="center")
    axes.set(xlabel=names[0], ylabel=names[1], xlim=(0, 1.25 * max(x for x, _ in values.values())), ylim=(0, 1.05))
    axes.grid(alpha=0.3)
    return drawn


def _cell(value: object) -> str:
    return f"{value:,.4g}" if isinstance(value, float) else str(value)


def _report(variant: str) -> Path:
    return folder() / f"{variant}.json"


@atexit.register
def stop() -> None:
    """End the servers of this notebook."""
    while _SERVERS:
        server = _SERVERS.pop()
        server.send_signal(signal.SIGTERM)
        try:
            server.wait(_STOP_S)
        except subprocess.TimeoutExpired:
            server.kill()


def _clipserve() -> list[str]:
    """Return the command of the environment that the notebook runs in."""
    installed = Path(sysconfig.get_path("scripts")) / "clipserve"
    return [sys.executable, str(installed)] if installed.exists() else ["clipserve"]


def _free_ports(count: int) -> list[int]:
    """Return ports that nobody listens on, all different."""
    sockets = [socket.create_server(("127.0.0.1", 0)) for _ in range(count)]
    ports: list[int] = [each.getsockname()[1] for each in sockets]
    for each in sockets:
        each.close()
    return ports
