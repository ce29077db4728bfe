"""The client's verbs: ``add``, ``query``, ``stats``, ``rebuild``, ``filter``."""

from __future__ import annotations

import argparse
import json
import shutil
import sys
import webbrowser
from collections.abc import Iterable, Iterator, Mapping
from concurrent.futures import ThreadPoolExecutor
from functools import partial
from itertools import islice
from pathlib import Path
from typing import Any, TypeVar
from urllib.parse import quote, urlencode

import pyarrow.parquet as pq
from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeRemainingColumn
from rich.table import Table

from clip_client.errors import ContractMismatch, InvalidInput
from clip_client.search import Added, Hit, Row, Search, Term
from clip_search.token_file import read_token

ENDINGS = {".jpg", ".jpeg", ".png", ".bmp", ".webp", ".gif", ".tif", ".tiff"}
_TOGETHER, _REQUESTS = 32, 2
_CONSOLE = Console(stderr=True)
_T = TypeVar("_T")


def add(arguments: argparse.Namespace) -> int:
    """Send a folder's pictures; a file that is bad is named and the rest goes on."""
    files = sorted(path for path in arguments.folder.rglob("*") if path.suffix.lower() in ENDINGS and path.is_file())
    if not files:
        raise InvalidInput(f"no pictures in {arguments.folder}: expected files that end in {', '.join(sorted(ENDINGS))}")
    metadata = _metadata(arguments.metadata)
    with client(arguments) as search, ThreadPoolExecutor(_REQUESTS) as pool:
        ensure(search, arguments.collection)
        send = partial(_send, search, arguments.collection, "replace" if arguments.replace else "skip")
        parts = [[_row(path, arguments.folder, metadata) for path in part] for part in batches(files, _TOGETHER)]
        errors = 0
        with progress() as bar:
            task = bar.add_task("adding", total=len(files))
            for part, done in zip(parts, pool.map(send, parts), strict=True):
                errors += len(done.errors)
                bar.advance(task, len(part))
                for n, reason in done.errors.items():
                    bar.console.print(f"left out {part[n].source}: {reason}", style="yellow", markup=False, soft_wrap=True)
        print(f"{search.stats(arguments.collection)['rows']} rows in {arguments.collection}; {errors} files left out")
    return 1 if errors else 0


def query(arguments: argparse.Namespace) -> int:
    """Search, and print the hits."""
    with client(arguments) as search:
        hits = search.query(arguments.collection, _term(arguments.query), k=arguments.k, where=arguments.filter)
        if arguments.json:
            print(json.dumps([vars(hit) for hit in hits]))
        else:
            Console().print(_hits(hits))
        if arguments.open:
            webbrowser.open(_link(arguments))
    return 0


def stats(arguments: argparse.Namespace) -> int:
    """Print what is known of a collection."""
    with client(arguments) as search:
        found = search.stats(arguments.collection)
    print(json.dumps(found) if arguments.json else _told(found))
    return 0


def rebuild(arguments: argparse.Namespace) -> int:
    """Index everything anew and wait for it."""
    patient = Search(arguments.url, token=read_token(arguments.token_file), timeout_s=24 * 3600)
    with patient as search, _CONSOLE.status(f"indexing {arguments.collection}"):
        found = search.rebuild(arguments.collection, wait=True)
    print(_told(found))
    return 0


def filter_(arguments: argparse.Namespace) -> int:
    """Copy the files of the best matches."""
    arguments.output_folder.mkdir(parents=True, exist_ok=True)
    with client(arguments) as search:
        hits = search.query(
            arguments.collection,
            _term(arguments.query),
            k=arguments.num_results,
            threshold=arguments.threshold,
            where=arguments.filter,
        )
    copied = [_copied(hit, arguments.output_folder) for hit in hits]
    print(f"{sum(copied)} of {len(hits)} matches copied to {arguments.output_folder}")
    if hits:
        print(f"scores from {hits[-1].score:.3f} to {hits[0].score:.3f}")
    return 0


def client(arguments: argparse.Namespace) -> Search:
    """A client as the options say."""
    return Search(arguments.url, token=read_token(arguments.token_file))


