"""Ways from an encoded file to pixels: milliseconds, and the distance of pixels and embeddings to the hub's own.

python bench/preprocessing.py
python bench/preprocessing.py --model openai/clip-vit-base-patch32 --photos FOLDER
"""

import argparse
import io
from collections.abc import Mapping, Sequence

import numpy as np
import numpy.typing as npt
import torch
from PIL import Image

from clip_client import ModelSpec
from clip_export.evaluation.gate import embed
from clip_export.evaluation.retrieval import Embeddings
from lib.checkpoints import checkpoint, loaded
from lib.options import TURNS, parsed, setting
from lib.plotting import bars
from lib.preprocessing_ways import ORIGINAL, Way, as_pixels, missing, ways
from lib.results import Result, plot_path, publish
from lib.samples import collage, photos
from lib.tables import Cell, Table
from lib.turns import Work, in_turns

SEED = 0

Pixels = npt.NDArray[np.uint8]


def main() -> None:
    """Make the files, time, embed, compare."""
    options = parsed(__doc__, {"--rounds": (15, TURNS), "--count": (24, "photos")})
    model = checkpoint(options.model)
    towers = loaded(model)
    installed, encode = ways(towers.spec, model), towers.encoder("image")
    works = workloads(options)
    timings = {workload: one_threaded(installed, files, options.rounds, workload) for workload, files in works.items()}
    pixels = {workload: prepared(installed, files, towers.spec) for workload, files in works.items()}
    embeddings = {workload: {name: embed(encode, batch) for name, batch in each.items()} for workload, each in pixels.items()}
    tables = [table(workload, timings[workload], pixels[workload], embeddings[workload]) for workload in works]
    publish(result(tables, timings, embeddings, options))


def workloads(options: argparse.Namespace) -> dict[str, list[bytes]]:
    """Return encoded files: a large drawing with transparency, one photo-like picture, and photos."""
    draw = np.random.default_rng(SEED)
    drawing, picture = collage(draw, (2162, 762)), collage(draw, (640, 425))
    drawing.putalpha(Image.fromarray(draw.integers(0, 256, (24, 68), np.uint8)).resize(drawing.size))
    files = [path.read_bytes() for path in photos(options.photos)[: options.count]]
    return {
        "PNG 2162 × 762, RGBA": [encoded(drawing, "PNG")],
        "JPEG 640 × 425": [encoded(picture, "JPEG")],
        f"{len(files)} photos, each": files,
    }


def encoded(image: Image.Image, kind: str) -> bytes:
    """Return the bytes of a file."""
    file = io.BytesIO()
    image.save(file, kind, quality=90)
    return file.getvalue()


def one_threaded(installed: Mapping[str, Way], files: Sequence[bytes], rounds: int, workload: str) -> dict[str, float]:
    """Return milliseconds a file; each way goes through all files in its turn."""
    threads = torch.get_num_threads()
    torch.set_num_threads(1)
    timings = in_turns({name: through(way, files) for name, way in installed.items()}, rounds, workload)
    torch.set_num_threads(threads)
    return {name: 1000 * timing.median_s / len(files) for name, timing in timings.items()}


def through(way: Way, files: Sequence[bytes]) -> Work:
    """Return one turn of a way."""
    return lambda: [way(file) for file in files]


def prepared(installed: Mapping[str, Way], files: Sequence[bytes], spec: ModelSpec) -> dict[str, Pixels]:
    """Return uint8 [N, S, S, 3] of each way."""
    return {name: np.stack([as_pixels(way(file), spec) for file in files]) for name, way in installed.items()}


def table(workload: str, ms: Mapping[str, float], pixels: Mapping[str, Pixels], embeddings: Mapping[str, Embeddings]) -> Table:
    """Return the times of one workload, and distances to the original."""
    rows: list[Sequence[Cell]] = []
    for name in ms:
        off = np.abs(pixels[name].astype(int) - pixels[ORIGINAL])
        cosine = (embeddings[name].astype(np.float64) * embeddings[ORIGINAL]).sum(axis=1).min()
        rows.append((name, ms[name], ms[ORIGINAL] / ms[name], float(off.mean()), int(off.max()), float(cosine)))
    rows += [(f"{name}: needs {package}, which isn't installed", *[None] * 5) for name, package in missing().items()]
    return Table((workload, "ms", "times as fast", "pixels off, mean", "most", "cosine, worst"), rows)


def result(
    tables: Sequence[Table],
    ms: Mapping[str, Mapping[str, float]],
    embeddings: Mapping[str, Mapping[str, Embeddings]],
    options: argparse.Namespace,
) -> Result:
    """Return three tables and a plot."""
    several = [*embeddings.values()][-1][ORIGINAL]
    others = (several @ several.T)[~np.eye(len(several), dtype=bool)].mean()
    conditions = setting(options) | {"seed": SEED}
    notes = (
        f"Milliseconds from an encoded file to the image tower's input, on one thread; {conditions['model']}, "
        f"{conditions['photos']}. Pixels are compared in levels of 0 to 255, torch's embeddings of them by their cosine "
        f"(that of two different photos is {others:.3f} on average).",
        "Ours leave the scaling and normalising to the exported graph; the second row shows its cost. The original "
        "gets pictures in RGB, as transformers' `load_image` and most notebooks hand them over; given transparency itself, it "
        "sets the picture on white. *RGB first* and *RGB last* drop transparency before the resize, or after it "
        "as OpenAI's own code does. OpenCV's cubic resize has no antialias.",
    )
    names = [*next(iter(ms.values()))]
    series = {workload: [each[ORIGINAL] / each[name] for name in names] for workload, each in ms.items()}
    plot = bars(plot_path("preprocessing"), names, series, "times as fast as the original, one thread; more is better")
    return Result("preprocessing", "Preprocessing", notes, tables, conditions, [plot])


if __name__ == "__main__":
    main()
