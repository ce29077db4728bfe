"""``clipserve embed --engine triton``: several servers, of which some go away, come back, hang, or hold something else."""

from __future__ import annotations

import signal
import time
from collections.abc import Iterator
from pathlib import Path

import bulk_runs
import psutil
import pytest
from bulk_runs import Embed, embed, wait_for
from repositories import other_checkpoint
from servers import Server, free_ports, running

from clip_client import ModelSpec
from clip_client.triton import Triton


def requests(server: Server) -> int:
    """Images that a server's encoder has got."""
    with Triton(server.address, timeout_s=10) as triton:
        return sum(model.inference_count for model in triton.statistics().model_stats if model.name == "clip_image_encoder")


def servers(*all_of_them: Server) -> tuple[str, str, str, str]:
    """Options to embed on them."""
    return "--engine", "triton", "--address", ",".join(server.address for server in all_of_them)


@pytest.fixture
def slow(tmp_path: Path) -> str:
    """Shards of which each takes a while."""
    return f"pipe:sleep 0.4; cat {bulk_runs.shards(tmp_path / 'in', 24, 4)}"


@pytest.fixture
def own(repository: Path) -> Iterator[Server]:
    """A server to be killed."""
    server = Server(repository)
    server.wait_ready()
    yield server
    server.process.kill()
    server.ended()


def kill(server: Server) -> None:
    """Kill the real server; its launcher ends by itself."""
    server.tritonserver().kill()
    server.ended()


@pytest.mark.slow
def test_a_server_that_is_killed_and_comes_back_loses_nothing(
    server: Server, own: Server, slow: str, repository: Path, tmp_path: Path
) -> None:
    output, before = tmp_path / "out", requests(server)
    run = Embed(slow, output, *servers(server, own), "--json")
    wait_for(lambda: len(bulk_runs.records(output)) >= 4)
    assert requests(own) > 0
    assert requests(server) > before
    kill(own)
    with_the_rest = requests(server)
    again = Server(repository, ports=own.ports)
    try:
        again.wait_ready()
        wait_for(lambda: requests(again) > 0)
        assert run.ended() == 0, run.err
    finally:
        again.stop()
    assert requests(server) > with_the_rest
    assert (run.books["taken"], run.books["left_out"]) == (24 * 4, 0)
    assert run.err == ""
    bulk_runs.assert_whole(bulk_runs.files(output), repository, 24 * 4)


@pytest.mark.slow
def test_all_servers_gone_end_the_run_once_patience_does(slow: str, repository: Path, tmp_path: Path) -> None:
    output = tmp_path / "out"
    with running(repository) as first, running(repository) as second:
        run = Embed(slow, output, *servers(first, second), "--patience", 4)
        wait_for(lambda: len(bulk_runs.records(output)) >= 4)
        kill(first)
        kill(second)
        start = time.monotonic()
        assert run.ended(30) == 1
        assert time.monotonic() - start < 15
        assert run.err.startswith("error: no server answered within 4 s (")
        assert first.address in run.err
        assert len(run.err.splitlines()) == 1
        before = {path: path.read_bytes() for path in bulk_runs.records(output)}
    with running(repository) as third:
        assert embed(slow, output, *servers(third)).process.returncode == 0
    assert before.items() <= {path: path.read_bytes() for path in bulk_runs.records(output)}.items()
    bulk_runs.assert_whole(bulk_runs.files(output), repository, 24 * 4)


@pytest.mark.slow
def test_a_server_of_another_checkpoint_is_refused(
    server: Server, slow: str, repository: Path, spec: ModelSpec, tmp_path: Path
) -> None:
    other = other_checkpoint(repository, tmp_path / "other", spec)
    with running(other) as another:
        run = embed(slow, tmp_path / "out", *servers(server, another))
    assert run.process.returncode == 1
    assert run.err.startswith(f"error: {another.address} holds ")
    assert "name servers of one checkpoint" in run.err


@pytest.mark.slow
def test_a_server_that_comes_back_with_another_checkpoint_is_refused(
    server: Server, own: Server, slow: str, repository: Path, spec: ModelSpec, tmp_path: Path
) -> None:
    output, other = tmp_path / "out", other_checkpoint(repository, tmp_path / "other", spec)
    run = Embed(slow, output, *servers(server, own))
    wait_for(lambda: len(bulk_runs.records(output)) >= 4)
    kill(own)
    another = Server(other, ports=own.ports)
    try:
        another.wait_ready()
        assert run.ended() == 1
    finally:
        another.stop()
    assert own.address in run.err
    assert "Traceback" not in run.err
    assert embed(slow, output, *servers(server)).process.returncode == 0
    bulk_runs.assert_whole(bulk_runs.files(output), repository, 24 * 4)


@pytest.mark.slow
def test_a_server_that_hangs_is_left_out(server: Server, own: Server, slow: str, repository: Path, tmp_path: Path) -> None:
    output = tmp_path / "out"
    run = Embed(slow, output, *servers(server, own))
    wait_for(lambda: len(bulk_runs.records(output)) >= 4)
    stopped = [psutil.Process(own.process.pid), own.tritonserver()]  # the launcher would end a server that hangs
    for process in stopped:
        process.suspend()
    try:
        assert run.ended(200) == 0, run.err
    finally:
        for process in stopped:
            process.resume()
    bulk_runs.assert_whole(bulk_runs.files(output), repository, 24 * 4)


@pytest.mark.slow
def test_ctrl_c_ends_a_wait_for_servers(own: Server, slow: str, tmp_path: Path) -> None:
    output = tmp_path / "out"
    run = Embed(slow, output, *servers(own))
    wait_for(lambda: len(bulk_runs.records(output)) >= 2)
    kill(own)
    time.sleep(3)
    run.process.send_signal(signal.SIGINT)
    assert run.ended(10) == 130
    assert "Traceback" not in run.err


def test_no_server_at_all_is_one_line(tmp_path: Path) -> None:
    pattern = bulk_runs.shards(tmp_path / "in", 1, 1)
    address = f"127.0.0.1:{free_ports(1)[0]}"
    run = embed(pattern, tmp_path / "out", "--engine", "triton", "--address", address)
    assert run.process.returncode == 1
    assert run.err.startswith(f"error: {address} can't be reached")
    assert len(run.err.splitlines()) == 1
