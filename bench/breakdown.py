"""Parts of a request's time: client, network, queue, decode, resize, encode, copies.

    python bench/breakdown.py                        # collages; --photos FOLDER for pictures of yours

Triton's own statistics give the time within the server, the clients' clocks the time around it.
"""

import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import partial
from io import BytesIO
from pathlib import Path
from statistics import median

import numpy as np
from matplotlib.axes import Axes
from PIL import Image

from clip_client import Clip
from clip_client.preprocess import resize, to_rgb
from clip_client.spec import TOWERS, ModelSpec, Tower, ensemble
from lib.checkpoints import checkpoint, exported
from lib.load import Request, load
from lib.options import TURNS, parsed, setting
from lib.plotting import plot
from lib.results import Result, plot_path, publish
from lib.samples import photos
from lib.sdk_requests import sdk_request
from lib.serving import Serving, served
from lib.tables import Table, shown
from lib.triton_work import Work
from lib.turns import answers_in_turns

ORDER = ("client", "network", "queue", "decode", "resize", "crop, hand-over", "tokenise", "encode", "copies")
TITLE = "Where a request's time goes"
NOTES = (
    "Single photos and single texts through Triton: milliseconds of the mean request, the median of several runs. *client* "
    "is the CPU time of the client's thread, which reads, serialises and parses. *queue* is the wait for the previous batch, "
    "*copies* bring tensors into the models. *network* is the rest of the client's time: both ways on the wire, Triton's "
    "own work between the steps, and waiting for a core, since clients and server share them. Triton's clock can't divide "
    "that any further: it stops after the answer has left.",
    "Decoding and resizing are one step of the server. For one client their times are those in a process of their own, and "
    "*crop, hand-over* is the rest of the step; photos of 16 clients are prepared in batches, and their step is divided in "
    "the same proportions. A text tower of OpenVINO tokenises by itself, within *encode*.",
)

PATIENCE_S = 5  # Triton counts a request a little after its answer; seconds are plenty

Parts = dict[str, float]  # milliseconds of each part of a mean request


@dataclass(frozen=True)
class Run:
    """One measurement: single requests for one tower, how many, from how many clients."""

    tower: Tower
    clients: int
    requests: int

    def __str__(self) -> str:
        return f"{self.tower}, {self.clients} client{'s' if self.clients > 1 else ''}"


def main() -> None:
    """Serve, load, divide, publish."""
    options = parsed(__doc__, {"--rounds": (5, TURNS), "--requests": (96, "of each client in one turn")})
    files = [path.read_bytes() for path in photos(options.photos)]
    _, repository = exported(checkpoint(options.model), options.photos)
    runs = [Run(tower, clients, clients * options.requests) for tower in TOWERS for clients in (1, 16)]
    with served(repository) as serving, Clip(serving.address) as clip:
        requests = {tower: sdk_request(clip, tower, files) for tower in TOWERS}
        ways = {run: partial(measured, serving, clip, run, requests[run.tower]) for run in runs}
        measurements = answers_in_turns(ways, options.rounds, "breakdown")
        parts = {run: medians(each) for run, each in measurements.items()}
        decode_and_more = preparation_shares(files, clip.spec, parts[runs[0]]["prepare"])
    shares: dict[Tower, Parts] = {"image": decode_and_more, "text": {"tokenise": 1.0}}
    divided = {run: with_shares(each, shares[run.tower]) for run, each in parts.items()}
    publish(Result("breakdown", TITLE, NOTES, [table(divided)], setting(options), [bars(divided)]))


def measured(serving: Serving, clip: Clip, run: Run, request: Request) -> Parts:
    """Return the parts of one run; their sum is the time that the clients saw."""
    models, before = serving.steps(ensemble(clip.name, run.tower)), serving.work()
    seen = load(request, run.clients, run.requests)
    *prepare, encode = work_since(before, models, run.requests, serving)
    return divide(seen.mean_ms, seen.client_ms, prepare, encode)


