"""Mix of requests to a search sidecar and to Triton, which changes rows without making more of them."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Mapping, Sequence

from clip_client import Clip, Search
from clip_client.search import Row, Term
from lib.clustered_rows import NAME, YEARS, Floats, rows
from lib.samples import texts

REPLACED, PICTURE_ROWS, FILL = 3, 200, 500
_STEP = 7  # from the row of one request to that of the next
ORDER = (
    "text search", "replacement of rows", "text search", "vector search", "picture added", "text search", "filtered search",
    "deletion", "text embedded", "vector search", "text search", "replacement of rows", "picture search", "filtered search",
    "picture embedded", "vector search", "deletion", "text search", "picture added", "text embedded",
)  # fmt: skip
"""Kinds of requests, in turns."""


class Mix:
    """Requests by number. A row that one takes away comes back with it, so the collection stays as large as it is.

    Args:
        vectors: of the rows, float32 [N, D].
        pictures: encoded files.
    """

    def __init__(self, search: Search, clip: Clip, vectors: Floats, pictures: Sequence[bytes]) -> None:
        self._search, self._clip, self._vectors, self._pictures = search, clip, vectors, pictures
        self._senders: Mapping[str, Callable[[int], object]] = {
            "text search": lambda n: search.query(NAME, _text(n)),
            "vector search": lambda n: search.query(NAME, self._vector(n)),
            "filtered search": lambda n: search.query(NAME, self._vector(n), where=f"year > {n % YEARS}"),
            "picture search": lambda n: search.query(NAME, Term(image=self._picture(n))),
            "replacement of rows": lambda n: self._put(self._place(n), REPLACED),
            "deletion": self._delete,
            "picture added": lambda n: self._add_pictures(n, 1),
            "text embedded": lambda n: clip.embed_text(_text(n)),
            "picture embedded": lambda n: clip.embed_image(self._picture(n)),
        }

    @property
    def rows(self) -> int:
        """Number of rows that the collection always has, but for those that are on their way back."""
        return len(self._vectors) + PICTURE_ROWS

    def fill(self) -> None:
        """Make the collection."""
        spec = self._clip.spec
        columns = {"year": "int", "caption": "string"}
        self._search.create(NAME, dimension=spec.embedding_size, fingerprint=spec.fingerprint, columns=columns)
        for start in range(0, len(self._vectors), FILL):
            self._put(start, FILL)
        for start in range(0, PICTURE_ROWS, 20):
            self._add_pictures(start, 20)

    def send(self, number: int) -> None:
        """Send the request of a number; its kind is :func:`kind`."""
        self._senders[kind(number)](number)

    def _put(self, start: int, count: int) -> None:
        self._search.add(NAME, rows(self._vectors, start, count, "r"), on_conflict="replace")

    def _delete(self, number: int) -> None:
        place = self._place(number)
        self._search.delete(NAME, [f"r{place}"])
        self._put(place, 1)

    def _add_pictures(self, number: int, count: int) -> None:
        places = [(number + n) % PICTURE_ROWS for n in range(count)]
        metadata = {"caption": f"picture {number}"}
        added = [Row(id=f"p{place}", image=self._picture(number + place), metadata=metadata) for place in places]
        self._search.add(NAME, added, on_conflict="replace")

    def _place(self, number: int) -> int:
        return number * _STEP % (len(self._vectors) - REPLACED)

    def _vector(self, number: int) -> Term:
        return Term(vector=self._vectors[self._place(number)])

    def _picture(self, number: int) -> bytes:
        return self._pictures[number % len(self._pictures)]


def kind(number: int) -> str:
    """Return the kind of a request."""
    return ORDER[number % len(ORDER)]


def described() -> str:
    """Return the kinds and their shares in words."""
    return ", ".join(f"{share / len(ORDER):.0%} {name}" for name, share in Counter(ORDER).most_common())


def _text(number: int) -> str:
    """Return a text that no other number has."""
    [text] = texts(1, seed=number, words=2 + number % 11)
    return f"{text} {number}"
