"""The client's verbs ``query``, ``stats`` and ``rebuild``, and what all verbs share."""

import argparse
import json
import os
import webbrowser
from collections.abc import Iterable, Iterator, Mapping
from itertools import islice
from pathlib import Path
from typing import Any, TypeVar
from urllib.parse import quote, urlencode

from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeRemainingColumn
from rich.table import Table
from rich.text import Text

from clip_client.picture_files import is_picture_name
from clip_client.search import Hit, Search, Term
from clip_search.cli.token_file import read_token

_CONSOLE = Console(stderr=True)
_T = TypeVar("_T")


def query(arguments: argparse.Namespace) -> int:
    """Search, and print the hits."""
    with client(arguments) as search:
        hits = search.query(arguments.collection, term(arguments.query), k=arguments.k, where=arguments.filter)
        if arguments.json:
            print(json.dumps([vars(hit) for hit in hits]))
        else:
            Console().print(_hits(hits))
        if arguments.open:
            webbrowser.open(_link(arguments))
    return 0


def stats(arguments: argparse.Namespace) -> int:
    """Print a collection's size, model, columns and indexes."""
    with client(arguments) as search:
        stats = search.stats(arguments.collection)
    print(json.dumps(stats) if arguments.json else _told(stats))
    return 0


def rebuild(arguments: argparse.Namespace) -> int:
    """Index everything anew and wait for it."""
    with client(arguments, timeout_s=24 * 3600) as search, _CONSOLE.status(f"indexing {arguments.collection}"):
        stats = search.rebuild(arguments.collection, wait=True)
    print(_told(stats))
    return 0


def client(arguments: argparse.Namespace, timeout_s: float = 60.0) -> Search:
    """Make a client from the options."""
    return Search(arguments.url, token=read_token(arguments.token_file), timeout_s=timeout_s)


def ensure(search: Search, collection: str, **about: Any) -> None:
    """Make the collection unless it exists."""
    if collection not in {about["name"] for about in search.collections()}:
        search.create(collection, **about)


def batches(items: Iterable[_T], size: int) -> Iterator[list[_T]]:
    """Yield lists of up to ``size`` items."""
    following = iter(items)
    while part := list(islice(following, size)):
        yield part


def progress() -> Progress:
    """Make a progress bar on standard error."""
    return Progress(
        TextColumn("{task.description}"), BarColumn(), MofNCompleteColumn(), TimeRemainingColumn(), console=_CONSOLE
    )  # fmt: skip


def say(line: str) -> None:
    """Print a remark on standard error, above any progress bar."""
    _CONSOLE.print(line, style="yellow", markup=False, highlight=False, soft_wrap=True, emoji=False)


def term(what: str) -> Term:
    """Make a term: the picture at a path, else a text."""
    return Term(image=Path(what)) if is_picture_name(what) and os.path.isfile(what) else Term(text=what)


def _link(arguments: argparse.Namespace) -> str:
    """Return the page's address for a search by text."""
    wanted = {"collection": arguments.collection, "text": arguments.query, "filter": arguments.filter}
    return f"{arguments.url}/#{urlencode({name: value for name, value in wanted.items() if value}, quote_via=quote)}"


def _hits(hits: Iterable[Hit]) -> Table:
    table = Table("score", "id", "caption", "source", box=None)
    for hit in hits:
        cells = (f"{hit.score:.3f}", hit.id, str(hit.metadata.get("caption") or ""), hit.source or "")
        table.add_row(*(Text(_shown(cell)) for cell in cells))
    return table


def _shown(text: str) -> str:
    """Return a text without characters that move the cursor."""
    return "".join(char if char.isprintable() or char in "\n\u200d" else repr(char)[1:-1] for char in text)


def _told(stats: Mapping[str, Any]) -> str:
    lines = [f"{stats['name']}: {stats['rows']} rows of {stats['dimension']}, model {stats['fingerprint'] or 'unknown'}"]
    lines.append("columns: " + (", ".join(f"{name} ({kind})" for name, kind in stats["columns"].items()) or "none"))
    for tower, index in stats["indexes"].items():
        if index["rows"]:
            known = index.get("recall") is not None
            recall = f", recall {index['recall']:.3f} of text queries" if known else ", recall not measured"
            lines.append(f"{tower}: {index['rows']} vectors, {index['engine']}{recall}")
    return "\n".join(lines)
