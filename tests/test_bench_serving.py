"""Benches of the server: load from several clients, a request's parts, cores, other programs."""

from __future__ import annotations

import http.server
import json
import os
import queue
import subprocess
import sys
import threading
import time
from pathlib import Path

import pytest
from servers import Server

import pictures
from clip_client import Clip
from clip_client.spec import TOWERS

sys.path.append(str(Path(__file__).parents[1] / "bench"))

import breakdown
import peers
import scale
from lib import other_programs, server_memory
from lib.clip_retrieval import Inference
from lib.http_clients import Target, http_clients
from lib.infinity import infinity
from lib.load import Load, load, median_ms, median_per_s
from lib.sdk_requests import sdk_request
from lib.serving import Serving
from lib.triton_work import Work
from lib.turns import Timings

PHOTOS = pictures.jpegs(3)


@pytest.fixture
def serving(server: Server) -> Serving:
    return Serving(server.address, server.http, server.process.pid)


def work(requests: int = 1, **ms: int) -> Work:
    times = {f"{part}_ns": 1_000_000 * ms.get(part, 0) for part in ("total", "queue", "input", "infer", "output", "busy")}
    return Work(requests=requests, items=requests, executions=requests, **times)


def test_all_clients_send_at_once_and_each_number_is_sent_once() -> None:
    together, numbers = threading.Barrier(4), []

    def request(number: int) -> None:
        together.wait(timeout=10)  # passes only while four are under way
        numbers.append(number)

    seen = load(request, clients=4, requests=20)
    assert sorted(numbers) == list(range(20))
    assert len(seen.times.seconds) == 20
    assert seen.per_s == 20 / seen.wall_s


def test_a_client_that_waits_uses_no_cpu_time() -> None:
    waiting = load(lambda _: threading.Event().wait(0.05), clients=2, requests=4)
    working = load(lambda _: sum(range(1_000_000)), clients=1, requests=3)
    assert waiting.client_ms < 10 < 50 <= waiting.mean_ms
    assert working.client_ms == pytest.approx(working.mean_ms, rel=0.9)
    assert working.client_ms > 0


def test_medians_are_of_the_runs() -> None:
    runs = [Load(Timings((ms / 1000,) * 4), wall_s, client_cpu_s=0) for ms, wall_s in ((10, 1), (30, 2), (500, 4))]
    assert (median_per_s(runs), median_ms(runs, 95)) == (2, pytest.approx(30))


def test_work_is_the_difference_of_two_readings_and_its_means_are_of_requests() -> None:
    before, after = work(10, queue=20, input=5, infer=50, output=1), work(14, queue=24, input=13, infer=78, output=5)
    period = after.since(before)
    assert (period.requests, period.queue_ms, period.input_ms, period.infer_ms, period.compute_ms) == (4, 1, 2, 7, 10)


def test_the_parts_add_up_to_what_the_client_saw() -> None:
    parts = breakdown.divide(25, 2, [work(queue=1, input=1, infer=6)], work(queue=2, input=2, infer=8))
    assert parts == {"client": 2, "network": 3, "queue": 3, "prepare": 6, "encode": 8, "copies": 3}
    divided = breakdown.with_shares(parts, {"decode": 0.5, "resize": 0.25, "crop, hand-over": 0.25})
    assert "prepare" not in divided
    assert (divided["decode"], divided["resize"], divided["crop, hand-over"]) == (3, 1.5, 1.5)
    assert sum(divided.values()) == sum(parts.values()) == 25
    alone = breakdown.divide(25, 2, [], work(queue=2, input=2, infer=8))
    assert breakdown.with_shares(alone, {"tokenise": 1.0}) == {"client": 2, "network": 11, "queue": 2, "encode": 8, "copies": 2}


