"""Soak: slopes with their errors, loads at a pace, the state of servers, judgement and report, a short one."""

from __future__ import annotations

import itertools
import json
import os
import re
import signal
import subprocess
import sys
import threading
import time
from argparse import ArgumentTypeError
from pathlib import Path

import numpy as np
import psutil
import pytest
from scipy import stats
from scipy.signal import lfilter
from servers import Server
from sidecars import Sidecar

import pictures
from clip_client import Clip, Search, Unavailable

sys.path.append(str(Path(__file__).parents[1] / "bench"))

import soak
from lib import mixed_requests, server_state, soak_report
from lib.clustered_rows import clustered
from lib.mixed_requests import ORDER, Mix
from lib.paced_load import Answer, PacedLoad
from lib.slopes import slope
from lib.soak_figures import BINS, P99, Plan, Soak

MINUTES = np.arange(5.5, 30.5)
SERIES = [
    369.35, 369.47, 371.44, 372.4, 371.05, 371.35, 371.03, 371.47, 370.17, 370.71, 371.24, 373.12, 373.74,
    374.55, 373.35, 375.91, 374.29, 375.69, 375.66, 375.08, 374.73, 374.35, 375.03, 375.22, 377.01,
]  # fmt: skip
PLAN = Plan(3.0)


def test_line_and_correlation_are_those_of_statsmodels() -> None:
    line = slope(MINUTES, SERIES)
    # statsmodels 0.15.0: OLS(y, [1, x]).fit() and tsa.stattools.acf(residuals, nlags=1, adjusted=False)
    value, error, correlation = 0.269830769, 0.02867937, 0.4088510704592373
    n = len(SERIES)
    unbiased = (n * correlation + 2) / (n - 4)
    effective = n * (1 - unbiased) / (1 + unbiased)
    assert line.value == pytest.approx(value)
    assert (line.correlation, line.effective) == pytest.approx((unbiased, effective))
    wider = error * np.sqrt((n - 2) / (effective - 2))
    assert line.error == pytest.approx(stats.t.ppf(0.975, effective - 2) * wider, rel=1e-4)
    assert 2 * error < line.error  # two of the usual errors would be too few


def test_without_correlation_the_error_is_that_of_scipy() -> None:
    values = 7 - 0.02 * MINUTES + np.tile([0.5, -0.5], 13)[:25]
    line, expected = slope(MINUTES, values, 0.99), stats.linregress(MINUTES, values)
    assert line.value == pytest.approx(expected.slope)
    assert (line.correlation, line.effective) == (0, 25)
    assert line.error == pytest.approx(stats.t.ppf(0.995, 23) * expected.stderr)


@pytest.mark.parametrize("memory", [0.0, 0.5])
def test_series_without_a_slope_are_flat_as_often_as_the_interval_says(memory: float) -> None:
    drawn = lfilter([1], [1, -memory], np.random.default_rng(1).normal(size=(300, 125)))[:, 100:]
    alarms = np.mean([not slope(MINUTES, values).is_flat for values in drawn])
    naive = np.mean([stats.linregress(MINUTES, values).pvalue < 0.05 for values in drawn])
    assert alarms < 0.11
    assert memory == 0 or naive > 0.15  # which the usual error would get wrong


def test_a_leak_is_no_flat_line_and_a_step_neither() -> None:
    noise = np.random.default_rng(2).normal(size=25)
    assert not slope(MINUTES, 400 + 1.45 * MINUTES + 3 * noise, 0.995).is_flat
    assert not slope(MINUTES, 57 + 6.0 * (MINUTES > 12) + 0.01 * MINUTES, 0.5).is_flat
    assert slope(MINUTES, 400 + 3 * noise, 0.995).is_flat


def test_a_constant_has_neither_slope_nor_error_and_a_straight_line_no_error() -> None:
    assert (slope(MINUTES, [33.0] * 25).value, slope(MINUTES, [33.0] * 25).error) == (0, 0)
    straight = slope(MINUTES, 2 * MINUTES)
    assert straight.value == pytest.approx(2)
    assert (straight.error, straight.is_flat) == (0, False)


def test_what_waits_for_a_client_is_late_and_failures_are_kept() -> None:
    free = threading.Event()

    def send(number: int) -> None:
        if number == 100:
            free.wait(10)
        if number == 103:
            raise Unavailable("it is away")
        if number == 115:
            raise EOFError

    load = PacedLoad(send, 100, 50, clients=1, seconds=60)
    threading.Timer(0.2, free.set).start()
    with pytest.raises(EOFError), load:
        pass
    assert [answer.number for answer in load.answers] == [*range(100, 115)]
    assert [round(answer.due_s, 6) for answer in load.answers] == [round(n / 50, 6) for n in range(15)]
    first, second = load.answers[:2]
    assert first.latency_s > 0.1
    assert second.latency_s == pytest.approx(first.latency_s - 0.02, abs=0.05)  # though it took no time itself
    assert [answer.problem for answer in load.answers if answer.problem] == ["Unavailable: it is away"]


