"""Memory of a server over many requests; a part of bench/scale.py."""

from collections.abc import Mapping, Sequence
from functools import partial
from pathlib import Path

from matplotlib.axes import Axes
from clip_client.progress_bars import ProgressBar

from clip_client import Clip
from lib.load import load
from lib.plotting import plot
from lib.results import plot_path
from lib.samples import texts
from lib.serving import Serving, served
from lib.tables import Cell, Table

Parts = dict[str, float]

PARTS = 40
NOTE = (
    "Memory is the resident memory of the launcher, Triton and its Python processes with both towers (shared pages are "
    "counted once) while 16 clients send photos and texts of 1 to 60 words in equal parts, one request of photos in twenty a "
    "batch of 2 to 32."
)


def memory_over(requests: int, repository: Path, photos: Sequence[bytes]) -> dict[int, Parts]:
    """Load a new server; return its memory by the number of requests answered."""
    part = max(1, requests // PARTS)
    with served(repository) as serving, Clip(serving.address) as clip:
        memory = {0: parts_mb(serving)}
        for start in ProgressBar(range(0, requests, part), desc="memory", unit=f" x {part} requests"):
            load(partial(mixed, clip, photos, start), 16, part)
            memory[start + part] = parts_mb(serving)
    return memory


def parts_mb(serving: Serving) -> Parts:
    """Return megabytes of each encoder's process, and of all the rest."""
    memory = {name: size_bytes / 1e6 for name, size_bytes in serving.memory_bytes().items()}
    encoders = {name: mb for name, mb in sorted(memory.items()) if name.endswith("_encoder")}
    return encoders | {"the rest": sum(memory.values()) - sum(encoders.values())}


def mixed(clip: Clip, photos: Sequence[bytes], start: int, number: int) -> object:
    """Send request start + number: a photo, a text of 1 to 60 words, or now and then a batch of 2 to 32 photos."""
    n = start + number
    if n % 2:
        return clip.embed_text(texts(1, seed=n, words=1 + n % 60))
    return clip.embed_image([photos[(n // 2 + k) % len(photos)] for k in range(2 + n // 40 % 31 if n % 40 == 0 else 1)])


def memory_table(memory: Mapping[int, Parts]) -> Table:
    """Return the memory after the start, at a few points of the way, and at its highest."""
    counts = list(memory)
    points = sorted({0, counts[1], *(counts[len(counts) * n // 4] for n in (1, 2, 3)), counts[-1]})
    rows: list[Sequence[Cell]] = [
        [f"after {count:,} requests" if count else "after the start", *sum_and_parts(memory[count])] for count in points
    ]
    highest = max(memory.values(), key=lambda parts: sum(parts.values()))
    return Table(["memory, MB", "in all", *memory[0]], [*rows, ["highest", *sum_and_parts(highest)]])


def sum_and_parts(parts: Parts) -> list[float]:
    """Return the sum of the parts, and each."""
    return [sum(parts.values()), *parts.values()]


def memory_plot(memory: Mapping[int, Parts]) -> Path:
    """Plot memory over requests."""

    def draw(axes: Axes) -> None:
        for name, values in zip(["in all", *memory[0]], zip(*map(sum_and_parts, memory.values()), strict=True), strict=True):
            axes.plot(list(memory), values, marker=".", label=name)
        highest = max(sum(parts.values()) for parts in memory.values())
        axes.set(xlabel="requests", ylabel="memory of the server, MB", ylim=(0, 1.4 * highest))  # room for the legend

    return plot(plot_path("memory"), draw, height=3.8, legend=True)
