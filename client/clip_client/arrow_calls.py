"""Verbs of the sidecar's API that send and get rows in Arrow's form."""

from __future__ import annotations

import contextlib
import os
from collections.abc import AsyncIterator
from typing import TYPE_CHECKING, Any, Literal
from urllib.parse import quote, urlencode

from clip_client.concurrency import Concurrency
from clip_client.errors import InvalidInput, Unavailable
from clip_client.rows_and_hits import Added, OnConflict
from clip_client.sidecar_http import AwaitableSidecar

if TYPE_CHECKING:
    import pyarrow as pa

_MOST_BYTES = 2**31  # of a page: 10,000 rows with two vectors of 16,384


class ArrowCalls:
    """Calls with tables and record batches of pyarrow."""

    _http: AwaitableSidecar
    _concurrency: Concurrency

    async def add_arrow(
        self,
        collection: str,
        rows: pa.Table | pa.RecordBatch,
        *,
        on_conflict: OnConflict = "error",
        fingerprint: str = "",
        compare: bool = False,
    ) -> Added:
        """Add rows whose vectors are ready, many times faster than :meth:`add`; returns once they are durable and searchable.

        Args:
            rows: at most 10,000, with ``vector_image``, ``vector_text`` or both (lists of floats), perhaps ``id``, ``source``,
                ``source_state`` and ``thumbnail`` (an encoded picture); other columns are metadata.
            fingerprint: of the model that made the vectors.
            compare: name in ``others`` the rows that are skipped though their vectors differ.

        Raises:
            InvalidInput: no row is good, or a column can't be taken.
            Conflict: an id is there already and ``on_conflict`` is ``error``.
            NotFound: no such collection, or a sidecar that is older than this verb.
            TooLarge: send fewer rows at once.
            ContractMismatch: the collection holds vectors of another model.
            Unavailable: the sidecar is down, the disk is full, or pyarrow isn't installed.
        """
        [body] = await self._concurrency.apply(_written, [rows], 1)
        options = {"on_conflict": on_conflict, "fingerprint": fingerprint, "compare": str(compare).lower()}
        answer = await self._http.ask("POST", f"{_path(collection)}?{urlencode(options)}", body)
        errors = {int(error["index"]): str(error["message"]) for error in answer["errors"]}
        return Added(answer["added"], answer["replaced"], answer["skipped"], answer["ids"], errors, answer["others"])

    async def import_folder(
        self,
        collection: str,
        folder: str | os.PathLike[str],
        *,
        prefix: str = "",
        on_conflict: Literal["skip", "replace"] = "skip",
        fingerprint: str = "",
    ) -> AsyncIterator[dict[str, Any]]:
        """Let the sidecar read a folder of its own machine; iterate over the outcomes of some rows at a time.

        An outcome has ``rows``, ``added``, ``unchanged``, ``replaced``, and lists of names with reasons: ``left_out``, and
        ``notes`` on rows that are in.
        Whoever stops iterating ends the import; another goes on, since rows that are there are unchanged.

        Args:
            folder: of ``clipserve embed`` or clip-retrieval, below the folders that the sidecar reads (``--images``).
            prefix: in front of each row's number, which together are its id.
            fingerprint: of the model that made the vectors, if its files don't say.

        Raises:
            InvalidInput: the sidecar may not read it, there is another folder, or it can't be imported.
            NotFound: no such collection, or a sidecar that is older than this verb.
        """
        path = os.path.realpath(folder)
        wanted: dict[str, Any] = {"folder": path, "prefix": prefix, "on_conflict": on_conflict, "fingerprint": fingerprint}
        if os.path.isdir(path):
            status = os.stat(path)
            wanted["state"] = [status.st_ino, status.st_mtime_ns]
        async with contextlib.aclosing(
            self._http.lines(f"/v1/collections/{quote(collection, safe='')}/import", wanted)
        ) as lines:
            async for line in lines:
                yield line

    async def arrow_rows(
        self, collection: str, *, where: str = "", vectors: bool = False, after: int = -1, page: int = 5000
    ) -> AsyncIterator[pa.Table]:
        """Iterate over rows that a filter keeps, in tables: :meth:`rows` in Arrow's form, with column types of the collection.

        Args:
            after: number of the row behind which to begin.
            page: rows of a table, 10,000 at most.

        Raises:
            NotFound: as :meth:`add_arrow`.
        """
        more = True
        while more:
            options = {"filter": where, "vectors": str(vectors).lower(), "limit": page, "after": after}
            body = await self._http.content(f"{_path(collection)}?{urlencode(options)}", _MOST_BYTES)
            [table] = await self._concurrency.apply(_read, [body], 1)
            more = len(table) == page
            if len(table):
                after = table["row"][-1].as_py()
                yield table


def _written(rows: Any) -> bytes:
    pa = _pyarrow()
    if not isinstance(rows, pa.Table | pa.RecordBatch):
        raise InvalidInput(f"rows is a {type(rows).__name__}: expected a pyarrow Table or RecordBatch")
    sink = pa.BufferOutputStream()
    with pa.ipc.new_stream(sink, rows.schema) as writer:
        writer.write(rows)
    return bytes(sink.getvalue())


def _read(body: bytes) -> pa.Table:
    pa = _pyarrow()
    try:
        return pa.ipc.open_stream(body).read_all()
    except (pa.ArrowException, OSError) as problem:
        raise Unavailable(f"the answer is no Arrow stream ({problem}): is something else listening there?") from problem


def _pyarrow() -> Any:
    try:
        import pyarrow
    except ImportError as problem:
        raise Unavailable(f"Arrow needs another package ({problem}): pip install pyarrow") from problem
    return pyarrow


def _path(collection: str) -> str:
    return f"/v1/collections/{quote(collection, safe='')}/arrow"