def test_a_load_ends_with_its_block_and_tells_what_ended_it() -> None:
    threads = threading.active_count()
    with pytest.raises(KeyboardInterrupt), PacedLoad(lambda _: None, 0, 100, clients=2, seconds=600):
        raise KeyboardInterrupt
    assert threading.active_count() == threads
    load = PacedLoad(lambda n: 1 / n, 0, 100, clients=1, seconds=600)
    with pytest.raises(ZeroDivisionError), load:
        pass
    with pytest.raises(ZeroDivisionError):
        load.check()


def test_the_state_is_that_of_all_processes_and_files(tmp_path: Path) -> None:
    (tmp_path / "folder").mkdir()
    (tmp_path / "folder" / "file").write_bytes(bytes(2_000_000))
    sleep = "import subprocess, sys; child = subprocess.Popen([sys.executable, '-c', 'input()'], stdin=subprocess.PIPE); "
    script = sleep + "open('/dev/null'); held = open('/dev/null'); memory = bytearray(range(250)) * 400_000; print(); input()"
    with subprocess.Popen([sys.executable, "-c", script], stdin=subprocess.PIPE, stdout=subprocess.PIPE) as process:
        assert process.stdout
        process.stdout.readline()
        server = psutil.Process(process.pid)
        [child] = server.children()
        seen = server_state.state({"it": server}, tmp_path)
        assert seen["it descriptors"] == server.num_fds() + child.num_fds()
        assert seen["it threads"] == 2
        own = [each.memory_full_info() for each in (server, child)]
        assert 100 < seen["it memory, MB"] < sum(each.pss for each in own) / 1e6
        assert (seen["files"], seen["disk, MB"]) == (1, 2)
        assert seen["it CPU, s"] > 0
        process.communicate(b"\n")
    with pytest.raises(psutil.NoSuchProcess):
        server_state.state({"it": server}, tmp_path)


def soaked(**changed: object) -> Soak:
    """A soak of three minutes without a fault, or with some."""
    noise = np.random.default_rng(3)
    samples = [
        (at, {"search memory, MB": 200 + noise.normal(), "search descriptors": 33.0, "files": 400.0, "search CPU, s": 0.2 * at}
         | {"search threads": 40.0, "Triton memory, MB": 266.0, "Triton descriptors": 104.0, "Triton threads": 202.0}
         | {"Triton CPU, s": 0.1 * at, "disk, MB": 12.0})
        for at in np.arange(0, PLAN.seconds, PLAN.sample_s).tolist()
    ]  # fmt: skip
    answers = [Answer(n, n / 20, 0.01 + 0.001 * float(noise.exponential())) for n in range(int(PLAN.seconds * 20))]
    given = {"samples": samples, "answers": answers, "before": [100.0, 90.0, 110.0], "after": [95.0, 99.0, 91.0]}
    made = {
        **given,
        "plan": PLAN,
        "knee": {1: 60.0, 4: 100.0},
        "clients": 4,
        "share": 0.7,
        "per_s": 20.0,
        "rows": (5_200, 5_200),
    }
    return Soak(**{**made, **changed})  # type: ignore[arg-type]


def test_what_is_steady_has_no_faults_and_a_report(tmp_path: Path) -> None:
    steady = soaked()
    assert steady.faults() == []
    assert steady.kept() == 0.95
    assert steady.series()["search CPU, ms a request"][5] == pytest.approx(10)
    soak_report.write(steady, tmp_path, {"minutes": 3})
    report, figures = (tmp_path / "soak.md").read_text(), json.loads((tmp_path / "soak.json").read_text())
    assert "**Steady.**" in report
    assert "| search memory, MB |" in report
    assert figures["steady"] is True
    assert len(figures["series"][P99]) == len(figures["minutes"]) == BINS
    assert (tmp_path / "soak.png").read_bytes().startswith(b"\x89PNG")


