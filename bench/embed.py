"""Photos embedded in bulk into files, beside clip-retrieval's inference: same checkpoint, same photos, in turns.

    python bench/embed.py --peers FOLDER --photos FOLDER

FOLDER/clip-retrieval is a virtual environment with clip-retrieval 2.45; without it the bench measures ours alone.
"""

import json
import shutil
import tarfile
import tempfile
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from functools import partial
from itertools import cycle, islice
from pathlib import Path
from statistics import median

from clip_client import ModelSpec
from clip_client.spec import SPEC_FILE
from clip_export.variants.base import Encoder
from lib.checkpoints import VARIANT, checkpoint, encoder, exported
from lib.clip_retrieval import Inference
from lib.engine_alone import embedded
from lib.options import TURNS, parsed, setting
from lib.other_programs import program_path
from lib.results import Result, publish
from lib.samples import photos
from lib.serving import CLIPSERVE, served
from lib.tables import Cell, Table
from lib.turns import answers_in_turns
from lib.watched import watched

SHARDS = 4
ENGINE = "the engine alone, in one process"
THEIRS = {"files": "clip-retrieval inference, files", "webdataset": "clip-retrieval inference, webdataset"}
THEIR_SHARE = 16  # of our photos, one in so many is theirs: a turn of theirs takes as long as all of ours
NOTE = (
    f"From JPEG files, or the same in {SHARDS} shards of webdataset, to files in clip-retrieval's layout. clipserve computes "
    f"in {VARIANT}, clip-retrieval in float32, as each does out of the box. Photos a second are by each program's own clock, "
    "without its start (clip-retrieval's leaves out the loading of the checkpoint, too). *The engine alone* preprocesses the "
    "photos of a batch on all cores, then encodes it. CPU time and memory are those of all processes, start included; what "
    "processes share counts for each."
)


@dataclass(frozen=True)
class Bulk:
    """Run over all photos: how many a second, CPU milliseconds of a photo, most memory; None where that isn't measured."""

    per_s: float
    cpu_ms: float | None = None
    peak_mb: float | None = None


def main() -> None:
    """Measure; publish."""
    options = parsed(__doc__, {"--rounds": (3, TURNS), "--count": (4096, "photos in one turn of ours")}, peers=True)
    model, files = checkpoint(options.model), photos(options.photos)
    artifacts, repository = exported(model, options.photos)
    with tempfile.TemporaryDirectory() as name, served(repository) as serving:
        folder = Path(name)
        inputs = written(folder, [*islice(cycle(files), options.count)])
        spec = ModelSpec.load(artifacts / VARIANT / "image" / SPEC_FILE)
        ways = ours(folder, inputs, repository, serving.address)
        ways |= alone(encoder(artifacts, VARIANT, "image"), spec, sorted(inputs["files"].glob("*.jpg")))
        if program := program_path(options.peers, "clip-retrieval", "clip-retrieval"):
            ways |= theirs(Inference(program, model), folder, [*islice(cycle(files), options.count // THEIR_SHARE)])
        runs = answers_in_turns(ways, options.rounds, "photos in bulk")
    publish(Result("embed", "Bulk embedding", [NOTE], [table(runs)], setting(options)))


def written(folder: Path, files: Sequence[Path]) -> dict[str, Path]:
    """Write photos as a folder of files and as shards; return the folders."""
    inputs = {"files": folder / f"files-{len(files)}", "webdataset": folder / f"shards-{len(files)}"}
    for path in inputs.values():
        path.mkdir()
    for n, file in enumerate(files):
        shutil.copy(file, inputs["files"] / f"{n:06}.jpg")
    for shard in range(SHARDS):
        with tarfile.open(inputs["webdataset"] / f"{shard:05}.tar", "w") as tar:
            for n in range(shard, len(files), SHARDS):
                tar.add(files[n], f"{n:06}.jpg")
    return inputs


def ours(folder: Path, inputs: Mapping[str, Path], repository: Path, address: str) -> dict[str, Callable[[], Bulk]]:
    """Return our ways."""
    local = ["--repository", str(repository)]
    engines = {"local": local, "Triton": ["--engine", "triton", "--address", address]}
    engines |= {f"Ray, {n} workers": ["--engine", "ray", "--workers", str(n), *local] for n in (1, 2)}
    ways = {("files", "local"): engines["local"]} | {("webdataset", name): flags for name, flags in engines.items()}
    return {
        f"clipserve embed, {kind}, {name}": partial(by_clipserve, folder / "out", inputs[kind], flags)
        for (kind, name), flags in ways.items()
    }


def by_clipserve(output: Path, source: Path, flags: Sequence[str]) -> Bulk:
    """Embed an input."""
    shutil.rmtree(output, ignore_errors=True)
    run = watched([CLIPSERVE, "embed", source, output, "--json", *flags])
    books = json.loads(run.output)
    return Bulk(books["items"] / books["seconds"], 1000 * run.cpu_s / books["items"], run.peak_mb)


def alone(encode: Encoder, spec: ModelSpec, files: Sequence[Path]) -> dict[str, Callable[[], Bulk]]:
    """Return the engine's own pace."""

    def run() -> Bulk:
        start = time.perf_counter()
        embedded(encode, spec, files)
        return Bulk(len(files) / (time.perf_counter() - start))

    return {ENGINE: run}


def theirs(program: Inference, folder: Path, files: Sequence[Path]) -> dict[str, Callable[[], Bulk]]:
    """Return clip-retrieval's ways."""
    inputs = written(folder, files)

    def run(kind: str) -> Bulk:
        seconds, used = program.timed(kind, inputs[kind], len(files))
        return Bulk(len(files) / seconds, 1000 * used.cpu_s / len(files), used.peak_mb)

    return {name: partial(run, kind) for kind, name in THEIRS.items()}


def table(runs: Mapping[str, Sequence[Bulk]]) -> Table:
    """Return a row for each way; medians, shares within this run."""
    per_s = {name: median(run.per_s for run in each) for name, each in runs.items()}
    rows: list[list[Cell]] = []
    for name, each in runs.items():
        their = per_s.get(THEIRS["files" if ", files" in name else "webdataset"])
        cpu_ms = None if each[0].cpu_ms is None else median(run.cpu_ms or 0 for run in each)
        peak_mb = None if each[0].peak_mb is None else max(run.peak_mb or 0 for run in each)
        rows.append([name, per_s[name], per_s[name] / per_s[ENGINE], per_s[name] / their if their else None, cpu_ms, peak_mb])
    return Table(["photos in bulk", "photos/s", "of the engine", "× clip-retrieval", "CPU ms a photo", "most MB"], rows)


if __name__ == "__main__":
    main()
