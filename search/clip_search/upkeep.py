"""Upkeep of a collection in the background: checks of its files, compaction, index builds."""

from __future__ import annotations

import logging
import threading
import time
from concurrent.futures import Future
from functools import partial

from clip_client.errors import Unavailable
from clip_search.commits import Commits
from clip_search.errors import cleaned
from clip_search.index.block_checks import BlockChecks
from clip_search.memory_trim import trim
from clip_search.storage.table import MERGED_ROWS_A_S
from clip_search.storage.writer import Writer
from clip_search.tally import Tally
from clip_search.thread_priority import step_back

_LOG = logging.getLogger(__name__)
_PAUSE_S = 0.5
"""Pause between two rounds: new rows are searched exactly until then, which takes no longer for so few."""
_FAILED_PAUSE_S = 10.0  # a full disk or a lost store doesn't mend itself in half a second
_OPTIMIZE_COMMITS = 100
"""Commits between two compactions: LanceDB writes some 5 files each."""
_PATIENCE = 4
"""Factor on the rows that are due to be indexed while more keep coming: a build takes the cores from searches for seconds."""
_QUICK_SHARE, _SLOW_PATIENCE = 0.05, 8
"""Compaction that takes less than this share of the time isn't seen in the p95 of searches; a slower one waits longer.

It is expected to take as long as the last one, and the time for the rows that came since.
"""


class Upkeep:
    """Thread that keeps one collection in shape, beside its writer."""

    def __init__(self, name: str, commits: Commits, writer: Writer, tally: Tally) -> None:
        self._name, self._commits, self._writer, self._tally = name, commits, writer, tally
        self.failures, self.succeeded_at = 0, time.time()  # rounds that failed since the last that didn't, and when that ended
        self._table, self._cards, self._engines = commits.table, commits.cards, commits.engines
        self._checks = BlockChecks([self._cards, *self._engines.values()])
        self._seen_commits = commits.count
        self._optimized_at, self._optimized_s = commits.count - self._table.fragments(), time.monotonic()
        self._optimized_rows = len(self._table)
        self._closing = threading.Event()
        self._lock, self._rebuild_lock = threading.Lock(), threading.Lock()
        self._rebuilding: Future[None] | None = None
        self._thread = threading.Thread(target=self._run, name=f"upkeep of {name}", daemon=True)
        self._thread.start()

    def round(self) -> None:
        """Check files; compact and build indexes where that is due."""
        with self._lock:
            with self._tally.upkeep("checks"):
                self._checks.round()
            commits = self._commits.count
            patience = _PATIENCE if self._writer.expects or commits != self._seen_commits else 1
            self._seen_commits = commits
            if self._commits.unsure:
                self._writer.look_again().result()
            if not self._table.read_only and self._is_compaction_due(commits, pausing=patience == 1):
                self._optimize()
            with self._tally.upkeep("index"):
                if True in [engine.maintain(patience) for engine in self._engines.values()] or self._cards.is_due:
                    self._cards.save()

    def rebuild(self) -> None:
        """Compact the table if it is ours, index everything anew and swap it in."""
        with self._lock:
            if not self._table.read_only:
                self._optimize()
            with self._tally.upkeep("index"):
                self._cards.remake()
                for engine in self._engines.values():
                    engine.rebuild()

    def rebuild_soon(self) -> Future[None]:
        """Start :meth:`rebuild` in the background, or join one that is under way."""
        with self._rebuild_lock:
            if self._rebuilding and not self._rebuilding.done():
                return self._rebuilding
            self._rebuilding = Future()
            self._rebuilding.set_running_or_notify_cancel()  # a caller may give up, the work goes on
            work = partial(self._rebuild_for, self._rebuilding)
            threading.Thread(target=work, name=f"rebuild of {self._name}", daemon=True).start()
            return self._rebuilding

    def stop(self) -> None:
        """Begin no further round."""
        self._closing.set()

    def join(self) -> None:
        """Wait for the round under way, 5 s at most."""
        self._thread.join(timeout=5)

    def _rebuild_for(self, outcome: Future[None]) -> None:
        step_back()
        try:
            self.rebuild()
            outcome.set_result(None)
        except BaseException as problem:  # panics of LanceDB's Rust code aren't Exceptions
            self._tally.upkeep_failed()
            _LOG.exception("rebuilding collection %s failed", self._name)
            reason = f"collection {self._name} can't be rebuilt ({cleaned(problem)}): the log says more"
            outcome.set_exception(Unavailable(reason))

    def _run(self) -> None:
        step_back()
        while not self._closing.wait(_PAUSE_S):
            try:
                self.round()
                self.failures, self.succeeded_at = 0, time.time()
            except BaseException:  # as above; tried again later
                if not self._closing.is_set():
                    self.failures += 1
                    self._tally.upkeep_failed()
                    _LOG.exception("upkeep of collection %s failed", self._name)
                self._closing.wait(_FAILED_PAUSE_S)

    def _is_compaction_due(self, commits: int, *, pausing: bool) -> bool:
        """Tell if there are many files; beside rows that keep coming, very many, unless compaction is quick."""
        if commits - self._optimized_at < _OPTIMIZE_COMMITS:
            return False
        expected_s = self._table.merging_s + max(0, len(self._table) - self._optimized_rows) / MERGED_ROWS_A_S
        is_quick = expected_s < _QUICK_SHARE * (time.monotonic() - self._optimized_s)
        return commits - self._optimized_at >= _OPTIMIZE_COMMITS * (1 if pausing or is_quick else _SLOW_PATIENCE)

    def _optimize(self) -> None:
        self._optimized_at = self._commits.count
        try:
            with self._tally.upkeep("compaction"):
                self._table.index_scalars()
                self._table.optimize()
            self._optimized_rows = len(self._table)
        finally:
            self._optimized_s = time.monotonic()
            trim()