def work_since(before: Mapping[str, Work], models: Sequence[str], requests: int, serving: Serving) -> list[Work]:
    """Return the work of each model once Triton has counted all requests; exit if it counts others."""
    deadline = time.monotonic() + PATIENCE_S
    while time.monotonic() < deadline:
        after = serving.work()
        work = [after[model].since(before[model]) for model in models]
        if all(each.requests == requests for each in work):
            return work
        time.sleep(0.01)
    raise SystemExit(f"Triton didn't count {requests} requests in {PATIENCE_S} s: is somebody else using this server?")


def divide(seen_ms: float, client_ms: float, prepare: Sequence[Work], encode: Work) -> Parts:
    """Divide the time that a client saw into parts; the rest is the network's. An encoder may prepare by itself."""
    known = {
        "client": client_ms,
        "queue": sum(each.queue_ms for each in (*prepare, encode)),
        **({"prepare": sum(each.infer_ms for each in prepare)} if prepare else {}),
        "encode": encode.infer_ms,
        "copies": sum(each.input_ms for each in (*prepare, encode)),
    }
    return {**known, "network": seen_ms - sum(known.values())}


def medians(runs: Sequence[Parts]) -> Parts:
    """Return the median of each part over several runs."""
    return {part: median(run[part] for run in runs) for part in runs[0]}


def preparation_shares(files: Sequence[bytes], spec: ModelSpec, step_ms: float) -> Parts:
    """Return the shares of decoding, resizing and the rest in the server's preprocessing, which takes ``step_ms``."""
    decode_ms, resize_ms = (median(turns) for turns in zip(*(preparation_ms(files, spec) for _ in range(5)), strict=True))
    shares = {"decode": decode_ms / step_ms, "resize": resize_ms / step_ms}
    return {**shares, "crop, hand-over": 1 - sum(shares.values())}


def preparation_ms(files: Sequence[bytes], spec: ModelSpec) -> tuple[float, float]:
    """Return milliseconds to decode and to resize a mean photo in this process, by one thread."""
    decode_s = resize_s = 0.0
    for file in files:
        began = time.perf_counter()
        image = to_rgb(Image.open(BytesIO(file)))
        decoded = time.perf_counter()
        resize(image, spec)
        decode_s, resize_s = decode_s + decoded - began, resize_s + time.perf_counter() - decoded
    return 1000 * decode_s / len(files), 1000 * resize_s / len(files)


def with_shares(parts: Parts, shares: Parts) -> Parts:
    """Replace the preparation by its shares."""
    rest = {part: ms for part, ms in parts.items() if part != "prepare"}
    return rest | {part: share * parts["prepare"] for part, share in shares.items() if "prepare" in parts}


def table(parts: Mapping[Run, Parts]) -> Table:
    """Return a row per part, a column per run, the sums below."""
    rows = [[part, *(each.get(part) for each in parts.values())] for part in ORDER]
    return Table(["ms", *map(str, parts)], [*rows, ["in all", *(sum(each.values()) for each in parts.values())]])


def bars(parts: Mapping[Run, Parts]) -> Path:
    """Plot a bar per run, in shares of its time."""
    names = [f"{run}\n{shown(sum(each.values()))} ms" for run, each in parts.items()]

    def draw(axes: Axes) -> None:
        left = np.zeros(len(parts))
        for part in ORDER:
            widths = np.array([100 * each.get(part, 0) / sum(each.values()) for each in parts.values()])
            axes.barh(names, widths, left=left, label=part)
            left += widths
        axes.invert_yaxis()
        axes.set(xlabel="% of the request's time", xlim=(0, 145))  # the legend stands on the right
        axes.set_xticks(range(0, 101, 20))

    return plot(plot_path("breakdown"), draw, height=3.6, legend=True)


if __name__ == "__main__":
    main()
