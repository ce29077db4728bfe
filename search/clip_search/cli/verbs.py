"""Verbs of ``clipserve search``: the function, the help, the options and the examples of each."""

from __future__ import annotations

import argparse
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from clip_client.argument_types import add_timeout, count
from clip_search.cli import model_options
from clip_search.cli.serve_options import add_serve_options

_BULK_S, _REBUILD_S = 600.0, 24 * 3600.0  # a large batch on a busy disk; an index of all


@dataclass(frozen=True)
class Verb:
    """A verb.

    Attributes:
        run: the function that runs it, imported from this room when it is called.
        help: one line.
        examples: command lines without ``clipserve search`` and the verb.
        add_options: adds its own options.
        is_client: it asks a sidecar, so it takes that one's address and token.
        has_collection: it takes ``--collection``.
        timeout_s: default of ``--timeout``, of those that ask a sidecar.
    """

    run: str
    help: str
    examples: tuple[str, ...]
    add_options: Callable[[argparse.ArgumentParser], Any] = lambda parser: None
    is_client: bool = True
    has_collection: bool = True
    timeout_s: float = 60.0


def _add_options(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("folder", type=Path, help="its pictures are sent, with the .txt and .json beside them")
    parser.add_argument(
        "--metadata", type=Path, metavar="FILE", help="parquet, CSV, JSON lines or JSON with file_name and fields to keep"
    )
    parser.add_argument("--replace", action="store_true", help="embed those again that are there already")
    parser.add_argument("--prune", action="store_true", help="remove rows from below the folder whose files are gone")
    _errors_option(parser)


def _errors_option(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("--errors", type=Path, metavar="FILE", help="write what was left out there, a JSON object a line")


def _json_option(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("--json", action="store_true", help="for machines")


def _search_options(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("query", help="a text, or the path or the URL of a picture")
    parser.add_argument("--text", action="store_true", help="take the query as a text, even if it reads as a picture's path")
    parser.add_argument("--filter", default="", metavar="SQL", help='over the columns, e.g. "year > 2000"')


def _query_options(parser: argparse.ArgumentParser) -> None:
    _search_options(parser)
    parser.add_argument("-k", type=count, default=10, help="how many")
    parser.add_argument("--open", action="store_true", help="show the search on the page")
    _output_options(parser, "the paths alone")


def _output_options(parser: argparse.ArgumentParser, paths: str) -> None:
    output = parser.add_mutually_exclusive_group()
    output.add_argument("--json", action="store_true", help="for machines")
    output.add_argument("-f", "--files-only", action="store_true", help=f"print {paths}, one a line")
    output.add_argument("-0", "--null", action="store_true", help=f"print {paths}, each with a NUL behind it")


def _duplicates_options(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("--threshold", type=float, default=0.95, metavar="SCORE", help="least cosine of a pair, 0.5 to 1")
    parser.add_argument("--filter", default="", metavar="SQL", help='only rows that it keeps, e.g. "year > 2000"')
    parser.add_argument("--limit", type=count, metavar="N", help="groups, the largest first; all if unset")
    _output_options(parser, "the paths of all but each group's first picture")


def _filter_options(parser: argparse.ArgumentParser) -> None:
    _search_options(parser)
    parser.add_argument("output_folder", type=Path, help="is made if it isn't there")
    parser.add_argument("--num-results", type=count, default=100, metavar="N", help="at most so many")
    parser.add_argument("--threshold", type=float, metavar="SCORE", help="only with at least this score")
    _errors_option(parser)


def _create_options(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("collection", help="its name: letters, digits, '_' and '-'")
    parser.add_argument("--dimension", type=count, metavar="D", help="length of its vectors; the served model's if unset")
    parser.add_argument("--fingerprint", metavar="HEX", help="of the model that makes its vectors; the served one's if unset")
    parser.add_argument(
        "--column", action="append", default=[], metavar="NAME=KIND", help="a column, e.g. year=int (repeatable)"
    )


def _drop_options(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("collection", help="which one; its pictures' files stay where they are")
    parser.add_argument("--yes", action="store_true", help="don't ask")


def _delete_options(parser: argparse.ArgumentParser) -> None:
    rows = parser.add_mutually_exclusive_group(required=True)
    rows.add_argument("ids", nargs="*", default=[], metavar="ID", help="ids of rows; their files stay where they are")
    rows.add_argument("--filter", default="", metavar="SQL", help='instead of ids: over the columns, e.g. "year < 2000"')
    _errors_option(parser)


def _import_options(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("folder", type=Path, help="output of clipserve embed, or with img_emb, text_emb or image.index")
    parser.add_argument("--fingerprint", default="", help="of the model that made the vectors, if its files don't say")
    parser.add_argument("--prefix", default="", metavar="TEXT", help="in front of each row's number, which together are its id")
    parser.add_argument("--replace", action="store_true", help="write rows anew whose ids are there already")
    parser.add_argument("--send", action="store_true", help="send the rows, though a sidecar here could read the folder itself")
    _errors_option(parser)


def _export_options(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("folder", type=Path, help="is made if it isn't there")


def _copy_options(parser: argparse.ArgumentParser) -> None:
    place = "http://HOST:PORT/COLLECTION of a sidecar, or DATABASE/COLLECTION of a folder or object store that none has open"
    parser.add_argument("source", help=place)
    parser.add_argument("target", help="as the source; the collection is made if it isn't there")
    parser.add_argument("--source-token-file", type=Path, metavar="FILE", help="what the source's sidecar asks for, if it does")
    parser.add_argument("--target-token-file", type=Path, metavar="FILE", help="what the target's sidecar asks for, if it does")
    add_timeout(parser, _BULK_S)
    parser.add_argument("--replace", action="store_true", help="write rows anew whose ids are there already")
    _json_option(parser)
    _errors_option(parser)


def _backup_options(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("data", metavar="DATA", help="the database, a folder or an object store; it may be served meanwhile")
    parser.add_argument("target", metavar="BACKUP", help="folder or object store of the backup; an older one is added to")
    _choice_option(parser, "back up")
    _json_option(parser)


def _restore_options(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("backup", metavar="BACKUP", help="what backup wrote")
    parser.add_argument("data", metavar="DATA", nargs="?", help="the database to restore to, which isn't served meanwhile")
    parser.add_argument("--snapshot", metavar="TIME", help="the latest one if unset")
    parser.add_argument("--verify", action="store_true", help="read each restored row; without DATA: check the backup alone")
    _choice_option(parser, "restore")
    _json_option(parser)


def _choice_option(parser: argparse.ArgumentParser, verb: str) -> None:
    parser.add_argument(
        "--collection", action="append", default=[], metavar="NAME", help=f"{verb} this one; all if unset (repeatable)"
    )


VERBS = {
    "serve": Verb(
        "serve.main",
        "start the sidecar; runs until SIGINT or SIGTERM",
        ("--data search-data", "--data search-data --images ~/Pictures --port 8080", "--data s3://bucket/search --index cache"),
        add_serve_options,
        is_client=False,
        has_collection=False,
    ),
    "add": Verb(
        "folder.adding.add",
        "bring a collection in line with a folder of pictures; only what is new or has changed is sent",
        ("~/Pictures --collection photos", "~/Pictures --collection photos --metadata captions.csv --prune"),
        _add_options,
        timeout_s=_BULK_S,
    ),
    "query": Verb(
        "commands.query",
        "search by a text, or by a picture's file or URL",
        (
            '"a red car" --collection photos',
            'holiday/beach.jpg -k 20 --filter "year > 2000"',
            '"a red car" -0 | xargs -0 cp -t cars/',
            '"a red car" --json',
        ),
        _query_options,
    ),
    "list": Verb(
        "collections.list_",
        "list the collections",
        ("", "--json"),
        _json_option,
        has_collection=False,
    ),
    "stats": Verb("commands.stats", "rows, columns, and how they are searched", ("--collection photos",), _json_option),
    "create": Verb(
        "collections.create",
        "make a collection; add and import make theirs themselves",
        ("photos", "photos --column year=int --column caption=string"),
        _create_options,
        has_collection=False,
    ),
    "drop": Verb(
        "collections.drop",
        "remove a collection for good",
        ("photos", "photos --yes"),
        _drop_options,
        has_collection=False,
    ),
    "delete": Verb(
        "collections.delete",
        "delete rows by their ids, or all that a filter keeps",
        ("holiday/beach.jpg holiday/sea.jpg --collection photos", '--filter "year < 2000" --collection photos'),
        _delete_options,
    ),
    "rebuild": Verb("commands.rebuild", "index everything anew", ("--collection photos",), timeout_s=_REBUILD_S),
    "reembed": Verb(
        "reembedding.reembed",
        "go over to a model of another space: embed the collection with it in the background, then let it answer",
        ("photos --to 2 --wait", "photos --back", "photos --drop-old --yes", "photos --left-out"),
        model_options.add_reembed_options,
        has_collection=False,
    ),
    "filter": Verb(
        "filtering.filter_",
        "copy the best matches to a folder",
        ('"a red car" cars/ --num-results 50 --collection photos',),
        _filter_options,
    ),
    "duplicates": Verb(
        "duplicates.duplicates",
        "find pictures that are nearly the same",
        (
            "--collection photos",
            "--collection photos --threshold 0.98 --json",
            "--collection photos -0 | xargs -0 mv -t twice/",
        ),
        _duplicates_options,
        timeout_s=_BULK_S,
    ),
    "feedback": Verb(
        "feedback.showing.feedback",
        "show clicks and marks on hits, export or delete them",
        (
            "--collection photos",
            "--collection photos --export clicks.parquet",
            "--collection photos --delete --before 2026-01-31",
        ),
        model_options.add_feedback_options,
    ),
    "compare-models": Verb(
        "feedback.comparing.compare_models",
        "compare clicks and ranks of the models that answered",
        ("photos", "photos --json"),
        model_options.add_compare_models_options,
        has_collection=False,
    ),
    "import": Verb(
        "clip_retrieval.importing.import_",
        "add what clipserve embed or clip-retrieval wrote",
        ("embeddings/ --collection photos", "embeddings/ --collection laion --prefix laion-"),
        _import_options,
        timeout_s=_BULK_S,
    ),
    "export": Verb(
        "clip_retrieval.exporting.export",
        "write a folder as clip-retrieval's",
        ("embeddings/ --collection photos",),
        _export_options,
        timeout_s=_BULK_S,
    ),
    "copy": Verb(
        "copying.command.copy",
        "copy a collection to another sidecar or database, and compare",
        ("search-data/photos http://localhost:1234/photos", "http://localhost:1234/photos s3://bucket/search/photos"),
        _copy_options,
        is_client=False,
        has_collection=False,
    ),
    "backup": Verb(
        "backup.backing_up.back_up",
        "save collections as they are at this moment, served or not; only what is new is copied",
        ("search-data /backups/search", "search-data s3://bucket/backup --collection photos"),
        _backup_options,
        is_client=False,
        has_collection=False,
    ),
    "restore": Verb(
        "backup.restoring.restore",
        "bring collections of a backup into a database that lacks them",
        ("/backups/search search-data", "/backups/search --verify"),
        _restore_options,
        is_client=False,
        has_collection=False,
    ),
}
"""Verbs by name, in the order of the help."""