def ensure(search: Search, collection: str, **about: Any) -> None:
    """Make the collection unless it is there."""
    if collection not in {found["name"] for found in search.collections()}:
        search.create(collection, **about)


def batches(items: Iterable[_T], size: int) -> Iterator[list[_T]]:
    """Lists of up to ``size``."""
    following = iter(items)
    while part := list(islice(following, size)):
        yield part


def progress() -> Progress:
    """A progress bar on standard error."""
    return Progress(
        TextColumn("{task.description}"), BarColumn(), MofNCompleteColumn(), TimeRemainingColumn(), console=_CONSOLE
    )  # fmt: skip


def _send(search: Search, collection: str, on_conflict: Any, rows: list[Row]) -> Added:
    try:
        return search.add(collection, rows, on_conflict=on_conflict)
    except ContractMismatch:
        raise
    except InvalidInput as problem:
        if not problem.errors:
            raise
        return Added(0, 0, 0, [], problem.errors)


def _row(path: Path, folder: Path, metadata: Mapping[str, Mapping[str, Any]]) -> Row:
    name = path.relative_to(folder).as_posix()
    values = {**_beside(path), **metadata.get(name, {})}
    return Row(id=name, image=path, source=str(path.resolve()), metadata=values)


def _beside(path: Path) -> dict[str, Any]:
    """The caption in a .txt and the fields in a .json of the same name."""
    found: dict[str, Any] = {}
    if (described := path.with_suffix(".json")).is_file():
        fields = json.loads(described.read_text(encoding="utf-8"))
        found |= {name: value for name, value in fields.items() if isinstance(value, str | int | float | bool)}
    if (caption := path.with_suffix(".txt")).is_file():
        found["caption"] = caption.read_text(encoding="utf-8").strip()
    return found


def _metadata(path: Path | None) -> dict[str, dict[str, Any]]:
    """The rows of a parquet file by their ``file_name``."""
    if path is None:
        return {}
    try:
        rows = pq.read_table(path).to_pylist()
        return {row.pop("file_name"): _plain(row) for row in rows}
    except (OSError, ValueError, KeyError) as problem:
        raise InvalidInput(f"{path} can't be used ({problem}): expected parquet with a column file_name") from problem


def _plain(row: Mapping[str, Any]) -> dict[str, Any]:
    return {name: value for name, value in row.items() if isinstance(value, str | int | float | bool)}


def _term(what: str) -> Term:
    path = Path(what)
    if path.suffix.lower() in ENDINGS and path.is_file():
        return Term(image=path)
    return Term(text=what)


def _link(arguments: argparse.Namespace) -> str:
    """The page's address that restores a search by text."""
    wanted = {"collection": arguments.collection, "text": arguments.query, "filter": arguments.filter}
    return f"{arguments.url}/#{urlencode({name: value for name, value in wanted.items() if value}, quote_via=quote)}"


def _hits(hits: Iterable[Hit]) -> Table:
    table = Table("score", "id", "caption", "source", box=None)
    for hit in hits:
        table.add_row(f"{hit.score:.3f}", hit.id, str(hit.metadata.get("caption") or ""), hit.source or "")
    return table


def _told(found: Mapping[str, Any]) -> str:
    lines = [f"{found['name']}: {found['rows']} rows of {found['dimension']}, model {found['fingerprint'] or 'unknown'}"]
    lines.append("columns: " + (", ".join(f"{name} ({kind})" for name, kind in found["columns"].items()) or "none"))
    for tower, index in found["indexes"].items():
        if index["rows"]:
            known = index.get("recall") is not None
            recall = f", recall {index['recall']:.3f} of text queries" if known else ", recall not measured"
            lines.append(f"{tower}: {index['rows']} vectors, {index['engine']}{recall}")
    return "\n".join(lines)


def _copied(hit: Hit, folder: Path) -> bool:
    if not hit.source or not Path(hit.source).is_file():
        print(f"no file any more: {hit.source or hit.id}", file=sys.stderr)
        return False
    shutil.copy(hit.source, folder / Path(hit.source).name)
    return True
