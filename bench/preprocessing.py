"""Ways from an encoded file to pixels: milliseconds, and how far pixels and embeddings are from the hub's own.

python bench/preprocessing.py
python bench/preprocessing.py --model openai/clip-vit-base-patch32 --photos FOLDER
"""

from __future__ import annotations

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
from measuring import Work, in_turns
from pixels import ORIGINAL, Way, as_pixels, missing, ways
from plotting import bars
from results import Cell, Result, Table, publish
from work import checkpoint, collage, loaded, parser, photos, setting

SEED = 0

Pixels = npt.NDArray[np.uint8]


def main() -> None:
    """Make the files, time, embed, compare."""
    options = parsed()
    model = checkpoint(options.model)
    towers = loaded(model)
    found, encode = ways(towers.spec, model), towers.encoder("image")
    works = workloads(options)
    timings = {what: one_threaded(found, files, options.rounds, what) for what, files in works.items()}
    pixels = {what: prepared(found, files, towers.spec) for what, files in works.items()}
    embeddings = {what: {name: embed(encode, one) for name, one in each.items()} for what, each in pixels.items()}
    tables = [table(what, timings[what], pixels[what], embeddings[what]) for what in works]
    publish(result(tables, timings, embeddings, options))


def parsed() -> argparse.Namespace:
    """The options."""
    made = parser(__doc__)
    made.add_argument("--count", type=int, default=24, help="photos (default: %(default)s)")
    made.add_argument("--rounds", type=int, default=15, help="turns of each (default: %(default)s)")
    return made.parse_args()


def workloads(options: argparse.Namespace) -> dict[str, list[bytes]]:
    """Encoded files: a large drawing with transparency, one photo-like picture, and photos."""
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
    """A file's bytes."""
    file = io.BytesIO()
    image.save(file, kind, quality=90)
    return file.getvalue()


def one_threaded(found: Mapping[str, Way], files: Sequence[bytes], rounds: int, what: str) -> dict[str, float]:
    """Milliseconds a file; each way goes through all files in its turn."""
    threads = torch.get_num_threads()
    torch.set_num_threads(1)
    timings = in_turns({name: through(way, files) for name, way in found.items()}, rounds, what)
    torch.set_num_threads(threads)
    return {name: 1000 * timing.median_s / len(files) for name, timing in timings.items()}


def through(way: Way, files: Sequence[bytes]) -> Work:
    """One turn."""
    return lambda: [way(file) for file in files]


def prepared(found: Mapping[str, Way], files: Sequence[bytes], spec: ModelSpec) -> dict[str, Pixels]:
    """uint8 [N, S, S, 3] of each way."""
    return {name: np.stack([as_pixels(way(file), spec) for file in files]) for name, way in found.items()}


def table(what: str, ms: Mapping[str, float], pixels: Mapping[str, Pixels], embeddings: Mapping[str, Embeddings]) -> Table:
    """Times of one workload, and distances to the original."""
    rows: list[Sequence[Cell]] = []
    for name in ms:
        off = np.abs(pixels[name].astype(int) - pixels[ORIGINAL])
        cosine = (embeddings[name].astype(np.float64) * embeddings[ORIGINAL]).sum(axis=1).min()
        rows.append((name, ms[name], ms[ORIGINAL] / ms[name], float(off.mean()), int(off.max()), float(cosine)))
    rows += [(f"{name}: needs {package}, which isn't installed", *[None] * 5) for name, package in missing().items()]
    return Table((what, "ms", "times as fast", "pixels off, mean", "most", "cosine, worst"), rows)


def result(
    tables: Sequence[Table],
    ms: Mapping[str, Mapping[str, float]],
    embeddings: Mapping[str, Mapping[str, Embeddings]],
    options: argparse.Namespace,
) -> Result:
    """Three tables, one plot."""
    several = [*embeddings.values()][-1][ORIGINAL]
    others = (several @ several.T)[~np.eye(len(several), dtype=bool)].mean()
    where = setting(options) | {"seed": SEED}
    notes = (
        f"Milliseconds from an encoded file to what the image tower takes, on one thread; {where['model']}, "
        f"{where['photos']}. Pixels are compared in levels of 0 to 255, torch's embeddings of them by their cosine "
        f"(that of two different photos is {others:.3f} on average).",
        "Ours leave the scaling and normalising to the exported graph; the second row tells what that is worth. The original "
        "gets pictures in RGB, as transformers' `load_image` and most notebooks hand them over; given transparency itself, it "
        "sets the picture on white. *RGB first* and *RGB last* say when transparency goes: before the resize or after it, "
        "as OpenAI's own code does. OpenCV's cubic resize has no antialias.",
    )
    names = [*next(iter(ms.values()))]
    series = {what: [each[ORIGINAL] / each[name] for name in names] for what, each in ms.items()}
    plot = bars("preprocessing", names, series, "times as fast as the original, one thread; more is better")
    return Result("preprocessing", "Preprocessing", notes, tables, where, [plot])


if __name__ == "__main__":
    main()
