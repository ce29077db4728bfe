"""Collection of a running sidecar."""

from collections.abc import Collection as Several
from collections.abc import Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from typing import Any

from clip_client.errors import InvalidInput
from clip_client.search import Hit, Row, Search
from clip_client.spec import TOWERS
from clip_search.cli.commands import batches
from clip_search.cli.copying.ends import TOGETHER, CopiedRow, Description, Written

_PICTURES = 8  # thumbnails that are asked for at once


class SidecarEnd:
    """Collection that is read and written over HTTP, by number and id."""

    def __init__(self, url: str, token: str, name: str, *, timeout_s: float) -> None:
        self._search, self._name = Search(url, token=token, timeout_s=timeout_s), name
        self._pool = ThreadPoolExecutor(_PICTURES)

    def describe(self) -> Description | None:
        every = {about["name"]: about for about in self._search.collections()}
        if (about := every.get(self._name)) is None:
            return None
        return Description(about["dimension"], about["fingerprint"], about["columns"], about["rows"])

    def make(self, about: Description) -> None:
        self._search.create(self._name, dimension=about.size, fingerprint=about.fingerprint, columns=about.columns)

    def ids(self) -> Iterator[list[str]]:
        for rows in batches(self._search.rows(self._name), TOGETHER):
            yield [row["id"] for row in rows]

    def present(self, ids: Sequence[str]) -> Several[str]:
        return {row["id"] for row in self._search.get(self._name, ids)}

    def get(self, ids: Sequence[str]) -> list[CopiedRow]:
        rows = self._search.get(self._name, ids, vectors=True)
        return [_copied(row, picture) for row, picture in zip(rows, self._pool.map(self._thumbnail, rows), strict=True)]

    def add(self, rows: Sequence[CopiedRow], about: Description, *, replace: bool) -> Written:
        try:
            on_conflict: Any = "replace" if replace else "skip"
            more: dict[str, Any] = {"fingerprint": about.fingerprint, "columns": about.columns}
            added = self._search.add(self._name, [_sent(row) for row in rows], on_conflict=on_conflict, **more)
        except InvalidInput as problem:
            if not problem.errors:
                raise
            return Written(errors={rows[n].id: reason for n, reason in problem.errors.items()})
        return Written(added.added, added.replaced, {rows[n].id: reason for n, reason in added.errors.items()})

    def close(self) -> None:
        self._pool.shutdown(cancel_futures=True)
        self._search.close()

    def _thumbnail(self, row: dict[str, Any]) -> bytes | None:
        if not row["thumbnail"]:
            return None
        return self._search.thumbnail(Hit(row["id"], row["row"], 0.0, row["source"], row["thumbnail"], {}))


def _copied(row: dict[str, Any], thumbnail: bytes | None) -> CopiedRow:
    vectors = {tower: row[f"vector_{tower}"] for tower in TOWERS if row.get(f"vector_{tower}") is not None}
    metadata = {name: value for name, value in row["metadata"].items() if value is not None}
    return CopiedRow(row["id"], vectors, metadata, row["source"], row.get("source_state"), thumbnail)


def _sent(row: CopiedRow) -> Row:
    return Row(
        id=row.id,
        image=row.thumbnail,
        vector=row.vectors.get("image"),
        text_vector=row.vectors.get("text"),
        metadata=row.metadata,
        source=row.source,
        source_state=row.source_state,
    )
