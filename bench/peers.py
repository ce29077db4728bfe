"""Beside other programs for the same work: same checkpoint, same photos, in turns on one machine.

python bench/peers.py                                             # the transformers loop and the engine alone
python bench/peers.py --peers FOLDER --photos FOLDER              # and clip-retrieval and infinity

FOLDER/clip-retrieval and FOLDER/infinity are virtual environments, one with clip-retrieval 2.45, one with
infinity-emb[server,torch,vision] 0.0.78 and aiohttp; one that is absent is skipped.
"""

from __future__ import annotations

import argparse
import contextlib
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, replace
from functools import partial
from itertools import cycle, islice
from pathlib import Path
from statistics import median

import numpy as np

from clip_client import Clip, ModelSpec
from clip_client.preprocess import preprocess
from clip_client.spec import TOWERS, Tower
from clip_export import hardware
from clip_export.variants.base import Encoder
from load import Load, Request, load, median_ms, median_per_s
from measuring import answers_in_turns
from programs import ClipRetrieval, Infinity, Vectors, infinity
from results import Cell, Result, Table, publish
from serving import served
from variants import TorchLoop
from work import checkpoint, encoder, exported, parser, photos, setting, texts

VARIANT, BATCH, TEXTS = "openvino-int8", 32, 20_000
OURS, TRITON, ENGINE = "clipserve", "clipserve through Triton", "the same engine in this process"
LOOP, CLIP_RETRIEVAL, INFINITY = "transformers + torch, one by one", "clip-retrieval inference", "infinity"
LOOP_PHOTOS = 48  # the loop is slow enough to be timed over so many
REQUESTS: dict[Tower, dict[int, int]] = {"image": {1: 48, 16: 160}, "text": {1: 96, 16: 480}}
NOTES = (
    f"All embed with the same checkpoint, clipserve in {VARIANT}, the others in float32, as they do out of the box. In bulk: "
    f"from JPEG files to embeddings. clipserve's client sends {BATCH} photos a request; *the same engine in this process* runs "
    f"the same preprocessing and encoder on the same batches without a server; clip-retrieval (batches of {BATCH}) is timed by "
    "its own clock, without its start and the loading of the checkpoint.",
    "Single requests: one photo or one text each, over HTTP to infinity (bodies made beforehand) and through the SDK to "
    "clipserve; no text is sent twice. The server that isn't asked is idle. *×* is how many times the throughput, *share* is "
    "ours of its median latency.",
)


@dataclass(frozen=True)
class Bulk:
    """Photos embedded in one go: how many a second, and float32 [N, D]."""

    per_s: float
    vectors: Vectors


@dataclass(frozen=True)
class Single:
    """A server under single requests for one tower, from so many clients."""

    server: str
    tower: Tower
    clients: int


def main() -> None:
    """In bulk first, then single requests."""
    options = parsed()
    model, files = checkpoint(options.model), photos(options.photos)
    artifacts, repository = exported(model, options.photos, [VARIANT])
    with served(repository) as serving, Clip(serving.address) as clip:
        many = [*islice(cycle(files), options.count)]
        ways = in_bulk(clip, encoder(artifacts, VARIANT, "image"), model, many, options.peers)
        bulk = answers_in_turns(ways, options.rounds, "photos in bulk")
        with singles(clip, model, [file.read_bytes() for file in files], options.peers) as runs:
            single = answers_in_turns(runs, options.rounds, "single requests")
    tables = [bulk_table(bulk), single_table(single)]
    where = setting(options) | {"peers": installed(options.peers) if options.peers else []}
    publish(Result("peers", "Beside other programs", NOTES, tables, where))


def parsed() -> argparse.Namespace:
    """The options."""
    made = parser(__doc__)
    made.add_argument("--peers", type=Path, metavar="FOLDER", help="environments of the other programs")
    made.add_argument("--count", type=int, default=256, help="photos in bulk in one turn (default: %(default)s)")
    made.add_argument("--rounds", type=int, default=5, help="turns of each (default: %(default)s)")
    return made.parse_args()


def installed(peers: Path) -> list[str]:
    """The other programs with their versions, e.g. ``infinity_emb-0.0.78``, from what pip wrote beside them."""
    folders = sorted(peers.glob("*/lib/python*/site-packages/*.dist-info"))
    return [folder.stem for folder in folders if folder.name.startswith(("clip_retrieval-", "infinity_emb-"))]


def found(peers: Path | None, environment: str, program: str) -> Path | None:
    """A program of an environment; a line says so if it isn't there."""
    path = peers / environment / "bin" / program if peers else None
    if path and path.exists():
        return path.absolute()
    print(f"{environment} is skipped: " + (f"there is no {path}" if path else "no --peers FOLDER was given"), flush=True)
    return None


