"""Memory of a server over many requests; a part of scale.py."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path

from matplotlib.axes import Axes
from tqdm import tqdm

import work
from clip_client import Clip
from load import load
from plotting import plot
from results import Table
from serving import Serving, served

Parts = dict[str, float]

PARTS = 40
NOTE = (
    "Memory is what is resident of the launcher, Triton and its Python processes with both towers (pages that they share are "
    "counted once) while 16 clients send photos and texts of 1 to 60 words in equal parts, one request of photos in twenty a "
    "batch of 2 to 32."
)


def over(requests: int, repository: Path, photos: Sequence[bytes]) -> dict[int, Parts]:
    """Memory of a new server by the number of requests that it has answered."""
    part = max(1, requests // PARTS)
    with served(repository) as serving, Clip(serving.address) as clip:
        memory = {0: parts_mb(serving)}
        for done in tqdm(range(0, requests, part), desc="memory", unit=f" x {part} requests"):
            load(lambda n, done=done: mixed(clip, photos, done + n), 16, part)
            memory[done + part] = parts_mb(serving)
    return memory


def parts_mb(serving: Serving) -> Parts:
    """Megabytes of the encoders' processes, and of all the rest."""
    found = {name: size_bytes / 1e6 for name, size_bytes in serving.memory_bytes().items()}
    encoders = {name: mb for name, mb in sorted(found.items()) if name.endswith("_encoder")}
    return encoders | {"the rest": sum(found.values()) - sum(encoders.values())}


def mixed(clip: Clip, photos: Sequence[bytes], n: int) -> object:
    """Request n: a photo, a text of 1 to 60 words, or now and then a batch of 2 to 32 photos."""
    if n % 2:
        return clip.embed_text(work.texts(1, seed=n, words=1 + n % 60))
    return clip.embed_image([photos[(n // 2 + k) % len(photos)] for k in range(2 + n // 40 % 31 if n % 40 == 0 else 1)])


def table(memory: Mapping[int, Parts]) -> Table:
    """After the start, and at a few points of the way."""
    counts = list(memory)
    points = sorted({0, counts[1], *(counts[len(counts) * n // 4] for n in (1, 2, 3)), counts[-1]})
    rows = [[f"after {count:,} requests" if count else "after the start", *whole_and_parts(memory[count])] for count in points]
    highest = max(memory.values(), key=lambda parts: sum(parts.values()))
    return Table(["memory, MB", "in all", *memory[0]], [*rows, ["highest", *whole_and_parts(highest)]])


def whole_and_parts(parts: Parts) -> list[float]:
    """Their sum, and each."""
    return [sum(parts.values()), *parts.values()]


def line(memory: Mapping[int, Parts]) -> Path:
    """Memory over requests."""

    def draw(axes: Axes) -> None:
        for name, values in zip(["in all", *memory[0]], zip(*map(whole_and_parts, memory.values()), strict=True), strict=True):
            axes.plot(list(memory), values, marker=".", label=name)
        highest = max(sum(parts.values()) for parts in memory.values())
        axes.set(xlabel="requests", ylabel="memory of the server, MB", ylim=(0, 1.4 * highest))  # room for the legend

    return plot("memory", draw, height=3.8, legend=True)
