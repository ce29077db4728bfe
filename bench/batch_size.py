"""Cost of the client's batch size: milliseconds a document while images and texts are indexed through Triton.

python bench/batch_size.py
python bench/batch_size.py --model openai/clip-vit-base-patch32 --photos FOLDER
"""

import argparse
from collections.abc import Callable, Mapping, Sequence
from itertools import cycle, islice
from typing import Any

from clip_client import Clip
from lib.checkpoints import VARIANT, checkpoint, exported
from lib.options import TURNS, parsed, setting
from lib.plotting import lines
from lib.results import Result, plot_path, publish
from lib.samples import photos, texts
from lib.serving import served
from lib.tables import Table
from lib.turns import Timings, Work, in_turns

SIZES = (1, 10, 50, 100)


def main() -> None:
    """Export, serve, index in turns."""
    options = parsed(__doc__, {"--rounds": (11, TURNS), "--count": (100, "documents of each kind in one turn")})
    _, repository = exported(checkpoint(options.model), options.photos)
    with served(repository) as server, Clip(server.address) as clip:
        timings = in_turns(ways(clip, photos(options.photos), options.count), options.rounds, "batch sizes")
    publish(result(timings, options))


def ways(clip: Clip, images: Sequence[Any], count: int) -> dict[str, Work]:
    """Return a way for each batch size to index ``count`` images, repeated where there are fewer, and as many texts."""
    several, words = [*islice(cycle(images), count)], texts(count)
    of_images = {f"image {size}": indexing(clip.embed_image, several, size) for size in SIZES}
    return of_images | {f"text {size}": indexing(clip.embed_text, words, size) for size in SIZES}


def indexing(embed: Callable[[list[Any]], object], documents: Sequence[Any], size: int) -> Work:
    """Return a way that embeds all documents, ``size`` in a call, one call after the other."""
    parts = [list(documents[start : start + size]) for start in range(0, len(documents), size)]
    return lambda: [embed(part) for part in parts]


def result(timings: Mapping[str, Timings], options: argparse.Namespace) -> Result:
    """Return milliseconds a document by batch size."""
    ms = {name: 1000 * timing.median_s / options.count for name, timing in timings.items()}
    rows = [
        (size, *(figure for tower in ("image", "text") for figure in (ms[f"{tower} {size}"], 1000 / ms[f"{tower} {size}"])))
        for size in SIZES
    ]
    columns = ("documents a call", "ms an image", "images/s", "ms a text", "texts/s")
    shown = {"images": [ms[f"image {size}"] for size in SIZES], "texts": [ms[f"text {size}"] for size in SIZES]}
    conditions = setting(options)
    notes = (
        f"{options.count} photos and {options.count} texts of eight words through Triton ({VARIANT}), one call of the "
        f"SDK after the other, each with the documents of the first column: {conditions['model']}, {conditions['photos']}.",
        "The SDK cuts a call into requests of at most the server's batch and keeps several in flight.",
    )
    plot = lines(plot_path("batch_size"), SIZES, shown, ("documents a call", "milliseconds a document"))
    return Result("batch_size", "Batch size of the client", notes, [Table(columns, rows)], conditions, [plot])


if __name__ == "__main__":
    main()
