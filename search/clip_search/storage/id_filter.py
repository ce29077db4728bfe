"""Id filter: tells new ids from those that may be in a table, without a look into it."""

from collections.abc import Iterable

import numpy as np
import numpy.typing as npt

from clip_search.arrays import present

_RECENT = 100_000  # hashes in a set, 6 MB, before they are sorted in


class IdFilter:
    """Filter of ids by 64-bit hashes, 8 bytes each. No false negatives; rare false positives."""

    def __init__(self, batches: Iterable[Iterable[str]]) -> None:
        hashes = [np.fromiter((hash(id) for id in batch), np.int64) for batch in batches]
        self._sorted: npt.NDArray[np.int64] = np.sort(np.concatenate([np.empty(0, np.int64), *hashes]))
        self._recent: set[int] = set()

    def agree(self, batches: Iterable[Iterable[str]]) -> None:
        """Replace the content by these ids."""
        fresh = IdFilter(batches)
        self._sorted, self._recent = fresh._sorted, fresh._recent

    def add(self, ids: Iterable[str]) -> None:
        """Add ids."""
        self._recent.update(hash(id) for id in ids)
        if len(self._recent) > _RECENT:
            self._sorted = np.union1d(self._sorted, np.fromiter(self._recent, np.int64))
            self._recent = set()  # after it, since others read the recent ones first

    def maybe(self, ids: Iterable[str]) -> list[str]:
        """Return the ids that may be there."""
        wanted, recent = list(ids), self._recent
        hashes = np.fromiter((hash(id) for id in wanted), np.int64, len(wanted))
        old = present(self._sorted, hashes)
        return [id for id, is_old, key in zip(wanted, old, hashes.tolist(), strict=True) if is_old or key in recent]
