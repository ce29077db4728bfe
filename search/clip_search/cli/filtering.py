"""``search filter``: copy the files of the best matches, each under a name of its own."""

import argparse
import filecmp
import itertools
import os
import shutil
from collections.abc import Iterator
from pathlib import Path
from typing import BinaryIO

from clip_client.counting import counted
from clip_client.errors import InvalidInput
from clip_client.file_names import source_path
from clip_client.progress_bars import say
from clip_client.regular_files import open_regular
from clip_client.search import Hit
from clip_search.cli.books import Books
from clip_search.cli.commands import client, term


def filter_(arguments: argparse.Namespace) -> int:
    """Copy the files of the best matches; name those that are gone."""
    try:
        arguments.output_folder.mkdir(parents=True, exist_ok=True)
    except OSError as problem:
        raise InvalidInput(f"{arguments.output_folder} can't be made ({problem}): name a folder") from problem
    with client(arguments) as search:
        hits = search.query(
            arguments.collection,
            term(arguments.query, as_text=arguments.text),
            k=arguments.num_results,
            threshold=arguments.threshold,
            where=arguments.filter,
        )
    with Books(arguments.errors, say) as books:
        copies = _Copies(arguments.output_folder, books)
        for hit in hits:
            copies.take(hit)
        print(
            f"{books.added + books.unchanged} of {counted(len(hits), 'match', 'matches')} copied to {arguments.output_folder}"
        )
        if hits:
            print(f"scores from {hits[-1].score:.3f} to {hits[0].score:.3f}")
        print(books.closing())
        return books.status()


class _Copies:
    """Output folder, in which no file is ever overwritten."""

    def __init__(self, folder: Path, books: Books) -> None:
        self._folder, self._books = folder, books
        self._targets: set[str] = set()
        self._sources: set[str] = set()

    def take(self, hit: Hit) -> None:
        """Copy the file of a hit, unless the same file is there."""
        source = source_path(hit.source or "")
        try:
            if not hit.source or not os.path.exists(source):
                raise InvalidInput(f"no file any more: {hit.source or 'its row has no source'}")
            if source in self._sources or not self._copied(source):
                self._books.unchanged += 1
            else:
                self._books.added += 1
            self._sources.add(source)
        except (InvalidInput, OSError, ValueError) as problem:
            self._books.leave_out(hit.id, str(problem))

    def _copied(self, source: str) -> bool:
        """Copy a file to the first free name; return false if it is there under that name."""
        with open_regular(source) as file:
            for target in self._names(os.path.basename(source)):
                if target in self._targets:
                    continue
                try:
                    copy = open(target, "xb")  # noqa: SIM115  (closed below; "x" never opens what is there)
                except FileExistsError:
                    if os.path.isfile(target) and filecmp.cmp(source, target, shallow=False):
                        self._targets.add(target)
                        return False
                    continue
                self._targets.add(target)
                self._write(file, copy, target)
                return True
        raise AssertionError("names never end")

    def _write(self, file: BinaryIO, copy: BinaryIO, target: str) -> None:
        try:
            with copy:
                shutil.copyfileobj(file, copy)
        except OSError:
            os.unlink(target)  # half a file is none
            raise

    def _names(self, name: str) -> Iterator[str]:
        """Yield the file's own name, then names with a number."""
        stem, ending = os.path.splitext(name)
        yield str(self._folder / name)
        for number in itertools.count(2):
            yield str(self._folder / f"{stem}-{number}{ending}")
