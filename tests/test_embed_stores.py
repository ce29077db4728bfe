"""``clipserve embed`` from and to object stores, and to other file systems."""

from __future__ import annotations

import io
import json
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import bulk_runs
import fsspec
import numpy as np
import obstore
import pyarrow.parquet as pq
import pytest
from bulk_runs import Embed, embed, wait_for
from obstore.store import MemoryStore
from seaweed import Seaweed

from clip_embed import leases
from clip_embed.cli import main

ITEMS = 8  # of a shard


@pytest.fixture(scope="module")
def seaweed(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Seaweed]:
    """A store; not to be stopped."""
    seaweed = Seaweed(tmp_path_factory.mktemp("seaweed") / "data")
    yield seaweed
    seaweed.stop()


@pytest.fixture
def own(tmp_path: Path) -> Iterator[Seaweed]:
    """A store to be stopped."""
    seaweed = Seaweed(tmp_path / "data")
    yield seaweed
    seaweed.stop()


@pytest.fixture
def slow(tmp_path: Path) -> str:
    """Shards of which each takes a while."""
    return f"pipe:sleep 0.5; cat {bulk_runs.shards(tmp_path / 'in', 12, ITEMS)}"


def records(seaweed: Seaweed, output: str) -> dict[str, bytes]:
    """Records of the parts that are done."""
    return seaweed.get(f"{output}/_clipserve/done")


def assert_whole(seaweed: Seaweed, output: str, repository: Path, items: int) -> None:
    """Each item is in once."""
    there = {name: content for name, content in seaweed.get(output).items() if not name.startswith("_clipserve/")}
    bulk_runs.assert_whole(there, repository, items)
    assert not seaweed.get(f"{output}/_clipserve/claims")


@pytest.mark.slow
def test_a_killed_run_with_a_failing_part_is_whole_in_the_end(seaweed: Seaweed, repository: Path) -> None:
    shards = {f"in/{n:02d}.tar": bulk_runs.shard(n * ITEMS, ITEMS) for n in range(16)}
    seaweed.put({name: content for name, content in shards.items() if name != "in/03.tar"})
    order = ("s3://bucket/in/{00..15}.tar", "s3://bucket/killed", "--repository", repository, "--json")
    run = Embed(*order, **seaweed.environment)
    wait_for(lambda: len(records(seaweed, "killed")) >= 2)
    run.process.kill()
    run.ended()
    before = records(seaweed, "killed")
    failing = embed(*order, **seaweed.environment)
    assert failing.process.returncode == 1
    assert (failing.books["done"], list(failing.books["failed"])) == (15, ["3"])
    assert "03.tar" in failing.books["failed"]["3"]
    seaweed.put(shards)
    last = embed(*order, **seaweed.environment)
    assert last.process.returncode == 0, last.err
    assert (last.books["items"], last.books["taken"]) == (ITEMS, 16 * ITEMS)
    assert before.items() <= records(seaweed, "killed").items()
    assert_whole(seaweed, "killed", repository, 16 * ITEMS)


@pytest.mark.slow
def test_two_runs_at_once_share_the_work(seaweed: Seaweed, slow: str, repository: Path) -> None:
    order = (slow, "s3://bucket/both", "--repository", repository, "--json")
    runs = [Embed(*order, **seaweed.environment) for _ in range(2)]
    assert [run.ended() for run in runs] == [0, 0], [run.err for run in runs]
    shares = [run.books["items"] for run in runs]
    assert sum(shares) == 12 * ITEMS
    assert min(shares) >= 3 * ITEMS
    assert_whole(seaweed, "both", repository, 12 * ITEMS)


@pytest.mark.slow
def test_a_store_that_goes_away_ends_the_run_which_goes_on_later(own: Seaweed, slow: str, repository: Path) -> None:
    order = (slow, "s3://bucket/out", "--repository", repository)
    run = Embed(*order, **own.environment)
    wait_for(lambda: len(records(own, "out")) >= 2)
    own.stop()
    start = time.monotonic()
    assert run.ended(60) == 1
    assert time.monotonic() - start < 50
    assert run.err.startswith("error: s3://bucket/out can't be used (")
    assert len(run.err.splitlines()) == 1
    back = Seaweed(own.folder, own.ports)
    try:
        again = embed(*order, **own.environment)
        assert again.process.returncode == 0, again.err
        assert_whole(back, "out", repository, 12 * ITEMS)
    finally:
        back.stop()


