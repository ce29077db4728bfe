"""clipserve's search sidecar with each of its engines, as it chooses them: imported from a folder, searched over HTTP."""

from __future__ import annotations

import shutil
import subprocess
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path
from time import perf_counter
from typing import Any

from clip_client.search import Term
from lib.processes import family
from lib.serving import CLIPSERVE, NOBODY, Sidecar, sidecar
from lib.text_like import Floats, World
from lib.vector_engines.engine import Answers, Filled, K, Memory, disk_mb, timed
from lib.vector_engines.milvus_alone import MilvusServer, milvus_server

_NAME = "bench"
_SETTLED_ROWS = 8_192  # rows that may be compared one by one
_SETTLE_S, _TUNE_S, _PAUSE_S = 24 * 3600.0, 60.0, 0.5
_FLAGS: Mapping[str, Sequence[str]] = {"faiss": (), "lancedb": ("--memory", "2"), "milvus": ()}


class SidecarEngine:
    """Collection of a sidecar; with Milvus, that server's memory and disk count, too."""

    efforts: Sequence[int] = (0,)

    def __init__(self, running: Sidecar, files: Path, world: World, milvus: MilvusServer | None) -> None:
        self._running, self._files, self._world, self._milvus = running, files, world, milvus
        self._empty_mb = self._all_mb()

    def fill(self) -> Filled:
        """As :meth:`lib.vector_engines.engine.Engine.fill`; what the import began to index is indexed again, as a whole."""
        search = self._running.search
        self._world.write(self._files)
        start = perf_counter()
        command = [str(CLIPSERVE), "search", "import", str(self._files), "--url", search.url, "--collection", _NAME]
        subprocess.run(command, check=True, stdout=subprocess.DEVNULL)
        import_s = perf_counter() - start
        shutil.rmtree(self._files)
        start = perf_counter()
        _until(self._is_settled, _SETTLE_S)
        if not self._milvus:
            start = perf_counter()
            search.rebuild(_NAME, wait=True)
        index_s = perf_counter() - start
        _until(lambda: self._index()["recall"] is not None, _TUNE_S)  # Milvus is tuned once all is indexed
        return Filled(self._world.rows / import_s, index_s)

    def search(self, queries: Floats, effort: int) -> Answers:
        """As :meth:`lib.vector_engines.engine.Engine.search`."""
        search = self._running.search
        return timed(
            lambda query: search.query(_NAME, Term(vector=query), k=K),
            queries,
            lambda hits: [int(hit.metadata["caption"].removeprefix("picture ")) for hit in hits],
        )

    def setting(self, effort: int) -> str:
        """As :meth:`lib.vector_engines.engine.Engine.setting`."""
        return described(self._index())

    def memory(self) -> Memory:
        """As :meth:`lib.vector_engines.engine.Engine.memory`."""
        server = self._milvus.processes() if self._milvus else ()
        return Memory.of([*family(self._running.process), *server])

    def disk_mb(self) -> float:
        """Return what the folders have grown by."""
        return self._all_mb() - self._empty_mb

    def _all_mb(self) -> float:
        return sum(disk_mb(folder) for folder in (self._running.folder, *([self._milvus.folder] if self._milvus else [])))

    def _index(self) -> Mapping[str, Any]:
        index: Mapping[str, Any] = self._running.search.stats(_NAME)["indexes"]["image"]
        return index

    def _is_settled(self) -> bool:
        index = self._index()
        return bool(index.get("indexed", True) and index["tail_rows"] <= _SETTLED_ROWS and not index.get("waiting_rows"))


@contextmanager
def sidecar_engine(engine: str, folder: Path, world: World) -> Iterator[SidecarEngine]:
    """Start a sidecar without a Triton, and a Milvus if it is its engine; give a collection."""
    if engine == "milvus":
        with milvus_server(folder / "milvus") as server:
            flags = ("--milvus-uri", f"http://127.0.0.1:{server.port}")
            with _started(engine, flags, folder, world, server) as collection:
                yield collection
        return
    with _started(engine, (), folder, world, None) as collection:
        yield collection


@contextmanager
def _started(
    engine: str, more: Sequence[str], folder: Path, world: World, milvus: MilvusServer | None
) -> Iterator[SidecarEngine]:
    files = folder / "files"
    files.mkdir(parents=True)
    flags = ("--engine", engine, "--images", str(folder), "--log-level", "warning", *_FLAGS[engine], *more)
    with sidecar(NOBODY, *flags) as running:
        yield SidecarEngine(running, files, world, milvus)


def described(index: Mapping[str, Any]) -> str:
    """Return what an index is and how it is searched, as its statistics tell."""
    if parts := index.get("parts"):
        return ", ".join(f"{part['kind']}, effort {part['effort']} ({part['source']})" for part in parts)
    if index["engine"] == "lancedb":
        return f"{index['kind']}, probes {index['probes']}, refine {index['refine']} ({index['source']})"
    return f"HNSW, ef {index['effort']} ({index['source']})"


def _until(condition: Callable[[], bool], limit_s: float) -> bool:
    """Wait for something; return False if it doesn't happen within the limit."""
    deadline = time.monotonic() + limit_s
    while not condition():
        if time.monotonic() > deadline:
            return False
        time.sleep(_PAUSE_S)
    return True
