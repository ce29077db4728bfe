"""Verbs for whole collections and their rows: ``list``, ``create``, ``drop``, ``delete``."""

import argparse
import json
import sys
from collections.abc import Sequence

from clip_client import command_runner
from clip_client.counting import counted
from clip_client.errors import InvalidInput, Unavailable
from clip_client.help_texts import program
from clip_client.progress_bars import say
from clip_client.search import Search
from clip_client.terminal import print_table, printable
from clip_search.cli.books import Books
from clip_search.cli.commands import batches, client

_LOOKED_UP = 1_000  # ids in a request


def list_(arguments: argparse.Namespace) -> int:
    """Print the collections; those that can't be opened are named on standard error."""
    with client(arguments) as search:
        every = search.collections()
        try:
            search.wait_ready(timeout_s=0)
        except Unavailable as problem:
            say(str(problem))
    if arguments.json:
        print(json.dumps(every))
    elif every:
        rows = [(about["name"], str(about["rows"]), str(about["dimension"]), about["fingerprint"]) for about in every]
        print_table(("collection", "rows", "dimension", "model"), rows, figures=("rows", "dimension"))
    else:
        say(f"there is no collection yet: {program()} search add FOLDER --collection NAME makes one")
    return 0


def create(arguments: argparse.Namespace) -> int:
    """Make a collection."""
    columns = _columns(arguments.column)
    with client(arguments) as search:
        made = search.create(
            arguments.collection, dimension=arguments.dimension, fingerprint=arguments.fingerprint, columns=columns
        )
    print(f"{made['name']} is made, for vectors of {made['dimension']}, model {made['fingerprint'] or 'unknown'}")
    return 0


def drop(arguments: argparse.Namespace) -> int:
    """Remove a collection, once somebody has agreed."""
    name = arguments.collection
    if not arguments.yes and not command_runner.is_terminal(sys.stdin):
        raise InvalidInput(f"drop removes {printable(name)} for good and asks first, but no terminal is there: pass --yes")
    with client(arguments) as search:
        if not arguments.yes and not is_agreed(f"drop {printable(name)}, {_size(search, name)}, for good?"):
            print("nothing was dropped")
            return command_runner.FAILED
        search.drop(name)
    print(f"{printable(name)} is dropped")
    return 0


def delete(arguments: argparse.Namespace) -> int:
    """Delete rows; name the ids that no row has."""
    with client(arguments) as search:
        if not arguments.ids:
            print(f"{counted(search.delete(arguments.collection, where=arguments.filter), 'row')} deleted")
            return 0
        with Books(arguments.errors, say) as books:
            ids = list(dict.fromkeys(arguments.ids))
            deleted = sum(_deleted(search, arguments.collection, part, books) for part in batches(ids, _LOOKED_UP))
            print(f"read {len(ids)} = {deleted} deleted + {books.left_out} left out")
            return books.status()


def _columns(given: Sequence[str]) -> dict[str, str]:
    pairs = [column.partition("=") for column in given]
    for column, (name, _, kind) in zip(given, pairs, strict=True):
        if not name or not kind:
            raise InvalidInput(f"--column {column}: expected NAME=KIND, e.g. year=int")
    columns = {name: kind for name, _, kind in pairs}
    if len(columns) < len(pairs):
        raise InvalidInput(f"--column names a column twice, of {', '.join(given)}: pass each once")
    return columns


def _size(search: Search, name: str) -> str:
    try:
        return counted(search.stats(name)["rows"], "row")
    except Unavailable as problem:  # a collection that can't be opened can be dropped
        return f"whose size isn't known ({problem})"


def is_agreed(question: str) -> bool:
    """Ask on standard error; tell if the answer is yes."""
    print(f"{question} [y/N] ", end="", file=sys.stderr, flush=True)
    return sys.stdin.readline().strip().lower() in ("y", "yes")


def _deleted(search: Search, collection: str, ids: Sequence[str], books: Books) -> int:
    """Delete the rows that are there; return their number."""
    there = {row["id"] for row in search.get(collection, ids)}
    for missing in [id for id in ids if id not in there]:
        books.leave_out(missing, f"no row of {collection} has this id")
    if there:
        search.delete(collection, sorted(there))
    return len(there)
