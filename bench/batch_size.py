"""Cost of the client's batch size: milliseconds a document that is embedded through Triton, or added to a collection.

python bench/batch_size.py
python bench/batch_size.py --model openai/clip-vit-base-patch32 --photos FOLDER
"""

import argparse
from collections.abc import Callable, Mapping, Sequence
from itertools import cycle, islice
from typing import Any

from clip_client import Clip, Search
from clip_client.search import Row
from lib.checkpoints import VARIANT, checkpoint, exported
from lib.options import TURNS, parsed, setting
from lib.plotting import lines
from lib.results import Result, plot_path, publish
from lib.samples import photos, texts
from lib.serving import served, sidecar
from lib.tables import Table
from lib.turns import Timings, Work, in_turns

SIZES = (1, 10, 50, 100)
COLLECTION = "batches"


def main() -> None:
    """Export, serve, index in turns."""
    options = parsed(__doc__, {"--rounds": (11, TURNS), "--count": (100, "documents of each kind in one turn")})
    _, repository = exported(checkpoint(options.model), options.photos)
    with served(repository) as server, Clip(server.address) as clip, sidecar(server.address) as running:
        running.search.wait_ready()
        files = photos(options.photos)
        every = ways(clip, files, options.count) | adds(running.search, files, options.count)
        timings = in_turns(every, options.rounds, "batch sizes")
    publish(result(timings, options))


def ways(clip: Clip, images: Sequence[Any], count: int) -> dict[str, Work]:
    """Return a way for each batch size to index ``count`` images, repeated where there are fewer, and as many texts."""
    several, words = [*islice(cycle(images), count)], texts(count)
    of_images = {f"image {size}": indexing(clip.embed_image, several, size) for size in SIZES}
    return of_images | {f"text {size}": indexing(clip.embed_text, words, size) for size in SIZES}


def adds(search: Search, images: Sequence[Any], count: int) -> dict[str, Work]:
    """Return a way for each batch size to add ``count`` new rows with images to a new collection, and with texts."""
    search.create(COLLECTION)
    files, words = [*islice(cycle(images), count)], texts(count)

    def of_images(part: list[Any]) -> object:
        return search.add(COLLECTION, [Row(image=image) for image in part])

    def of_texts(part: list[Any]) -> object:
        return search.add(COLLECTION, [Row(text=text) for text in part])

    added = {f"add image {size}": indexing(of_images, files, size) for size in SIZES}
    return added | {f"add text {size}": indexing(of_texts, words, size) for size in SIZES}


def indexing(embed: Callable[[list[Any]], object], documents: Sequence[Any], size: int) -> Work:
    """Return a way that embeds all documents, ``size`` in a call, one call after the other."""
    parts = [list(documents[start : start + size]) for start in range(0, len(documents), size)]
    return lambda: [embed(part) for part in parts]


def result(timings: Mapping[str, Timings], options: argparse.Namespace) -> Result:
    """Return milliseconds a document by batch size."""
    ms = {name: 1000 * timing.median_s / options.count for name, timing in timings.items()}
    rows = [
        (
            size,
            *(figure for tower in ("image", "text") for figure in (ms[f"{tower} {size}"], 1000 / ms[f"{tower} {size}"])),
            *(ms[f"add {tower} {size}"] for tower in ("image", "text")),
        )
        for size in SIZES
    ]
    columns = ("documents a call", "ms an image", "images/s", "ms a text", "texts/s", "ms an image added", "ms a text added")
    shown = {"images": [ms[f"image {size}"] for size in SIZES], "texts": [ms[f"text {size}"] for size in SIZES]}
    conditions = setting(options)
    notes = (
        f"{options.count} photos and {options.count} texts of eight words through Triton ({VARIANT}), one call of the "
        f"SDK after the other, each with the documents of the first column: {conditions['model']}, {conditions['photos']}.",
        "The last columns are those of the sidecar's `add` with as many rows a call, from a file or a text to a stored and "
        "searchable row; ids are new.",
        "The SDK cuts a call into requests of at most the server's batch and keeps several in flight.",
    )
    plot = lines(plot_path("batch_size"), SIZES, shown, ("documents a call", "milliseconds a document"))
    return Result("batch_size", "Batch size of the client", notes, [Table(columns, rows)], conditions, [plot])


if __name__ == "__main__":
    main()
