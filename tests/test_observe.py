"""Metrics, rules and dashboards: Debian's Prometheus on real servers, faults that are made, and what it tells of them."""

from __future__ import annotations

import itertools
import json
import re
import signal
from collections import Counter
from collections.abc import Iterator
from pathlib import Path

import observed_world
import prometheus_servers
import pytest
import urllib3
from observed_world import NAME, World, address
from prometheus_servers import DASHBOARDS, OBSERVE, RULES, panels, promtool, rules
from servers import Server
from sidecars import PICTURES, SIZE, Sidecar, unit

from clip_client import ModelSpec
from clip_client.search import Row, Search
from clip_search.options import Options
from clip_search.sidecar import Sidecar as InProcess
from clip_search.storage.rows import NewRow
from clip_search.web import collection_metrics

ROOT = Path(__file__).parents[1]
TESTED = ROOT / "tests" / "data" / "alerts.yml"
needs_prometheus = pytest.mark.skipif(bool(prometheus_servers.obstacle()), reason=prometheus_servers.obstacle() or "-")


@needs_prometheus
def test_configuration_and_rules_are_sound() -> None:
    for kind, paths in (("config", [OBSERVE / "prometheus.yml"]), ("rules", RULES)):
        status, told = promtool("check", kind, *paths)
        assert (status, "FAILED" in told) == (0, False), told


@needs_prometheus
def test_alerts_fire_after_their_time_and_not_before() -> None:
    status, told = promtool("test", "rules", TESTED)
    assert status == 0, told
    assert all(f"alertname: {name}" in TESTED.read_text() for name in rules("alert"))


@needs_prometheus
def test_metrics_follow_the_conventions(sidecar: Sidecar, server: Server, search: Search, photos: str) -> None:
    assert promtool("check", "metrics", text=sidecar.ask("GET", "/metrics")[1]) == (0, "")
    text = urllib3.request("GET", f"http://127.0.0.1:{server.ports[2]}/metrics").data
    _, told = promtool("check", "metrics", text=text)
    assert {line.split("_")[0] for line in told.splitlines()} == {"nv"}  # Triton's own, which the recording rules rename


