"""The client's verbs ``query``, ``stats`` and ``rebuild``, and what all verbs share."""

import argparse
import json
import math
import os
from collections.abc import Iterable, Iterator, Mapping
from itertools import islice
from pathlib import Path
from typing import Any, TypeVar

from clip_client import notices
from clip_client.counting import counted
from clip_client.errors import InvalidInput
from clip_client.file_names import source_path
from clip_client.picture_files import is_picture_name
from clip_client.search import Search, Term
from clip_client.terminal import Console
from clip_search.cli import hit_output, page_link, second_vectors
from clip_search.cli.token_file import read_token

_T = TypeVar("_T")


def query(arguments: argparse.Namespace) -> int:
    """Search, and print the hits."""
    with client(arguments) as search:
        wanted = term(arguments.query, as_text=arguments.text)
        hits = search.query(arguments.collection, wanted, k=arguments.k, where=arguments.filter)
        hit_output.show(hits, arguments)
        if arguments.open:
            page_link.open_page(search, arguments, wanted)
    return 0


def stats(arguments: argparse.Namespace) -> int:
    """Print a collection's size, model, columns and indexes."""
    with client(arguments) as search:
        stats = search.stats(arguments.collection)
    print(json.dumps(stats) if arguments.json else _told(stats))
    return 0


def rebuild(arguments: argparse.Namespace) -> int:
    """Index everything anew and wait for it."""
    status = Console(stderr=True).status(f"indexing {arguments.collection}")
    with client(arguments) as search, status:
        stats = search.rebuild(arguments.collection, wait=True)
    print(_told(stats))
    return 0


def client(arguments: argparse.Namespace) -> Search:
    """Make a client from the options; the environment has what they leave open."""
    return Search(arguments.url, token=read_token(arguments.token_file), timeout_s=arguments.timeout)


def ensure(search: Search, collection: str, **about: Any) -> None:
    """Make the collection unless it exists."""
    if collection not in {about["name"] for about in search.collections()}:
        search.create(collection, **about)


def batches(items: Iterable[_T], size: int) -> Iterator[list[_T]]:
    """Yield lists of up to ``size`` items."""
    following = iter(items)
    while part := list(islice(following, size)):
        yield part


def term(query: str, *, as_text: bool = False) -> Term:
    """Make a term: the picture at a path or a URL, else a text.

    Raises:
        InvalidInput: the path of a picture that isn't there.
    """
    if as_text:
        return Term(text=query)
    if query.lower().startswith(("http://", "https://")):
        return Term(image_url=query)
    path = source_path(query)
    if not is_picture_name(path):
        return Term(text=query)
    if not os.path.lexists(path):
        raise InvalidInput(f"there is no picture {path}: check the path, or pass --text to search for these words")
    return Term(image=Path(path))


def _told(stats: Mapping[str, Any]) -> str:
    fingerprint = stats["fingerprint"] or "unknown"
    served = f"{stats['model']} ({fingerprint})" if stats.get("model") else fingerprint
    lines = [f"{stats['name']}: {counted(stats['rows'], 'row')} of {stats['dimension']}, model {served}"]
    if notice := notices.told(notices.cleaned(stats.get("notice", ""))):
        lines.append(f"notice: {notice}")
    lines.append("columns: " + (", ".join(f"{name} ({kind})" for name, kind in stats["columns"].items()) or "none"))
    if second := stats.get("reembedding"):
        lines.append(f"second vectors: {second_vectors.told(second)}")
    indexes = {tower: index for tower, index in stats["indexes"].items() if index["rows"]}
    return "\n".join([*lines, *(f"{tower}: {_index_told(index)}" for tower, index in indexes.items())])


def _index_told(index: Mapping[str, Any]) -> str:
    """Return size, engine and recall of an index, worded so that nobody takes the recall for the model's quality."""
    recall = index.get("recall")
    compared = "isn't compared with an exact search yet"
    if recall is not None:
        compared = f"finds {_percent(recall)} of what an exact search finds"
    return f"{counted(index['rows'], 'vector')}, {index['engine']}; the index {compared}"


def _percent(share: float) -> str:
    """Return a share in percent, rounded down: 100 is all."""
    return f"{math.floor(1000 * share + 1e-9) / 10:g} %"
