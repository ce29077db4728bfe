"""``clipserve embed``: a long list of pictures and texts, embedded into files."""

from __future__ import annotations

import argparse
from collections.abc import Sequence

from clip_client.argument_types import add_reach, count
from clip_client.embedded_files import THUMBNAIL
from clip_client.help_texts import Formatter, add_examples, add_version
from clip_client.spec import TOWERS, Tower
from clip_client.thumbnails import SIDE
from clip_embed import engine_arguments
from clip_embed.engines.kinds import opened
from clip_embed.fetch import FetchOptions
from clip_embed.inputs.kinds import KINDS, source_of
from clip_embed.inputs.options import InputOptions
from clip_embed.outputs.kinds import NAMES
from clip_embed.places import place
from clip_embed.report import Bar, as_json, told
from clip_embed.run import Job, Run, prepared
from clip_embed.shares import Share, scheduled_share, share_of


def main(argv: Sequence[str]) -> int:
    """Run the command; return 1 if something was left out, or isn't done."""
    arguments = parser(argv).parse_args(argv)
    share = arguments.part or scheduled_share() or Share()
    networks, ports = tuple(arguments.allow_network), tuple(arguments.allow_port)
    fetch = FetchOptions(arguments.timeout, arguments.retries, arguments.downloads, networks, ports)
    with opened(engine_arguments.engine_of(arguments)) as engine, Bar() as bar:
        target = place(arguments.output)
        manifest = prepared(target, _job(arguments), engine.spec.fingerprint)
        with engine_arguments.crew_of(arguments, engine_arguments.Work(target, manifest, fetch, engine)) as crew:
            result = Run(target, manifest, share).work(crew, bar)
    print(as_json(result) if arguments.json else told(result, target.name))
    return 0 if result.is_clean else 1


def parser(argv: Sequence[str] | None = None) -> argparse.ArgumentParser:
    """Return the parser of the command."""
    made = argparse.ArgumentParser("clipserve embed", description=_DESCRIPTION, formatter_class=Formatter)
    made.add_argument(
        "input", metavar="INPUT", help="folder, shards, table, list or data set; a path or a URL, or pipe:COMMAND"
    )
    made.add_argument("output", metavar="OUTPUT", help="folder, or URL of one, that gets the embeddings")
    _add_input(made.add_argument_group("input"))
    _add_output(made.add_argument_group("output"))
    engine_arguments.add(made.add_argument_group("engine"))
    add_version(made)
    add_examples(
        made,
        "clipserve embed photos embeddings",
        "clipserve embed 'data/{00000..00049}.tar' embeddings",
        "clipserve embed table.parquet embeddings --caption-column caption",
    )
    return made


_DESCRIPTION = (
    "Embed pictures and their captions into files, in parts. Run it again after it was stopped, however that happened: "
    "it goes on with the parts that are missing."
)


def _add_input(group: argparse._ArgumentGroup) -> None:
    group.add_argument("--input-format", choices=sorted(KINDS), help="kind of the input, where its name doesn't tell")
    group.add_argument(
        "--image-key", metavar="ENDINGS", help="webdataset: endings of pictures, e.g. jpg;png (default: all that are taken)"
    )
    group.add_argument("--caption-key", default="txt", metavar="ENDINGS", help="webdataset: endings of captions (default: txt)")
    group.add_argument("--image-column", metavar="NAME", help="table: column of paths, URLs or encoded pictures")
    group.add_argument("--caption-column", metavar="NAME", help="table: column of captions")
    group.add_argument("--split", metavar="NAME", help="data set: its split")
    group.add_argument(
        "--towers", choices=("image", "text", "both"), help="embed pictures, captions or both (default: what there is)"
    )
    group.add_argument("--timeout", type=float, default=20.0, metavar="S", help="seconds for one download (default: 20)")
    group.add_argument("--retries", type=int, default=2, metavar="N", help="tries of a download after the first (default: 2)")
    group.add_argument(
        "--downloads", type=count, default=32, metavar="N", help="downloads at once, but for slow ones (default: 32)"
    )
    add_reach(group)


def _add_output(group: argparse._ArgumentGroup) -> None:
    group.add_argument(
        "--format", choices=NAMES, default="clip-retrieval", help="layout of the output (default: clip-retrieval)"
    )
    group.add_argument(
        "--precision", choices=("float16", "float32"), default="float16", help="of the vectors (default: float16)"
    )
    group.add_argument(
        "--thumbnails",
        action="store_true",
        help=f"keep a JPEG of each picture, at most {SIDE} pixels wide and high, in column {THUMBNAIL}",
    )
    group.add_argument(
        "--part-items", type=count, default=10_000, metavar="N", help="items of a part, but for shards (default: 10000)"
    )
    group.add_argument(
        "--part", type=share_of, metavar="I/N", help="do every n-th part, from the i-th on (default: a job array's, else all)"
    )
    group.add_argument("--json", action="store_true", help="print the books as JSON")


def _job(arguments: argparse.Namespace) -> Job:
    options = InputOptions(
        arguments.input_format,
        _keys(arguments.image_key),
        _keys(arguments.caption_key),
        arguments.image_column,
        arguments.caption_column,
        arguments.split,
    )
    towers: dict[str | None, tuple[Tower, ...] | None] = {None: None, "image": ("image",), "text": ("text",), "both": TOWERS}
    source = source_of(arguments.input, options)
    own = (arguments.format, arguments.precision, arguments.part_items, towers[arguments.towers], arguments.thumbnails)
    return Job(source, *own)


def _keys(text: str | None) -> tuple[str, ...]:
    return tuple(filter(None, (key.strip().lower().lstrip(".") for key in (text or "").split(";"))))