def test_a_real_server_tells_the_parts(serving: Serving, clip: Clip) -> None:
    requests = {tower: sdk_request(clip, tower, PHOTOS) for tower in TOWERS}
    runs = [breakdown.Run("image", 2, 12), breakdown.Run("text", 1, 12)]
    parts = {run: breakdown.measured(serving, clip, run, requests[run.tower]) for run in runs}
    assert all(ms > 0 for each in parts.values() for ms in each.values())
    shares = breakdown.preparation_shares(PHOTOS, clip.spec, 1000)
    assert 0 < shares["decode"] < 0.5
    assert sum(shares.values()) == pytest.approx(1)
    divided = {
        runs[0]: breakdown.with_shares(parts[runs[0]], shares),
        runs[1]: breakdown.with_shares(parts[runs[1]], {"tokenise": 1}),
    }
    shown = breakdown.table(divided)
    assert shown.columns == ["ms", "image, 2 clients", "text, 1 client"]
    assert [row[0] for row in shown.rows if row[1] is None] == ["tokenise"]
    assert [row[0] for row in shown.rows if row[2] is None] == ["decode", "resize", "crop, hand-over"]


def test_the_servers_cost_is_measured_for_each_item(serving: Serving, clip: Clip) -> None:
    run = scale.Run("image", cores=1, clients=2, batch=2)
    measured = scale.measured(run, serving, sdk_request(clip, run.tower, PHOTOS, run.batch))
    assert len(measured.load.times.seconds) == run.requests == scale.ITEMS["image"] // 2
    assert 0 < measured.cpu_s < 1
    row = scale.row(run, [measured])
    assert row[:2] == ["2 × 2", 1]
    assert row[2] == pytest.approx(2 * measured.load.per_s)


def test_cores_are_those_of_child_processes_too_and_given_back() -> None:
    before = os.sched_getaffinity(0)
    with scale.on_cores(1):
        nproc = subprocess.run(["nproc"], capture_output=True, text=True, check=True)
    assert nproc.stdout.strip() == "1"
    assert os.sched_getaffinity(0) == before


def test_cores_double_up_to_all() -> None:
    assert [scale.core_counts(cores) for cores in (1, 2, 6, 8)] == [[1], [1, 2], [1, 2, 4, 6], [1, 2, 4, 8]]


def test_mixed_requests_are_photos_texts_and_batches(clip: Clip) -> None:
    shapes = [server_memory.mixed(clip, PHOTOS, n - n % 2, n % 2).shape for n in (0, 1, 2, 40, 80)]
    size = clip.spec.embedding_size
    assert shapes == [(2, size), (1, size), (1, size), (3, size), (4, size)]


def test_memory_is_told_for_each_process_of_the_family(serving: Serving) -> None:
    memory = serving.memory_bytes()
    models = {"clip_image_preprocess", "clip_image_encoder", "clip_text_tokenize", "clip_text_encoder"}
    assert set(memory) == {"clipserve", "tritonserver", *models}
    resident = {process.pid: process.memory_info().rss for process in serving.family()}
    assert max(resident.values()) < sum(memory.values()) < sum(resident.values())
    parts = server_memory.parts_mb(serving)
    assert [*parts] == ["clip_image_encoder", "clip_text_encoder", "the rest"]
    assert sum(parts.values()) == pytest.approx(sum(memory.values()) / 1e6, rel=0.05)


def test_memory_is_shown_at_the_start_at_the_end_and_where_it_is_highest() -> None:
    shown = server_memory.memory_table(
        {count: {"encoder": 500.0 + (count == 130), "the rest": 50.0} for count in range(0, 401, 10)}
    )
    points = [f"after {count} requests" for count in (10, 100, 200, 300, 400)]
    assert [row[0] for row in shown.rows] == ["after the start", *points, "highest"]
    assert shown.rows[0] == ["after the start", 550, 500, 50]
    assert shown.rows[-1] == ["highest", 551, 501, 50]