@pytest.mark.slow
@pytest.mark.parametrize(
    ("output", "change", "reason"),
    [
        ("s3://nobody/out", {}, "NoSuchBucket"),
        ("s3://bucket/secret", {"AWS_SECRET_ACCESS_KEY": "hunter2"}, "SignatureDoesNotMatch"),
        ("s3://bucket/gone", {"AWS_ENDPOINT": "http://127.0.0.1:9"}, "can't be reached"),
    ],
)
def test_a_store_that_refuses_is_one_line(
    output: str, change: dict[str, str], reason: str, seaweed: Seaweed, repository: Path, tmp_path: Path
) -> None:
    pattern, start = bulk_runs.shards(tmp_path / "in", 1, 1), time.monotonic()
    run = embed(pattern, output, "--repository", repository, **{**seaweed.environment, **change})
    assert time.monotonic() - start < 40
    assert run.process.returncode == 1
    assert run.err.startswith(f"error: {output} can't be used (")
    assert reason in run.err
    assert "hunter2" not in run.err
    assert len(run.err.splitlines()) == 1


@pytest.mark.slow
@pytest.mark.parametrize("shards", ["{0..3}.tar", "*.tar"])
def test_an_input_whose_bucket_is_missing_is_one_line(shards: str, seaweed: Seaweed, repository: Path, tmp_path: Path) -> None:
    run = embed(f"s3://nobody/{shards}", tmp_path / "out", "--repository", repository, **seaweed.environment)
    assert run.process.returncode == 1
    assert run.err.startswith("error: ")
    assert "s3://nobody/" in run.err
    assert "NoSuchBucket" in run.err
    assert len(run.err.splitlines()) == 1


def assert_refused(others: leases.Leases) -> None:
    """Others don't get a lease for longer than one that isn't renewed would last."""
    for _ in range(3):
        with others.lease("7") as theirs:
            assert not theirs
        time.sleep(0.4)


def test_a_lease_that_stands_still_is_taken_over_and_a_renewed_one_is_not(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(leases, "STALE_S", 0.6)
    monkeypatch.setattr(leases, "RENEW_S", 0.1)
    store = MemoryStore()
    elsewhere = {"machine": "another", "pid": 1, "began": "1", "nonce": "x"}
    obstore.put(store, "claims/7", json.dumps(elsewhere).encode())
    ours, theirs = leases.Leases(store, "claims"), leases.Leases(store, "claims")
    with ours.lease("7") as mine:
        assert not mine
    time.sleep(0.8)
    with ours.lease("7") as mine:
        assert mine
        assert_refused(theirs)
    with theirs.lease("7") as mine:
        assert mine


def test_a_renewal_whose_answer_was_lost_is_no_end(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(leases, "STALE_S", 0.6)
    monkeypatch.setattr(leases, "RENEW_S", 0.1)
    monkeypatch.setattr(leases, "AGAIN_S", 0.05)
    store, lost = MemoryStore(), list[str]()

    class Lossy(leases.Leases):
        def _put(self, path: str, mode: Any) -> str:
            tag = super()._put(path, mode)
            if mode != "create" and len(lost) < 2:
                lost.append(tag)
                raise OSError("the connection broke")
            return tag

    ours, theirs = Lossy(store, "claims"), leases.Leases(store, "claims")
    with ours.lease("7") as mine:
        assert mine
        assert_refused(theirs)
    assert len(lost) == 2


def test_a_lease_of_a_process_that_ended_here_is_taken_over_at_once() -> None:
    store = MemoryStore()
    obstore.put(store, "claims/7", json.dumps({**leases._self(), "began": "1", "nonce": "x"}).encode())
    with leases.Leases(store, "claims").lease("7") as mine:
        assert mine


def test_any_file_system_of_fsspec_is_a_place(repository: Path, tmp_path: Path) -> None:
    pattern, output = bulk_runs.shards(tmp_path / "in", 3, 4), f"memory://{tmp_path.name}/out"
    for _ in range(2):
        assert main([pattern, output, "--repository", str(repository)]) == 0
    files = fsspec.filesystem("memory")
    there = [path for path in files.find(f"/{tmp_path.name}/out") if "_clipserve" not in path]
    assert sorted({path.split("/")[3] for path in there}) == ["errors.parquet", "img_emb", "metadata"]
    metadata = [files.cat_file(path) for path in there if "metadata" in path]
    assert bulk_runs.keys(metadata) == [f"{n:06d}" for n in range(12)]
    vectors = [np.load(io.BytesIO(files.cat_file(path))) for path in there if path.endswith(".npy")]
    bulk_runs.assert_near(np.concatenate(vectors), bulk_runs.expected(repository, range(12)))
    errors = next(path for path in there if path.endswith("errors.parquet"))
    assert pq.read_table(io.BytesIO(files.cat_file(errors))).num_rows == 0
