"""Where a request's time goes: client, network, queue, decode, resize, encode, copies.

    python bench/breakdown.py                        # collages; --photos FOLDER for pictures of yours

Triton's own statistics tell the time within the server, the clients' clocks the time around it.
"""

from __future__ import annotations

import argparse
import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import partial
from io import BytesIO
from pathlib import Path
from statistics import median
from typing import Any

import numpy as np
from matplotlib.axes import Axes
from PIL import Image

import work
from clip_client import Clip
from clip_client.preprocess import resize, to_rgb
from clip_client.spec import ModelSpec, Tower, ensemble
from load import Request, load
from measuring import answers_in_turns
from plotting import plot
from results import Result, Table, publish, shown
from serving import Serving, served

VARIANT = "openvino-int8"
PREPARE: dict[Tower, str] = {"image": "preprocess", "text": "tokenize"}
ORDER = ("client", "network", "queue", "decode", "resize", "crop, hand-over", "tokenise", "encode", "copies")
TITLE = "Where a request's time goes"
NOTES = (
    "Single photos and single texts through Triton: milliseconds of the mean request, of several runs the middle one. *client* "
    "is the CPU time of the client's thread, which reads, serialises and parses. *queue* is the wait for the batch before, "
    "*copies* bring tensors into the models. *network* is what is left of the client's time: both ways on the wire, Triton's "
    "own work between the steps, and waiting for a core, since clients and server share them. Triton's clock can't divide "
    "that any further: it runs on until after the answer has left.",
    "Decoding and resizing are one step of the server. For one client they are what they take in a process of their own, and "
    "*crop, hand-over* is what the step takes beyond; photos of 16 clients are prepared in batches, and their step is divided "
    "in the same proportions.",
)

PATIENCE_S = 5
"""How long the last requests may take to be counted."""

Parts = dict[str, float]
"""Milliseconds of each part of a mean request."""


@dataclass(frozen=True)
class Stay:
    """Milliseconds that a mean request spends in one of Triton's models.

    Neither the statistics' ``success`` nor their ``compute_output`` are part of it: both include sending the answer, and may
    end when the client has long had it.
    """

    queue_ms: float
    input_ms: float
    infer_ms: float

    @classmethod
    def between(cls, before: Mapping[str, Any], after: Mapping[str, Any]) -> Stay:
        """From two readings of a model's statistics."""
        earlier, later = before["inference_stats"], after["inference_stats"]
        count = later["success"]["count"] - earlier["success"]["count"]
        spent_ns = [later[part]["ns"] - earlier[part]["ns"] for part in ("queue", "compute_input", "compute_infer")]
        return cls(*(ns / count / 1e6 for ns in spent_ns))


@dataclass(frozen=True)
class Run:
    """What is measured: single requests for one tower, so many of them, from so many clients."""

    tower: Tower
    clients: int
    requests: int

    def __str__(self) -> str:
        return f"{self.tower}, {self.clients} client{'s' if self.clients > 1 else ''}"


def main() -> None:
    """Serve, load, divide, publish."""
    options = parser().parse_args()
    photos = [path.read_bytes() for path in work.photos(options.photos)]
    _, repository = work.exported(work.checkpoint(options.model), options.photos, [VARIANT])
    runs = [Run(tower, clients, clients * options.requests) for tower in PREPARE for clients in (1, 16)]
    with served(repository) as serving, Clip(serving.address) as clip:
        requests = single_requests(clip, photos)
        ways = {run: partial(measured, serving, clip, run, requests[run.tower]) for run in runs}
        found = {run: medians(each) for run, each in answers_in_turns(ways, options.rounds, "breakdown").items()}
        decode_and_more = preparation_shares(photos, clip.spec, found[runs[0]]["prepare"])
    shares: dict[Tower, Parts] = {"image": decode_and_more, "text": {"tokenise": 1.0}}
    divided = {run: named(each, shares[run.tower]) for run, each in found.items()}
    publish(Result("breakdown", TITLE, NOTES, [table(divided)], work.setting(options), [bars(divided)]))


def single_requests(clip: Clip, photos: Sequence[bytes]) -> dict[Tower, Request]:
    """What a client of each tower asks for; no text comes twice."""
    texts = iter(work.texts(1_000_000))
    return {"image": lambda n: clip.embed_image(photos[n % len(photos)]), "text": lambda _: clip.embed_text(next(texts))}