def in_bulk(
    clip: Clip, encode: Encoder, model: str, files: Sequence[Path], peers: Path | None
) -> dict[str, Callable[[], Bulk]]:
    """Ours through the server and without it, the loop of notebooks, and clip-retrieval if it is there."""
    few = files[:LOOP_PHOTOS]
    loop = TorchLoop(model, few)
    ways: dict[str, Callable[[], Bulk]] = {
        TRITON: lambda: timed(len(files), lambda: clip.embed_image(files)),
        ENGINE: lambda: timed(len(files), lambda: in_this_process(encode, clip.spec, files)),
        LOOP: lambda: timed(len(few), loop),
    }
    if program := found(peers, "clip-retrieval", "clip-retrieval"):
        ways[CLIP_RETRIEVAL] = lambda: by_clip_retrieval(ClipRetrieval(program, model), files)
    return ways


def timed(count: int, embed: Callable[[], Vectors]) -> Bulk:
    """Embed so many photos, by our clock."""
    start = time.perf_counter()
    vectors = embed()
    return Bulk(count / (time.perf_counter() - start), vectors)


def in_this_process(encode: Encoder, spec: ModelSpec, files: Sequence[Path]) -> Vectors:
    """Batch after batch: photos prepared by as many threads as there are cores, then encoded together."""
    batches = [files[start : start + BATCH] for start in range(0, len(files), BATCH)]
    with ThreadPoolExecutor(hardware.cores()) as pool:
        prepared = (list(pool.map(lambda file: preprocess(file.read_bytes(), spec), batch)) for batch in batches)
        return np.concatenate([encode(np.stack(pixels)) for pixels in prepared])


def by_clip_retrieval(program: ClipRetrieval, files: Sequence[Path]) -> Bulk:
    """Embed them, by its own clock."""
    seconds, vectors = program.embed(files)
    return Bulk(len(files) / seconds, vectors)


@contextlib.contextmanager
def singles(
    clip: Clip, model: str, pictures: Sequence[bytes], peers: Path | None
) -> Iterator[dict[Single, Callable[[], Load]]]:
    """Single requests to ours, and to infinity if it is there; whichever isn't asked has nothing to do."""
    requests = {OURS: our_requests(clip, pictures)}
    with contextlib.ExitStack() as stack:
        if program := found(peers, INFINITY, "infinity_emb"):
            server = stack.enter_context(infinity(program, model, max(REQUESTS["image"])))
            requests[INFINITY] = infinity_requests(server, pictures)
        runs = [Single(name, tower, clients) for tower in TOWERS for clients in REQUESTS[tower] for name in requests]
        yield {
            run: partial(load, requests[run.server][run.tower], run.clients, REQUESTS[run.tower][run.clients]) for run in runs
        }


def our_requests(clip: Clip, pictures: Sequence[bytes]) -> dict[Tower, Request]:
    """One photo, or a text that wasn't sent before, through the SDK."""
    unsent = cycle(texts(TEXTS))
    return {"image": lambda n: clip.embed_image(pictures[n % len(pictures)]), "text": lambda _: clip.embed_text(next(unsent))}


def infinity_requests(server: Infinity, pictures: Sequence[bytes]) -> dict[Tower, Request]:
    """The same over its HTTP; bodies are made beforehand."""
    bodies = [server.body("image", picture) for picture in pictures]
    unsent = cycle([server.body("text", text) for text in texts(TEXTS)])
    return {"image": lambda n: server.embed(bodies[n % len(bodies)]), "text": lambda _: server.embed(next(unsent))}


def bulk_table(runs: Mapping[str, Sequence[Bulk]]) -> Table:
    """Photos a second of each way, and how near its embeddings are to the loop's."""
    per_s = {way: median(run.per_s for run in each) for way, each in runs.items()}
    reference = runs[LOOP][-1].vectors
    cosines = {way: np.mean(np.sum(each[-1].vectors[: len(reference)] * reference, axis=1)) for way, each in runs.items()}
    rows = [[way, per_s[way], per_s[TRITON] / per_s[way], float(cosines[way])] for way in runs]
    return Table(["photos in bulk", "photos/s", "clipserve is × as fast", "cosine to transformers"], rows)


def single_table(runs: Mapping[Single, Sequence[Load]]) -> Table:
    """A row per tower and number of clients: ours, infinity's, ratios."""
    rows = [single_row(run, each, runs.get(replace(run, server=INFINITY))) for run, each in runs.items() if run.server == OURS]
    columns = ["single requests", "clients", "clipserve, a second", "infinity", "×", "clipserve, p50 ms", "infinity", "share"]
    return Table(columns, rows)


def single_row(run: Single, ours: Sequence[Load], theirs: Sequence[Load] | None) -> list[Cell]:
    """Throughput and median latency; a dash for what wasn't measured."""
    per_s, p50_ms = median_per_s(ours), median_ms(ours, 50)
    if theirs is None:
        return [f"{run.tower}s", run.clients, per_s, None, None, p50_ms, None, None]
    their_per_s, their_p50_ms = median_per_s(theirs), median_ms(theirs, 50)
    times, share = per_s / their_per_s, p50_ms / their_p50_ms
    return [f"{run.tower}s", run.clients, per_s, their_per_s, times, p50_ms, their_p50_ms, share]


if __name__ == "__main__":
    main()
