"""Comparison with other programs for the same work: same checkpoint, same photos, in turns on one machine.

python bench/peers.py                                             # the transformers loop and the engine alone
python bench/peers.py --peers FOLDER --photos FOLDER              # and clip-retrieval and infinity

FOLDER/clip-retrieval and FOLDER/infinity are virtual environments, one with clip-retrieval 2.45, one with
infinity-emb[server,torch,vision] 0.0.78 and aiohttp; one that is absent is skipped.
"""

import contextlib
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from functools import partial
from itertools import cycle, islice
from pathlib import Path
from statistics import median

import numpy as np

from clip_client import Clip
from clip_client.spec import TOWERS, Tower
from clip_export.variants.base import Encoder
from lib.checkpoints import VARIANT, checkpoint, encoder, exported
from lib.clip_retrieval import Inference, Vectors
from lib.engine_alone import BATCH, embedded
from lib.infinity import Infinity, infinity
from lib.load import Load, Request, load, median_ms, median_per_s
from lib.options import TURNS, parsed, setting
from lib.other_programs import program_path
from lib.results import Result, publish
from lib.samples import photos, texts
from lib.sdk_requests import sdk_request
from lib.serving import served
from lib.tables import Cell, Table
from lib.torch_loop import LOOP, TorchLoop
from lib.turns import answers_in_turns

TEXTS = 20_000
OURS, TRITON, ENGINE = "clipserve", "clipserve through Triton", "the same engine in this process"
CLIP_RETRIEVAL, INFINITY = "clip-retrieval inference", "infinity"
LOOP_PHOTOS = 48  # the loop is slow: these take seconds
REQUESTS: dict[Tower, dict[int, int]] = {"image": {1: 48, 16: 160}, "text": {1: 96, 16: 480}}
NOTES = (
    f"All embed with the same checkpoint, clipserve in {VARIANT}, the others in float32, as they do out of the box. In bulk: "
    f"from JPEG files to embeddings. clipserve's client sends {BATCH} photos a request; *the same engine in this process* runs "
    f"the same preprocessing and encoder on the same batches without a server; clip-retrieval (batches of {BATCH}) is timed by "
    "its own clock, without its start and the loading of the checkpoint.",
    "Single requests: one photo or one text each, over HTTP to infinity (bodies made beforehand) and through the SDK to "
    "clipserve; no text is sent twice. Each server is idle outside its turns. *×* is our throughput divided by infinity's, "
    "*share* our median latency divided by infinity's.",
)


@dataclass(frozen=True)
class Bulk:
    """Photos embedded in one go: how many a second, and float32 [N, D]."""

    per_s: float
    vectors: Vectors


@dataclass(frozen=True)
class Single:
    """Single requests for one tower to one server, from a number of clients."""

    server: str
    tower: Tower
    clients: int


def main() -> None:
    """Measure in bulk, then single requests; publish."""
    options = parsed(__doc__, {"--rounds": (5, TURNS), "--count": (256, "photos in bulk in one turn")}, peers=True)
    model, files = checkpoint(options.model), photos(options.photos)
    artifacts, repository = exported(model, options.photos)
    with served(repository) as serving, Clip(serving.address) as clip:
        many = [*islice(cycle(files), options.count)]
        ways = in_bulk(clip, encoder(artifacts, VARIANT, "image"), model, many, options.peers)
        bulk = answers_in_turns(ways, options.rounds, "photos in bulk")
        with singles(clip, model, [file.read_bytes() for file in files], options.peers) as runs:
            single = answers_in_turns(runs, options.rounds, "single requests")
    tables = [bulk_table(bulk), single_table(single)]
    conditions = setting(options) | {"peers": installed(options.peers) if options.peers else []}
    publish(Result("peers", "Beside other programs", NOTES, tables, conditions))


def installed(peers: Path) -> list[str]:
    """Return the other programs with their versions, e.g. ``infinity_emb-0.0.78``, from pip's records."""
    folders = sorted(peers.glob("*/lib/python*/site-packages/*.dist-info"))
    return [folder.stem for folder in folders if folder.name.startswith(("clip_retrieval-", "infinity_emb-"))]


