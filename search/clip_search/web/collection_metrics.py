"""Metrics of collections, read at each scrape: rows, recall, freshness, upkeep; the rest of very many as one."""

from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass

from prometheus_client.core import CounterMetricFamily, GaugeMetricFamily, Metric
from prometheus_client.registry import Collector

from clip_client.errors import ClipError
from clip_search.collection import Collection
from clip_search.sidecar import Sidecar

MOST_COLLECTIONS = 50  # with series of their own, some 20 each
OTHER = "other"
"""Label of the further collections, as one. A collection of this name, too, has its figures there if there are so many."""

_NAME = "clipserve_collection"


@dataclass(frozen=True)
class _Kind:
    """Gauge of collections, or of their towers.

    Attributes:
        read: value of a collection or of a tower's statistics; None if there is none.
        joined: how the values of several make one: their sum, or the worst of them.
    """

    name: str
    text: str
    read: Callable[..., float | None]
    joined: Callable[[list[float]], float]


_OF_TOWERS = (
    _Kind("rows", "Rows with a vector", lambda stats: stats["rows"], sum),
    _Kind(
        "unindexed_rows", "Rows that wait for their index and are searched exactly", lambda stats: stats.get("tail_rows"), sum
    ),
    _Kind("recall", "Recall at 10 reached on text queries", lambda stats: stats.get("recall"), min),
    _Kind("recall_target", "Recall at 10 that the index is tuned to", lambda stats: stats.get("recall_target"), max),
)
_OF_COLLECTIONS = (
    _Kind("behind_seconds", "Time for which changes may have gone unseen, with --read-only", lambda each: each.behind_s, max),
    _Kind("table_version", "Version of the table, one more with each commit", lambda each: each.table.version, max),
    _Kind("changes_waiting", "Changes that wait for the writer", lambda each: each.writer.waiting, sum),
    _Kind("upkeep_failures", "Rounds of upkeep that failed since the last that didn't", lambda each: each.upkeep.failures, max),
    _Kind(
        "upkeep_success_timestamp_seconds", "End of the last round of upkeep without a failure, since 1970",
        lambda each: each.upkeep.succeeded_at, min,
    ),
    _Kind(
        "damage_timestamp_seconds", "Last damage found in a file that is in use, since 1970; 0 for none since the start",
        lambda each: each.damaged_at, max,
    ),
)  # fmt: skip


class CollectionMetrics(Collector):
    """Gauges of each collection, and sums over all since the start."""

    def __init__(self, sidecar: Sidecar) -> None:
        self._sidecar = sidecar

    def describe(self) -> Iterable[Metric]:
        """Return no names."""
        return []  # or it would be collected once while it is registered

    def collect(self) -> Iterator[Metric]:
        """Yield the metrics as they are now."""
        collections = self._sidecar.collections()
        yield GaugeMetricFamily("clipserve_collections", "Collections that are open", value=len(collections))
        broken = len(dict(self._sidecar.broken))
        yield GaugeMetricFamily("clipserve_collections_broken", "Collections that can't be opened", value=broken)
        yield from _gauges(collections)
        yield from self._second_sets()
        yield from self._sums()

    def _second_sets(self) -> Iterator[Metric]:
        rows = GaugeMetricFamily(f"{_NAME}_reembedding_rows", "Rows of a second set of vectors", labels=["collection", "rows"])
        state = GaugeMetricFamily(f"{_NAME}_reembedding_state", "1 for its state", labels=["collection", "state"])
        for name, told in list(self._sidecar.seconds.states().items())[:MOST_COLLECTIONS]:
            for kind in ("embedded", "left_out", "pending"):
                rows.add_metric([name, kind], told[kind])
            state.add_metric([name, told["state"]], 1)
        yield rows
        yield state

    def _sums(self) -> Iterator[Metric]:
        tally = self._sidecar.tally
        rows = CounterMetricFamily("clipserve_row_changes", "Rows sent or deleted, by what became of them", labels=["outcome"])
        for outcome, count in tally.row_changes().items():
            rows.add_metric([outcome], count)
        seconds = CounterMetricFamily("clipserve_upkeep_seconds", "Time spent on upkeep", labels=["work"])
        for work, spent in tally.upkeep_seconds().items():
            seconds.add_metric([work], spent)
        yield rows
        yield seconds
        yield CounterMetricFamily("clipserve_upkeep_failures", "Rounds of upkeep that failed", value=tally.upkeep_failures)


def _gauges(collections: Sequence[Collection]) -> Iterator[Metric]:
    towers = {
        kind.name: GaugeMetricFamily(f"{_NAME}_{kind.name}", kind.text, labels=["collection", "tower"]) for kind in _OF_TOWERS
    }
    for (name, tower), group in _grouped_stats(collections).items():
        for kind in _OF_TOWERS:
            if values := _values(kind, group):
                towers[kind.name].add_metric([name, tower], kind.joined(values))
    yield from towers.values()
    for kind in _OF_COLLECTIONS:
        gauge = GaugeMetricFamily(f"{_NAME}_{kind.name}", kind.text, labels=["collection"])
        for name, members in _grouped(collections).items():
            if values := _values(kind, members):
                gauge.add_metric([name], kind.joined(values))
        yield gauge


def _grouped(collections: Sequence[Collection]) -> dict[str, list[Collection]]:
    """Return collections by the label that they have: their name, or that of the rest."""
    groups: dict[str, list[Collection]] = {}
    for n, collection in enumerate(collections):
        groups.setdefault(collection.name if n < MOST_COLLECTIONS else OTHER, []).append(collection)
    return groups


def _grouped_stats(collections: Sequence[Collection]) -> dict[tuple[str, str], list[dict[str, object]]]:
    """Return the statistics of engines by collection and tower."""
    groups: dict[tuple[str, str], list[dict[str, object]]] = {}
    for name, members in _grouped(collections).items():
        for collection in members:
            for tower, engine in collection.engines.items():
                try:
                    groups.setdefault((name, tower), []).append(engine.stats())
                except ClipError:  # dropped this instant, or its disk is away; the others are shown
                    continue
    return groups


def _values(kind: _Kind, members: Sequence[object]) -> list[float]:
    values = []
    for member in members:
        try:
            value = kind.read(member)
        except ClipError:  # as above
            continue
        if value is not None:
            values.append(float(value))
    return values
