"""What the client's batch size costs: milliseconds a document while images and texts are indexed through Triton.

python bench/batch_size.py
python bench/batch_size.py --model openai/clip-vit-base-patch32 --photos FOLDER
"""

from __future__ import annotations

import argparse
from collections.abc import Callable, Mapping, Sequence
from itertools import cycle, islice

from clip_client import Clip
from measuring import Timings, Work, in_turns
from plotting import lines
from results import Result, Table, publish
from serving import served
from work import checkpoint, exported, parser, photos, setting, texts

SERVED = "openvino-int8"
SIZES = (1, 10, 50, 100)


def main() -> None:
    """Export, serve, index in turns."""
    options = parsed()
    published = ("--image-variant", SERVED, "--text-variant", SERVED)
    _, repository = exported(checkpoint(options.model), options.photos, ["openvino-fp16", SERVED], *published)
    with served(repository) as server, Clip(server.address) as clip:
        timings = in_turns(ways(clip, photos(options.photos), options.count), options.rounds, "batch sizes")
    publish(result(timings, options))


def parsed() -> argparse.Namespace:
    """The options."""
    made = parser(__doc__)
    made.add_argument("--count", type=int, default=100, help="documents of each kind in one turn (default: %(default)s)")
    made.add_argument("--rounds", type=int, default=11, help="turns of each (default: %(default)s)")
    return made.parse_args()


def ways(clip: Clip, images: Sequence[object], count: int) -> dict[str, Work]:
    """Index so many images, taken again where there are fewer, and as many texts, with each batch size."""
    several, words = [*islice(cycle(images), count)], texts(count)
    found = {f"image {size}": indexing(clip.embed_image, several, size) for size in SIZES}
    return found | {f"text {size}": indexing(clip.embed_text, words, size) for size in SIZES}


def indexing(embed: Callable[[list[object]], object], documents: Sequence[object], size: int) -> Work:
    """Hand all documents to the SDK, so many a call, one call after the other."""
    parts = [list(documents[start : start + size]) for start in range(0, len(documents), size)]
    return lambda: [embed(part) for part in parts]


def result(timings: Mapping[str, Timings], options: argparse.Namespace) -> Result:
    """Milliseconds a document by batch size."""
    ms = {name: 1000 * timing.median_s / options.count for name, timing in timings.items()}
    rows = [
        (size, *(figure for tower in ("image", "text") for figure in (ms[f"{tower} {size}"], 1000 / ms[f"{tower} {size}"])))
        for size in SIZES
    ]
    columns = ("documents a call", "ms an image", "images/s", "ms a text", "texts/s")
    shown = {"images": [ms[f"image {size}"] for size in SIZES], "texts": [ms[f"text {size}"] for size in SIZES]}
    where = setting(options)
    notes = (
        f"{options.count} photos and {options.count} texts of eight words through Triton ({SERVED}), so many in one call of "
        f"the SDK, one call after the other: {where['model']}, {where['photos']}.",
        "The SDK cuts a call into requests of at most the server's batch and keeps several under way.",
    )
    plot = lines("batch_size", SIZES, shown, ("documents a call", "milliseconds a document"))
    return Result("batch_size", "Batch size of the client", notes, [Table(columns, rows)], where, [plot])


if __name__ == "__main__":
    main()