def test_the_rest_of_many_collections_is_one(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(collection_metrics, "MOST_COLLECTIONS", 1)
    owner = InProcess(Options(str(tmp_path), triton="127.0.0.1:9"))
    owner.open_all()
    for name, count in (("a", 2), ("b", 3), ("c", 4)):
        rows = [NewRow(f"r{n}", {"image": vector}, {}) for n, vector in enumerate(unit(count))]
        owner.create(name, SIZE, "model1", {}).add(rows, on_conflict="error", fingerprint="").result()
    try:
        figures = {
            (sample.name.removeprefix("clipserve_collection_"), *sample.labels.values()): sample.value
            for metric in collection_metrics.CollectionMetrics(owner).collect()
            for sample in metric.samples
        }
    finally:
        owner.close()
    assert (figures["rows", "a", "image"], figures["rows", "other", "image"]) == (2, 7)
    assert (figures["unindexed_rows", "other", "image"], figures["recall", "other", "image"]) == (7, 1)
    assert figures["clipserve_collections",] == 3
    assert {labels[0] for _, *labels in figures if labels} >= {"a", "other"}
    assert not {"b", "c"} & {labels[0] for _, *labels in figures if labels}


def test_rows_are_counted_by_what_became_of_them(sidecar: Sidecar, search: Search, photos: str) -> None:
    def changes() -> Counter[str]:
        text = sidecar.ask("GET", "/metrics")[1].decode()
        found = re.findall(r'^clipserve_row_changes_total\{outcome="(\w+)"\} (\S+)$', text, re.MULTILINE)
        return Counter({outcome: int(float(count)) for outcome, count in found})

    before = changes()
    good, bad = Row(id="new", image=PICTURES[3]), Row(id="bad", image=b"no picture")
    search.add(photos, [good, bad])
    search.add(photos, [good], on_conflict="skip")
    search.add(photos, [good], on_conflict="replace")
    search.delete(photos, ids=["new", "p1"])
    assert changes() - before == {"added": 1, "refused": 1, "skipped": 1, "replaced": 1, "deleted": 2}


def test_dashboards_read_from_the_source_that_is_provided() -> None:
    for path in DASHBOARDS:
        dashboard = json.loads(path.read_text())
        every = dashboard["panels"]
        assert len({panel["id"] for panel in every}) == len(every)
        assert {panel["datasource"]["uid"] for panel in every if panel["type"] != "row"} == {"clipserve"}
        cells = [cell for panel in every for cell in _cells(panel["gridPos"])]
        assert len(cells) == len(set(cells))
        assert max(x for x, _ in cells) < 24
    assert "uid: clipserve\n" in (OBSERVE / "grafana/provisioning/datasources/prometheus.yml").read_text()


def _cells(place: dict[str, int]) -> list[tuple[int, int]]:
    columns, lines = range(place["x"], place["x"] + place["w"]), range(place["y"], place["y"] + place["h"])
    return list(itertools.product(columns, lines))


def test_every_alert_has_a_runbook() -> None:
    text = (OBSERVE / "rules" / "alerts.yml").read_text()
    page = (ROOT / "docs" / "operations" / "alerts.md").read_text()
    for name in rules("alert"):
        assert f"runbook: docs/operations/alerts.md#{name.lower()}\n" in text
        assert f"\n## {name}\n" in page
    assert page.count("\n## ") == len(rules("alert"))


@pytest.fixture(scope="module")
def world(repository: Path, spec: ModelSpec, tmp_path_factory: pytest.TempPathFactory) -> Iterator[World]:
    world = World(tmp_path_factory.mktemp("observed"), repository, spec)
    yield world
    world.close()


@needs_prometheus
@pytest.mark.long
def test_each_alert_fires_when_its_fault_is_made_and_stops_after(world: World) -> None:
    """In the order that costs least: the index is bad from the start, and the follower has too little memory."""
    prometheus, writer, follower = world.prometheus, address(world.sidecar), address(world.follower)
    triton = f"127.0.0.1:{world.server.ports[2]}"

    prometheus.wait_firing("ClipserveRecallLow", writer)
    prometheus.wait_firing("ClipserveMemoryHigh", follower)
    assert [world.ask_by_vector(), world.ask_by_picture(), world.ask(text="a cat"), world.ask(text="a cat")] == [200] * 4
    assert world.sidecar.ask("POST", f"/v1/collections/{NAME}/rebuild?wait=true")[0] == 200
    prometheus.wait_quiet("ClipserveRecallLow", writer)

    observed_world.damage(world.disk)
    prometheus.wait_firing("ClipserveFilesDamaged", writer)

    world.mount.rename(world.mount.with_name("away"))
    prometheus.wait_firing("ClipserveIndexStale", follower)
    world.mount.with_name("away").rename(world.mount)
    prometheus.wait_quiet("ClipserveIndexStale", follower)

    world.follower.process.kill()
    world.follower.process.wait()
    prometheus.wait_firing("ClipserveDown", follower)
    world.follower = world.follow(port=world.follower.port)
    prometheus.wait_quiet("ClipserveDown", follower)
    prometheus.wait_quiet("ClipserveMemoryHigh", follower)

    with world.busy(60, world.ask_by_picture):
        with world.relay.stalled():
            prometheus.wait_firing("ClipserveQueueGrowing", writer)
        prometheus.wait_firing("ClipserveSlow", writer)
        with world.halting(world.server.stub("clip_image_encoder")):
            prometheus.wait_firing("ClipserveTritonFailures", triton)
            prometheus.wait_firing("ClipserveErrors", writer)
    with world.busy(1, world.ask_by_vector):
        for name in ("ClipserveQueueGrowing", "ClipserveSlow", "ClipserveErrors"):
            prometheus.wait_quiet(name, writer)
        prometheus.wait_quiet("ClipserveTritonFailures", triton)

    world.server.tritonserver().send_signal(signal.SIGSEGV)
    prometheus.wait_firing("ClipserveDown", triton)
    prometheus.wait_firing("ClipserveNotReady", writer)
    prometheus.wait_firing("ClipserveTritonCrashing", triton)
    for name, instance in (("Down", triton), ("NotReady", writer), ("TritonCrashing", triton), ("FilesDamaged", writer)):
        prometheus.wait_quiet(f"Clipserve{name}", instance)
    fired = {labels["alertname"] for labels, _ in prometheus.series('ALERTS{alertstate="firing"}')}
    assert fired | {"ClipserveDiskNearlyFull", "ClipserveUpkeepFailing"} == set(rules("alert"))


@needs_prometheus
@pytest.mark.long
def test_a_full_disk_is_told_and_its_end(world: World) -> None:
    if not world.has_own_disk:
        pytest.skip("no disk of its own can be had here: unshare --mount")
    prometheus, writer = world.prometheus, address(world.sidecar)
    ballast = world.disk / "ballast"
    with pytest.raises(OSError, match="No space left"):
        ballast.write_bytes(bytes(observed_world.DISK_MB * 2**20))
    prometheus.wait_firing("ClipserveDiskNearlyFull", writer)
    observed_world.damage(world.disk)  # it can't be written again
    prometheus.wait_firing("ClipserveUpkeepFailing", writer)
    ballast.unlink()
    prometheus.wait_quiet("ClipserveDiskNearlyFull", writer)
    prometheus.wait_quiet("ClipserveUpkeepFailing", writer)


@needs_prometheus
@pytest.mark.long
def test_every_panel_and_rule_had_figures(world: World) -> None:
    """Over the time of the tests above, which made traffic and faults of all kinds."""
    expressions = {f"panel {title}": expression for title, _, expression, _ in panels()}
    recorded = {f"rule {name}": name for name in rules("record")}
    empty = [name for name, expression in {**expressions, **recorded}.items() if not world.prometheus.series(expression)]
    assert empty == [], empty
