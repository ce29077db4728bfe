"""``clipserve embed --engine ray``: workers that end, a driver that ends, and what isn't there."""

from __future__ import annotations

import os
import signal
import tempfile
from collections.abc import Iterator
from pathlib import Path

import bulk_runs
import psutil
import pytest
import ray_clusters
from bulk_runs import Embed, embed, wait_for
from ray_clusters import ALONE
from servers import free_ports

from clip_embed.cli import main
from clip_embed.engines.base import EngineOptions
from clip_embed.fetch import FetchOptions
from clip_embed.ray_worker import Order, Worker

pytestmark = pytest.mark.long

HERE = ("--engine", "ray", "--workers", 2, "--worker-cpus", 1)


def rays() -> set[int]:
    """Processes of Ray on this machine."""
    names = ("raylet", "gcs_server", "ray::")
    return {
        p.pid for p in psutil.process_iter(["name", "cmdline"]) if any(n in " ".join(p.info["cmdline"] or ()) for n in names)
    }


def workers() -> list[psutil.Process]:
    """Workers that are at a part."""
    return [p for p in psutil.process_iter(["cmdline"]) if "ray::Worker.attempt" in " ".join(p.info["cmdline"] or ())]


@pytest.fixture(scope="module")
def cluster() -> Iterator[str]:
    """Address of a cluster of one machine."""
    with ray_clusters.running() as address:
        yield address


@pytest.fixture
def slow(tmp_path: Path) -> str:
    """Shards of which each takes a while."""
    pattern = bulk_runs.shards(tmp_path / "in", 8, 8)
    return f"pipe:sleep 1; cat {pattern}"


def test_workers_here_embed_what_this_process_would(repository: Path, tmp_path: Path) -> None:
    pattern, output, before = bulk_runs.shards(tmp_path / "in", 4, 6), tmp_path / "out", rays()
    run = Embed(f"pipe:sleep 1; cat {pattern}", output, "--repository", repository, *HERE, "--json")
    wait_for(workers)
    mine = rays() - before
    heard = [c for c in psutil.net_connections("tcp") if c.pid in mine and c.status == "LISTEN"]
    assert {c.laddr.ip.removeprefix("::ffff:") for c in heard} == {"127.0.0.1"}
    assert run.ended() == 0, run.err
    assert (run.books["read"], run.books["taken"], run.books["done"], run.books["finished"]) == (24, 24, 4, True)
    assert [line for line in run.err.splitlines() if not line.startswith("part ")] == []  # its own progress alone
    bulk_runs.assert_whole(bulk_runs.files(output), repository, 24)
    wait_for(lambda: not rays() - before)
    assert main([f"pipe:sleep 1; cat {pattern}", str(output), "--repository", str(repository), *map(str, HERE)]) == 0
    assert rays() == before


@pytest.mark.slow
def test_a_worker_that_is_killed_is_replaced(cluster: str, slow: str, repository: Path, tmp_path: Path) -> None:
    run = Embed(slow, tmp_path / "out", "--repository", repository, *HERE, "--address", cluster, **ALONE)
    for _ in range(3):
        wait_for(lambda: len(workers()) == 2)
        workers()[0].kill()
    assert run.ended() == 0, run.err
    assert "which another one does" in run.err
    assert "Traceback" not in run.err
    bulk_runs.assert_whole(bulk_runs.files(tmp_path / "out"), repository, 64)
    assert not list((tmp_path / "out" / "_clipserve" / "tmp").iterdir())


@pytest.mark.slow
def test_a_driver_that_is_killed_goes_on_where_it_was(cluster: str, slow: str, repository: Path, tmp_path: Path) -> None:
    output = tmp_path / "out"
    for parts in (2, 4):
        run = Embed(slow, output, "--repository", repository, *HERE, "--address", cluster, **ALONE)
        wait_for(lambda parts=parts: len(bulk_runs.records(output)) >= parts)
        run.process.kill()
        before = {path: path.stat().st_mtime_ns for path in bulk_runs.records(output)}
        wait_for(lambda: not workers())
    run = embed(slow, output, "--repository", repository, *HERE, "--address", cluster, **ALONE)
    assert run.process.returncode == 0, run.err
    assert before.items() <= {path: path.stat().st_mtime_ns for path in bulk_runs.records(output)}.items()
    bulk_runs.assert_whole(bulk_runs.files(output), repository, 64)