def test_another_program_sees_none_of_our_python(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("PYTHONPATH", "client")
    monkeypatch.setenv("OMP_WAIT_POLICY", "passive")
    monkeypatch.setenv("HF_HUB_OFFLINE", "0")
    variables = other_programs.environment()
    assert not {"PYTHONPATH", "OMP_WAIT_POLICY"} & set(variables)
    assert (variables["HF_HUB_OFFLINE"], variables["PATH"]) == ("1", os.environ["PATH"])


def test_a_program_that_fails_says_why() -> None:
    with pytest.raises(SystemExit, match=r"false inference failed \(1\)"):
        Inference(Path("/bin/false"), "checkpoint").embed([])
    with pytest.raises(SystemExit, match="false didn't start"), infinity(Path("/bin/false"), "checkpoint", 1):
        pass


def test_an_absent_program_is_skipped_with_a_line(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    program = tmp_path / "infinity" / "bin" / "infinity_emb"
    program.parent.mkdir(parents=True)
    program.touch()
    assert other_programs.program_path(tmp_path, "infinity", "infinity_emb") == program
    assert other_programs.program_path(tmp_path, "clip-retrieval", "clip-retrieval") is None
    assert other_programs.program_path(None, "infinity", "infinity_emb") is None
    assert capsys.readouterr().out.splitlines() == [
        f"clip-retrieval is skipped: there is no {tmp_path}/clip-retrieval/bin/clip-retrieval",
        "infinity is skipped: no --peers FOLDER was given",
    ]


def test_the_others_are_written_down_with_their_versions(tmp_path: Path) -> None:
    packages = tmp_path / "infinity" / "lib" / "python3.11" / "site-packages"
    for name in ("infinity_emb-0.0.78", "torch-2.13.0+cpu"):
        (packages / f"{name}.dist-info").mkdir(parents=True)
    assert peers.installed(tmp_path) == ["infinity_emb-0.0.78"]


def test_ratios_are_ours_to_theirs_and_dashes_where_theirs_are_missing() -> None:
    ours, theirs = (Load(Timings((ms / 1000,) * 8), wall_s, 0) for ms, wall_s in ((10, 1), (40, 2)))
    run = peers.Single(peers.OURS, "image", 16)
    both = peers.single_table({run: [ours], peers.Single(peers.INFINITY, "image", 16): [theirs]})
    assert both.rows == [["images", 16, 8, 4, 2, pytest.approx(10), pytest.approx(40), pytest.approx(0.25)]]
    assert peers.single_table({run: [ours]}).rows == [["images", 16, 8, None, None, pytest.approx(10), None, None]]


def test_a_load_ends_after_some_seconds_and_keeps_its_pace() -> None:
    paced = load(lambda _: None, clients=2, seconds=0.3, per_s=50)
    assert 5 <= len(paced.times.seconds) <= 15
    assert paced.wall_s == pytest.approx(0.3, abs=0.1)
    assert len(load(lambda _: None, clients=2, seconds=0.1).times.seconds) > 15


def test_http_clients_send_other_texts_and_numbers_each_time() -> None:
    bodies = queue.SimpleQueue[bytes]()

    class Answering(http.server.BaseHTTPRequestHandler):
        protocol_version = "HTTP/1.1"

        def do_POST(self) -> None:
            bodies.put(self.rfile.read(int(self.headers["Content-Length"])))
            time.sleep(0.002)
            self.send_response(200)
            self.send_header("Content-Length", "0")
            self.end_headers()

        def log_message(self, *_: object) -> None:
            pass

    with http.server.ThreadingHTTPServer(("127.0.0.1", 0), Answering) as server, http_clients(2) as clients:
        threading.Thread(target=server.serve_forever, daemon=True).start()
        target = Target(f"http://127.0.0.1:{server.server_port}/search", '{"text": "TEXT", "number": NUMBER}')
        loads = clients.in_turns({"ours": target}, clients=2, rounds=2, seconds=0.2)["ours"]
        server.shutdown()
    sent = [json.loads(bodies.get()) for _ in range(bodies.qsize())]
    assert len(sent) == 4 + sum(len(each.times.seconds) for each in loads)  # a client's first one of a round isn't timed
    timed = [body for body in sent if body["number"]]
    assert len({body["text"] for body in timed}) == len(timed)
