"""Load test: real users of a real server and a real sidecar, and the name of the bottleneck."""

from __future__ import annotations

import dataclasses
import json
import re
import subprocess
import sys
import time
from pathlib import Path

import numpy as np
import pytest
import sidecars
from servers import Server, free_ports

ROOT = Path(__file__).parents[1]
sys.path.insert(0, str(ROOT / "loadtest"))
sys.path.append(str(ROOT / "bench"))

from answers import References, WrongAnswer, references  # noqa: E402
from busiest import Load, bottleneck  # noqa: E402
from lib.triton_work import Work  # noqa: E402
from steps import Pipeline, Step, steps  # noqa: E402

RECORDED = Path(__file__).parent / "data" / "loads"
LOCUST = [sys.executable, "-m", "locust", "-f", str(ROOT / "loadtest" / "locustfile.py"), "--headless", "--only-summary"]


def started(report: Path, *options: str) -> subprocess.Popen[str]:
    """Locust under way; a process of its own, since it changes how the whole of it waits."""
    command = [*LOCUST, "--report", str(report), *options]
    return subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True)


def loaded(report: Path, *options: str) -> dict:
    """The report of a load without a failure."""
    process = started(report, *options)
    out, err = process.communicate(timeout=90)
    assert process.returncode == 0, out + err
    return json.loads((report / "load.json").read_text())


def by_name(report: dict) -> dict[str, dict]:
    return {row["name"]: row for row in report["rows"]}


@pytest.mark.long
def test_sixteen_users_are_answered_rightly_and_the_bottleneck_is_named(server: Server, tmp_path: Path) -> None:
    report = loaded(tmp_path, "--triton", server.address, "-u", "16", "-r", "16", "-t", "12s")
    rows, used = by_name(report), {step["model"]: step for step in report["load"]["steps"]}
    assert rows.keys() == {"image", "text"}
    assert min(row["requests"] for row in rows.values()) > 16
    assert report["errors"] == []
    assert list(used) == ["clip_image_preprocess", "clip_image_encoder", "clip_text_tokenize", "clip_text_encoder"]
    assert max(step["batch"] for step in used.values()) > 1.5  # users don't wait for one another
    assert all(0 < step["busy"] < 1.05 for step in used.values())  # a batch counts once, not for each of its requests
    assert all(report["load"]["cores_used"][model] > 0 for model in used)
    assert report["bottleneck"]["name"] in {*report["load"]["cores_used"], "the number of users"}
    assert f"**The bottleneck is {report['bottleneck']['name']}**" in (tmp_path / "load.md").read_text()
    assert (tmp_path / "load.png").stat().st_size > 10_000


def test_damaged_images_are_counted_apart_and_nothing_else_suffers(server: Server, tmp_path: Path) -> None:
    report = loaded(tmp_path, "--triton", server.address, "-u", "4", "-r", "4", "-t", "4s", "--corrupt", "0.3", "ImageUser")
    rows = by_name(report)
    assert rows.keys() == {"image", "corrupt image"}
    assert rows["corrupt image"]["requests"] > 0
    assert sum(row["failed"] for row in rows.values()) == 0


def test_searches_and_adds_are_answered_rightly_side_by_side(server: Server, tmp_path: Path) -> None:
    users = ["SearchUser", "AddingUser", "ClipRetrievalUser"]
    with sidecars.running(tmp_path / "data", server.address) as sidecar:
        where = ["--triton", server.address, "--sidecar", sidecar.url]
        report = loaded(tmp_path, *where, "-u", "6", "-r", "6", "-t", "4s", *users)
        with sidecar.client() as search:
            assert search.collections() == []  # the load had one of its own
    kinds = {"search: text", "search: image", "search: mix", "search: just added", "add 20 rows", "/knn-service"}
    assert by_name(report).keys() == kinds
    assert report["load"]["cores_used"]["the search sidecar"] > 0


def test_errors_are_told_by_kind(server: Server, tmp_path: Path) -> None:
    with sidecars.running(tmp_path / "data", server.address) as sidecar:
        where = ["--triton", server.address, "--sidecar", sidecar.url]
        process = started(tmp_path, *where, "-u", "2", "-r", "2", "-t", "3s", "AddingUser")
        process.stderr.readline()
        wait_for_adds(sidecar)
    out, err = process.communicate(timeout=60)
    assert process.returncode == 1, out + err
    errors = json.loads((tmp_path / "load.json").read_text())["errors"]
    assert {error["kind"] for error in errors} == {"Unavailable"}
    assert all(error["count"] > 0 and "can't be reached" in error["example"] for error in errors)


def wait_for_adds(sidecar: sidecars.Sidecar, rows: int = 2100, timeout_s: float = 30) -> None:
    """Wait until users have added to the collection of the load."""
    deadline = time.monotonic() + timeout_s
    with sidecar.client() as search:
        while sum(collection["rows"] for collection in search.collections()) < rows:
            assert time.monotonic() < deadline
            time.sleep(0.1)


def test_no_server_is_told_at_once(tmp_path: Path) -> None:
    process = started(tmp_path, "--triton", f"127.0.0.1:{free_ports(1)[0]}", "-t", "5s")
    assert "can't be reached" in process.communicate(timeout=60)[1]
    assert process.returncode == 1


def recorded(name: str) -> Load:
    """A load as a report told it."""
    load = json.loads((RECORDED / f"{name}.json").read_text())["load"]
    return Load(**{**load, "steps": [Step(**step) for step in load["steps"]]})


