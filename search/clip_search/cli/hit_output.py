"""Hits on standard output: a table, lines for pipes, paths, JSON."""

import argparse
import json
import os
import sys
from collections.abc import Iterable, Sequence

from clip_client.command_runner import is_terminal
from clip_client.file_names import source_path
from clip_client.progress_bars import say
from clip_client.search import Hit
from clip_client.terminal import print_table, printable

HEADING = ("score", "id", "caption", "source")
"""Columns of hits."""


def show(hits: Sequence[Hit], arguments: argparse.Namespace) -> None:
    """Print hits as the options ``json``, ``files_only`` and ``null`` say; a table if none of them is set."""
    if arguments.json:
        print(json.dumps([vars(hit) for hit in hits]))
    elif arguments.null or arguments.files_only:
        show_paths(hits, null=arguments.null)
    elif hits:
        print_table(HEADING, [cells(hit) for hit in hits], figures=("score",))
    else:
        say("nothing found")


def show_paths(hits: Sequence[Hit], *, null: bool) -> None:
    """Print the paths of hits, one a line, or each with a NUL behind it."""
    if null:
        _write(_paths(hits), b"\0")
    else:
        _print_lines(_paths(hits))


def cells(hit: Hit) -> tuple[str, ...]:
    """Return a hit's row of a table under ``HEADING``."""
    return f"{hit.score:.3f}", hit.id, str(hit.metadata.get("caption") or ""), hit.source or ""


def _paths(hits: Sequence[Hit]) -> list[str]:
    """Return the paths, or URLs, of hits; name those whose rows have none."""
    for hit in hits:
        if not hit.source:
            say(f"left out {printable(hit.id)}: its row has no source")
    return [source_path(hit.source) for hit in hits if hit.source]


def _print_lines(paths: Sequence[str]) -> None:
    """Print a path a line: to a terminal printable, to a pipe as it is."""
    if is_terminal(sys.stdout):
        print("".join(f"{printable(path)}\n" for path in paths), end="")
        return
    _write(paths, b"\n")
    if broken := sum("\n" in path for path in paths):
        say(f"{broken} of the paths hold a line break: --null ends each with a NUL instead")


def _write(paths: Iterable[str], end: bytes) -> None:
    if sys.stdout is not None:  # the shell closed it
        sys.stdout.buffer.write(b"".join(os.fsencode(path) + end for path in paths))
