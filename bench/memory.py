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
from serving import served

PARTS = 40
NOTE = (
    "Memory is what is resident of the launcher, Triton and its Python processes with both towers (pages that they share are "
    "counted once) while 16 clients send photos and texts of 1 to 60 words in equal parts, one request of photos in twenty a "
    "batch of 2 to 32."
)


def over(requests: int, repository: Path, photos: Sequence[bytes]) -> dict[int, float]:
    """Megabytes of a new server by the number of requests that it has answered."""
    part = max(1, requests // PARTS)
    with served(repository) as serving, Clip(serving.address) as clip:
        memory_mb = {0: serving.memory_bytes() / 1e6}
        for done in tqdm(range(0, requests, part), desc="memory", unit=f" x {part} requests"):
            load(lambda n, done=done: mixed(clip, photos, done + n), 16, part)
            memory_mb[done + part] = serving.memory_bytes() / 1e6
    return memory_mb


def mixed(clip: Clip, photos: Sequence[bytes], n: int) -> object:
    """Request n: a photo, a text of 1 to 60 words, or now and then a batch of 2 to 32 photos."""
    if n % 2:
        return clip.embed_text(work.texts(1, seed=n, words=1 + n % 60))
    return clip.embed_image([photos[(n // 2 + k) % len(photos)] for k in range(2 + n // 40 % 31 if n % 40 == 0 else 1)])


def table(memory_mb: Mapping[int, float]) -> Table:
    """After the start, and at a few points of the way."""
    counts = list(memory_mb)
    points = sorted({0, counts[1], *(counts[len(counts) * n // 4] for n in (1, 2, 3)), counts[-1]})
    rows = [[f"after {count:,} requests" if count else "after the start", memory_mb[count]] for count in points]
    return Table(["memory of the server", "MB"], [*rows, ["highest", max(memory_mb.values())]])


def line(memory_mb: Mapping[int, float]) -> Path:
    """Memory over requests."""

    def draw(axes: Axes) -> None:
        axes.plot(list(memory_mb), list(memory_mb.values()), marker=".")
        axes.set(xlabel="requests", ylabel="memory of the server, MB", ylim=0)

    return plot("memory", draw, height=3.2)