def measured(serving: Serving, clip: Clip, run: Run, request: Request) -> Parts:
    """One run's parts; they add up to what the clients saw."""
    whole = ensemble(clip.name, run.tower)
    models = (f"{whole}_{PREPARE[run.tower]}", f"{whole}_encoder")
    before = serving.statistics()
    done = load(request, run.clients, run.requests)
    after = statistics_since(before, models, run.requests, serving)
    return parts(done.mean_ms, done.client_ms, *(Stay.between(before[name], after[name]) for name in models))


def statistics_since(before: Mapping[str, Any], models: Sequence[str], requests: int, serving: Serving) -> dict[str, Any]:
    """The statistics once they hold all of these requests: Triton counts a request a little after its answer."""
    deadline = time.monotonic() + PATIENCE_S
    while time.monotonic() < deadline:
        after = serving.statistics()
        if all(answered(after, name) - answered(before, name) == requests for name in models):
            return after
        time.sleep(0.01)
    raise SystemExit(f"Triton didn't count {requests} requests in {PATIENCE_S} s: is somebody else using this server?")


def answered(statistics: Mapping[str, Any], model: str) -> int:
    """Requests that the model has answered since the server's start."""
    return int(statistics[model]["inference_stats"]["success"]["count"])


def parts(seen_ms: float, client_ms: float, prepare: Stay, encode: Stay) -> Parts:
    """Divide the time that a client saw among those who had its request."""
    known = {
        "client": client_ms,
        "queue": prepare.queue_ms + encode.queue_ms,
        "prepare": prepare.infer_ms,
        "encode": encode.infer_ms,
        "copies": prepare.input_ms + encode.input_ms,
    }
    return {**known, "network": seen_ms - sum(known.values())}


def medians(runs: Sequence[Parts]) -> Parts:
    """Of several runs, the middle one of each part."""
    return {part: median(run[part] for run in runs) for part in runs[0]}


def preparation_shares(photos: Sequence[bytes], spec: ModelSpec, step_ms: float) -> Parts:
    """Shares of decode, resize and the rest in the server's step, which takes so long for one client."""
    decode_ms, resize_ms = (median(turns) for turns in zip(*(preparation_ms(photos, spec) for _ in range(5)), strict=True))
    shares = {"decode": decode_ms / step_ms, "resize": resize_ms / step_ms}
    return {**shares, "crop, hand-over": 1 - sum(shares.values())}


def preparation_ms(photos: Sequence[bytes], spec: ModelSpec) -> tuple[float, float]:
    """Milliseconds to decode and to resize a mean photo in this process, by one thread."""
    decode_s = resize_s = 0.0
    for photo in photos:
        began = time.perf_counter()
        image = to_rgb(Image.open(BytesIO(photo)))
        decoded = time.perf_counter()
        resize(image, spec)
        decode_s, resize_s = decode_s + decoded - began, resize_s + time.perf_counter() - decoded
    return 1000 * decode_s / len(photos), 1000 * resize_s / len(photos)


def named(found: Parts, shares: Parts) -> Parts:
    """The first step under its name, or divided into the parts it has."""
    ms = dict(found)
    prepare_ms = ms.pop("prepare")
    return ms | {part: share * prepare_ms for part, share in shares.items()}


def table(found: Mapping[Run, Parts]) -> Table:
    """A row per part, a column per run, the sums below."""
    rows = [[part, *(parts.get(part) for parts in found.values())] for part in ORDER]
    return Table(["ms", *map(str, found)], [*rows, ["in all", *(sum(parts.values()) for parts in found.values())]])


def bars(found: Mapping[Run, Parts]) -> Path:
    """A bar per run, in shares of its time."""
    names = [f"{run}\n{shown(sum(parts.values()))} ms" for run, parts in found.items()]

    def draw(axes: Axes) -> None:
        left = np.zeros(len(found))
        for part in ORDER:
            widths = np.array([100 * parts.get(part, 0) / sum(parts.values()) for parts in found.values()])
            axes.barh(names, widths, left=left, label=part)
            left += widths
        axes.invert_yaxis()
        axes.set(xlabel="% of the request's time", xlim=(0, 145))  # the legend stands on the right
        axes.set_xticks(range(0, 101, 20))

    return plot("breakdown", draw, height=3.6, legend=True)


def parser() -> argparse.ArgumentParser:
    """The options."""
    made = work.parser(__doc__)
    made.add_argument("--rounds", type=int, default=5, metavar="N", help="turns of each (default: %(default)s)")
    made.add_argument("--requests", type=int, default=96, metavar="N", help="of each client in one turn (default: %(default)s)")
    return made


if __name__ == "__main__":
    main()