def in_bulk(
    clip: Clip, encode: Encoder, model: str, files: Sequence[Path], peers: Path | None
) -> dict[str, Callable[[], Bulk]]:
    """Return the ways: ours with a server and without, the loop of notebooks, clip-retrieval if it is installed."""
    few = files[:LOOP_PHOTOS]
    loop = TorchLoop(model, few)
    ways: dict[str, Callable[[], Bulk]] = {
        TRITON: lambda: timed(len(files), lambda: clip.embed_image(files)),
        ENGINE: lambda: timed(len(files), lambda: embedded(encode, clip.spec, files)),
        LOOP: lambda: timed(len(few), loop),
    }
    if program := program_path(peers, "clip-retrieval", "clip-retrieval"):
        ways[CLIP_RETRIEVAL] = lambda: by_clip_retrieval(Inference(program, model), files)
    return ways


def timed(count: int, embed: Callable[[], Vectors]) -> Bulk:
    """Embed ``count`` photos, by our clock."""
    start = time.perf_counter()
    vectors = embed()
    return Bulk(count / (time.perf_counter() - start), vectors)


def by_clip_retrieval(program: Inference, files: Sequence[Path]) -> Bulk:
    """Embed photos, by the program's own clock."""
    seconds, vectors = program.embed(files)
    return Bulk(len(files) / seconds, vectors)


@contextlib.contextmanager
def singles(
    clip: Clip, model: str, pictures: Sequence[bytes], peers: Path | None
) -> Iterator[dict[Single, Callable[[], Load]]]:
    """Give the runs of our server, and of infinity if it is installed; each is idle outside its turns."""
    requests: dict[str, dict[Tower, Request]] = {OURS: {tower: sdk_request(clip, tower, pictures) for tower in TOWERS}}
    with contextlib.ExitStack() as stack:
        if program := program_path(peers, INFINITY, "infinity_emb"):
            server = stack.enter_context(infinity(program, model, max(REQUESTS["image"])))
            requests[INFINITY] = infinity_requests(server, pictures)
        runs = [Single(name, tower, clients) for tower in TOWERS for clients in REQUESTS[tower] for name in requests]
        yield {
            run: partial(load, requests[run.server][run.tower], run.clients, REQUESTS[run.tower][run.clients]) for run in runs
        }


def infinity_requests(server: Infinity, pictures: Sequence[bytes]) -> dict[Tower, Request]:
    """Return single requests over infinity's HTTP; bodies are made beforehand."""
    bodies = [server.body("image", picture) for picture in pictures]
    unsent = cycle([server.body("text", text) for text in texts(TEXTS)])
    return {"image": lambda n: server.embed(bodies[n % len(bodies)]), "text": lambda _: server.embed(next(unsent))}


def bulk_table(runs: Mapping[str, Sequence[Bulk]]) -> Table:
    """Return photos a second of each way, and the cosine of its embeddings to the loop's."""
    per_s = {way: median(run.per_s for run in each) for way, each in runs.items()}
    reference = runs[LOOP][-1].vectors
    cosines = {way: np.mean(np.sum(each[-1].vectors[: len(reference)] * reference, axis=1)) for way, each in runs.items()}
    rows = [[way, per_s[way], per_s[TRITON] / per_s[way], float(cosines[way])] for way in runs]
    return Table(["photos in bulk", "photos/s", "clipserve is × as fast", "cosine to transformers"], rows)


def single_table(runs: Mapping[Single, Sequence[Load]]) -> Table:
    """Return a row per tower and number of clients: ours, infinity's, ratios."""
    rows = [single_row(run, each, runs.get(replace(run, server=INFINITY))) for run, each in runs.items() if run.server == OURS]
    columns = ["single requests", "clients", "clipserve, a second", "infinity", "×", "clipserve, p50 ms", "infinity", "share"]
    return Table(columns, rows)


def single_row(run: Single, ours: Sequence[Load], theirs: Sequence[Load] | None) -> list[Cell]:
    """Return throughput and median latency; dashes without infinity."""
    per_s, p50_ms = median_per_s(ours), median_ms(ours, 50)
    if theirs is None:
        return [f"{run.tower}s", run.clients, per_s, None, None, p50_ms, None, None]
    their_per_s, their_p50_ms = median_per_s(theirs), median_ms(theirs, 50)
    times, share = per_s / their_per_s, p50_ms / their_p50_ms
    return [f"{run.tower}s", run.clients, per_s, their_per_s, times, p50_ms, their_p50_ms, share]


if __name__ == "__main__":
    main()