def test_each_fault_is_named() -> None:
    calm = soaked()
    grown = [(at, state | {"files": state["files"] + at}) for at, state in calm.samples]
    [fault] = soaked(samples=grown).faults()
    assert fault.startswith("files: +60 a minute, beyond its error of ")
    late = [Answer(each.number, each.due_s, each.latency_s * (1 + (each.due_s > 150))) for each in calm.answers]
    faults = soaked(answers=late).faults()
    assert any(re.fullmatch(r"p99 went from .* ms: (1\.[89]|2\.\d)\d? times, at most 1.1 is steady", fault) for fault in faults)
    assert soaked(after=[80.0] * 3).faults() == ["requests a second at full speed: 0.80 of the start's, at least 0.9 is steady"]
    failed = [*calm.answers[:-1], Answer(3, 179.9, 0.01, "Timeout: late")]
    assert soaked(answers=failed).faults() == ["1 of 3,600 requests failed, for example vector search: Timeout: late"]
    behind = [answer for answer in calm.answers if answer.due_s < 140]
    assert soaked(answers=behind).faults() == [
        "2,800 requests were sent, 3,600 were due: the servers fell behind, or had no cores left"
    ]
    assert soaked(rows=(5_200, 5_199)).faults() == ["5,199 rows at the end, 5,200 were expected"]


def test_parts_that_nothing_was_seen_of_are_left_out(tmp_path: Path) -> None:
    calm = soaked()
    holes = soaked(
        per_s=18.0,
        samples=[sample for sample in calm.samples if not 60 < sample[0] < 70],
        answers=[answer for answer in calm.answers if not 60 <= answer.due_s < 70],
    )
    assert holes.faults() == []
    soak_report.write(holes, tmp_path, {})
    assert json.loads((tmp_path / "soak.json").read_text())["series"][P99][10] is None


@pytest.mark.parametrize("text", ["0.1", "-3", "nan", "inf", "long"])
def test_a_length_that_makes_no_sense_is_refused(text: str) -> None:
    with pytest.raises(ArgumentTypeError, match=r"expected a number of minutes, 0\.2 to 100,000"):
        soak.length(text)
    assert soak.length("3") == 3
    with pytest.raises(ArgumentTypeError, match=r"expected a share, 0\.01 to 1"):
        soak.share(text.replace("0.1", "1.1"))


def test_requests_of_all_kinds_leave_as_many_rows(server: Server, search: Search) -> None:
    with Clip(server.address) as clip:
        mix = Mix(search, clip, clustered(100, clip.spec.embedding_size), pictures.jpegs(3))
        mix.fill()
        for number in range(len(ORDER)):
            mix.send(number)
    assert search.stats("bench")["rows"] == mix.rows == 300
    assert {mixed_requests.kind(number) for number in range(40)} == set(ORDER)


@pytest.mark.long
def test_a_short_soak_of_real_servers(server: Server, sidecar: Sidecar, search: Search, tmp_path: Path) -> None:
    with Clip(server.address) as clip:
        mix = Mix(search, clip, clustered(500, clip.spec.embedding_size), pictures.jpegs(3))
        mix.fill()
        servers = {"search": psutil.Process(sidecar.process.pid), "Triton": psutil.Process(server.process.pid)}
        measured = soak.soaked(Plan(0.2), soak.World(mix, search, servers, sidecar.data), 0.5)
    assert measured.rows == (700, 700)
    assert not [answer.problem for answer in measured.answers if answer.problem]
    due = 12 * measured.per_s
    assert len(measured.answers) <= due + 2
    fell_behind = any(fault.endswith("the servers fell behind, or had no cores left") for fault in measured.faults())
    assert fell_behind == (len(measured.answers) < 0.99 * round(due))
    assert set(measured.series()) >= set(itertools.chain(*soak_report.PANELS))
    soak_report.write(measured, tmp_path, {})
    assert "| all |" in (tmp_path / "soak.md").read_text()


@pytest.mark.slow
def test_a_soak_that_is_interrupted_leaves_nothing(repository: Path, tmp_path: Path) -> None:
    command = [sys.executable, soak.__file__, "--no-page", "--rows", "500", "--repository", str(repository)]
    environment = {**os.environ, "TMPDIR": str(tmp_path)}
    with subprocess.Popen(command, env=environment, stdout=subprocess.PIPE, process_group=0) as process:
        deadline = time.monotonic() + 300
        while not list(tmp_path.glob("*/bench.lance")):
            assert time.monotonic() < deadline
            time.sleep(0.1)
        children = psutil.Process(process.pid).children(recursive=True)
        assert len(children) >= 3  # launcher, Triton, sidecar
        os.killpg(process.pid, signal.SIGINT)
        assert process.wait(60) == 130
    assert not psutil.wait_procs(children, timeout=30)[1]
    assert not list(tmp_path.glob("*/bench.lance"))
