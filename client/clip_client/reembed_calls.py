"""Calls about a collection that goes over to another model."""

from __future__ import annotations

from collections.abc import AsyncIterator
from typing import Any
from urllib.parse import quote, urlencode

from clip_client.sidecar_http import AwaitableSidecar

_PAGE = 1_000


class ReembedCalls:
    """Calls about second sets of vectors."""

    _http: AwaitableSidecar

    async def reembed(
        self,
        collection: str,
        to: str,
        *,
        missing: float = 0.01,
        share_of_cores: float = 0.5,
        thumbnails: bool = False,
    ) -> dict[str, Any]:
        """Embed a collection with another model in the background, then let that answer; return how far it is.

        Args:
            to: name of a published checkpoint, or number of a version.
            missing: share of the rows that may be left out, since their pictures can't be had any more.
            share_of_cores: share of the time in which the model embeds for it.
            thumbnails: embed the small pictures that the sidecar keeps where the others can't be had.

        Raises:
            InvalidInput: more rows can't be embedded than may be missing, or the model's space is the collection's.
            Conflict: it has a second set of vectors already.
            Unavailable: the model isn't served, or the disk is full.
        """
        wish = {"to": str(to), "missing": missing, "share_of_cores": share_of_cores, "thumbnails": thumbnails}
        return await self._http.ask("POST", _path(collection), wish)

    async def reembedding(self, collection: str) -> dict[str, Any]:
        """Return how far a collection's second set of vectors is.

        Raises:
            NotFound: there is none.
        """
        return await self._http.ask("GET", _path(collection))

    async def left_out(self, collection: str, *, after: int = -1) -> AsyncIterator[dict[str, Any]]:
        """Iterate over the rows that the newer set of vectors lacks: ``row``, ``id`` and ``reason``."""
        following: int | None = after
        while following is not None:
            answer = await self._http.ask(
                "GET", f"{_path(collection)}/left-out?{urlencode({'after': following, 'limit': _PAGE})}"
            )
            for row in answer["rows"]:
                yield row
            following = answer["next"]

    async def reembed_back(self, collection: str, *, to: str | None = None) -> dict[str, Any]:
        """Let the set of vectors that is kept answer again, once it has the rows that came since.

        Args:
            to: name by which its checkpoint answers now; as before if None.

        Raises:
            NotFound: there is none.
            Conflict: the collection goes over already.
            ContractMismatch, Unavailable: its model isn't served.
        """
        return await self._http.ask("POST", f"{_path(collection)}/back", {"to": to})

    async def drop_old_vectors(self, collection: str) -> dict[str, Any]:
        """Remove the set of vectors that doesn't answer, for good, or the one that is being made.

        Raises:
            NotFound: there is none.
            Unavailable: it can't be removed now.
        """
        return await self._http.ask("DELETE", _path(collection))


def _path(collection: str) -> str:
    return f"/v1/collections/{quote(collection, safe='')}/reembed"
