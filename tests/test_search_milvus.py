"""Milvus engine on a real Milvus standalone: what holds for every engine, and what is its own."""

from __future__ import annotations

import inspect
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import milvus_servers
import pytest
import test_search_collection
import test_search_commits
import test_search_derived
import test_search_filters
import test_search_numbers
import test_search_upkeep
from collections_on_disk import OPTIONS, Opener
from milvus_servers import Milvus

from clip_search.collection import Collection
from clip_search.options import IndexOptions, MilvusOptions

pytestmark = [pytest.mark.long, pytest.mark.skipif(bool(milvus_servers.obstacle()), reason=milvus_servers.obstacle())]


class MilvusOpener(Opener):
    """Opens with this engine unless a test says otherwise."""

    def __init__(self, folder: Path, uri: str) -> None:
        super().__init__(folder)
        self.options = IndexOptions(
            engine="milvus", exact_rows=OPTIONS.exact_rows, tail_rows=OPTIONS.tail_rows, milvus=MilvusOptions(uri)
        )

    def open(self, options: IndexOptions | None = None) -> Collection:
        return super().open(options or self.options)


@pytest.fixture(scope="session")
def milvus(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Milvus]:
    """A running server; not to be killed."""
    with milvus_servers.running(tmp_path_factory.mktemp("milvus")) as server:
        yield server


@pytest.fixture
def opener(tmp_path: Path, milvus: Milvus) -> Iterator[MilvusOpener]:
    """A collection that is opened and opened again."""
    opener = MilvusOpener(tmp_path, milvus.uri)
    yield opener
    opener.close()


for module in (test_search_collection, test_search_commits, test_search_derived, test_search_filters, test_search_numbers, test_search_upkeep):
    for name, test in vars(module).items():
        if name.startswith("test_") and callable(test) and "opener" in inspect.signature(test).parameters:
            globals()[name] = test