def test_the_step_that_requests_wait_for_is_named() -> None:
    load = recorded("texts-16-users")
    assert load.full > 0.9
    named = bottleneck(load)
    assert named.name == "clip_text_encoder"
    assert re.search(r"computes \d+% of the time, a request waits [\d.]+ ms .* the 2 processors are \d+% busy", named.reason)


def test_one_user_leaves_the_server_waiting() -> None:
    load = recorded("texts-1-user")
    assert load.cores_used["clip_text_encoder"] > 0.5  # its threads spin, which isn't work
    named = bottleneck(load)
    assert named.name == "the number of users"
    assert "more --users would be answered" in named.reason


def test_a_step_that_works_all_the_time_while_processors_are_free_is_named() -> None:
    load = recorded("texts-1-user")
    encoder = dataclasses.replace(load.steps[-1], busy=0.93, queue_ms=31.0)
    named = bottleneck(dataclasses.replace(load, steps=[*load.steps[:-1], encoder]))
    assert named.name == "clip_text_encoder"
    assert "computes 93% of the time, a request waits 31.0 ms" in named.reason
    assert "more --instances or --threads would help" in named.reason


def test_other_work_that_takes_the_processors_is_named() -> None:
    load = recorded("texts-16-users")
    named = bottleneck(dataclasses.replace(load, cores_used={**load.cores_used, "other work on this machine": 1.9}))
    assert named.name == "other work on this machine"


def test_a_server_that_computes_in_one_process_or_cannot_be_seen_is_judged_by_its_steps() -> None:
    load = recorded("texts-16-users")
    own = {"the load generator": 0.3, "other work on this machine": 0.1}
    native = dataclasses.replace(load, cores_used={**own, "tritonserver": 1.6})
    assert bottleneck(native).name == "clip_text_encoder"
    assert "the 2 processors are 100% busy" in bottleneck(native).reason
    unseen = dataclasses.replace(load, cores_used={**own, "other work on this machine": 1.7})
    assert bottleneck(unseen).name == "clip_text_encoder"


def test_a_client_of_one_thread_is_named() -> None:
    load = recorded("texts-1-user")
    busy = {**load.cores_used, "the load generator": 0.97}
    far = dataclasses.replace(load, local=False, cores=8, cores_used=busy)
    assert bottleneck(far).name == "the load generator"
    assert bottleneck(dataclasses.replace(far, generators=2)).name == "the number of users"


def test_the_way_to_a_server_elsewhere_is_named() -> None:
    load = dataclasses.replace(recorded("texts-1-user"), local=False)
    named = bottleneck(dataclasses.replace(load, client_ms=10 * load.server_ms))
    assert named.name == "the network"
    assert "90% are spent outside the server" in named.reason


def test_a_batch_counts_once_however_many_requests_it_had() -> None:
    before = Work(10, 10, 10, total_ns=0, queue_ns=0, input_ns=0, infer_ns=10**9, output_ns=0, busy_ns=10**9)
    after = Work(
        50, 90, 20, total_ns=0, queue_ns=4 * 10**9, input_ns=10**9, infer_ns=7 * 10**9, output_ns=10**9, busy_ns=2 * 10**9
    )
    work = {"encoder": after.since(before)}
    [step] = steps(Pipeline({"clip_image": ("encoder",)}, {"encoder": 2}), work, duration_s=2.0)
    assert (step.requests, step.batch, step.queue_ms, step.compute_ms) == (40, 8.0, 100.0, 200.0)
    assert step.busy == 0.25  # one second of the four that two instances had


@pytest.mark.parametrize(
    ("answer", "message"),
    [
        (None, "got an embedding of None, expected 32 numbers"),
        (np.ones(31, np.float32), "expected 32 numbers"),
        (np.zeros(32, np.float32), "isn't of unit length"),
        (np.full(32, np.nan, np.float32), "isn't of unit length"),
        (sidecars.unit(2)[0], "isn't that of the item"),
    ],
)
def test_wrong_answers_are_noticed(answer: np.ndarray | None, message: str) -> None:
    right = References(sidecars.unit(2), 0.999)
    right.check(right.embeddings[1], 1)
    with pytest.raises(WrongAnswer, match=message):
        right.check(answer, 1)


def test_how_far_an_answer_may_be_is_learnt_from_the_server() -> None:
    alone, noise = sidecars.unit(8, 256), 0.05 * sidecars.unit(8, 256, seed=1)
    batch = (alone + noise) / np.linalg.norm(alone + noise, axis=1, keepdims=True)

    def varies(items: list[int]) -> np.ndarray:
        return (alone if len(items) == 1 else batch)[items]

    assert references(lambda items: alone[items], range(8)).cosine_min == pytest.approx(0.9999)
    assert 0.99 < references(varies, range(8)).cosine_min < 0.999


def test_a_server_that_mixes_answers_up_is_noticed_before_the_load() -> None:
    with pytest.raises(WrongAnswer, match="alone and in a batch have a cosine of"):
        references(lambda items: sidecars.unit(8)[items if len(items) == 1 else items[::-1]], range(8))


def test_a_model_that_was_rolled_out_meanwhile_has_all_of_its_work() -> None:
    before, after = Work(5, 5, 5, 50, 5, 5, 5, 5, 5), Work(7, 9, 6, 90, 6, 6, 6, 6, 6)
    assert after.since(before) == Work(2, 4, 1, 40, 1, 1, 1, 1, 1)
    assert after.since(None) == after
    assert before.since(after) == before