@pytest.mark.slow
def test_a_part_that_ends_its_workers_is_given_up(cluster: str, repository: Path, tmp_path: Path) -> None:
    folder = Path(bulk_runs.shards(tmp_path / "in", 4, 4)).parent
    poison = f"pipe:n={{0..3}}; test $n != 2 || kill -9 $PPID; cat {folder}/$n.tar"
    run = embed(poison, tmp_path / "out", "--repository", repository, *HERE, "--address", cluster, "--json", **ALONE)
    assert run.process.returncode == 1
    assert run.books["done"] == 3
    assert list(run.books["failed"]) == ["2"]
    assert "its worker ended 3 times; the last time: The actor is dead because" in run.books["failed"]["2"]


@pytest.mark.slow
def test_a_part_that_cannot_be_read_names_the_machine(cluster: str, repository: Path, tmp_path: Path) -> None:
    pattern = bulk_runs.shards(tmp_path / "in", 4, 4)
    (tmp_path / "in" / "2.tar").unlink()
    run = embed(pattern, tmp_path / "out", "--repository", repository, *HERE, "--address", cluster, "--json", **ALONE)
    assert (run.process.returncode, run.books["done"]) == (1, 3)
    assert f"on {os.uname().nodename}: " in run.books["failed"]["2"]
    assert "2.tar" in run.books["failed"]["2"]


@pytest.mark.slow
def test_room_that_no_machine_has_is_told(cluster: str, repository: Path, tmp_path: Path) -> None:
    pattern = bulk_runs.shards(tmp_path / "in", 1, 1)
    wanted = ("--engine", "ray", "--address", cluster, "--worker-gpus", 4, "--patience", 3)
    run = embed(pattern, tmp_path / "out", "--repository", repository, *wanted, **ALONE)
    assert run.process.returncode == 1
    assert run.err.startswith("error: no machine took a worker of 2 CPUs and 4 GPUs within 3 s, the cluster has 3 CPUs")
    assert len(run.err.splitlines()) == 1


@pytest.mark.slow
def test_nobody_at_the_address_is_one_line(repository: Path, tmp_path: Path) -> None:
    pattern = bulk_runs.shards(tmp_path / "in", 1, 1)
    address = f"127.0.0.1:{free_ports(1)[0]}"
    run = embed(pattern, tmp_path / "out", "--repository", repository, "--engine", "ray", "--address", address)
    assert run.process.returncode == 1
    assert run.err.startswith(f"error: Ray can't be reached at {address} (")
    assert len(run.err.splitlines()) == 1


@pytest.mark.slow
def test_a_cluster_that_refuses_the_token_is_one_line(cluster: str, repository: Path, tmp_path: Path) -> None:
    pattern = bulk_runs.shards(tmp_path / "in", 1, 1)
    stranger = {**ALONE, "RAY_AUTH_TOKEN": "b" * 64}
    run = embed(pattern, tmp_path / "out", "--repository", repository, "--engine", "ray", "--address", cluster, **stranger)
    assert run.process.returncode == 1
    assert "if it asks for a token, set RAY_AUTH_MODE=token" in run.err
    assert len(run.err.splitlines()) == 1


@pytest.mark.slow
@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM, signal.SIGKILL])
def test_a_signal_leaves_nothing_running(number: int, slow: str, repository: Path, tmp_path: Path) -> None:
    before = rays()
    run = Embed(slow, tmp_path / "out", "--repository", repository, *HERE)
    wait_for(workers)
    os.killpg(run.process.pid, number)
    run.ended(20)
    assert "Traceback" not in run.err
    wait_for(lambda: not rays() - before)


def order(output: Path, repository: Path, *needed: str) -> Order:
    """An order to embed with this repository."""
    return Order(str(output), needed, EngineOptions(repository=repository), FetchOptions())


def test_a_path_that_a_worker_lacks_is_named_with_the_machine(repository: Path, tmp_path: Path) -> None:
    node, nowhere = os.uname().nodename, tmp_path / "nowhere"
    problem = Worker(order(tmp_path, repository, str(nowhere))).open().problem
    assert str(problem).startswith(f"on {node}: {nowhere} isn't there")
    problem = Worker(order(nowhere, repository)).open().problem
    assert str(problem).startswith(f"on {node}: {nowhere} isn't there: name a folder that every machine")
    assert not nowhere.exists()
    with tempfile.TemporaryDirectory() as empty:
        (Path(empty) / "_clipserve").mkdir()
        problem = Worker(order(Path(empty), repository)).open().problem
    assert "is another folder here, without the run" in str(problem)
