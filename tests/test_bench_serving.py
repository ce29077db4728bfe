"""The benches of the server: load from several clients, a request's parts, cores, other programs."""

from __future__ import annotations

import os
import subprocess
import sys
import threading
from pathlib import Path

import pytest
from servers import Server

import pictures
from clip_client import Clip

sys.path.append(str(Path(__file__).parents[1] / "bench"))

import breakdown
import memory
import peers
import programs
import scale
from breakdown import Stay
from load import Load, load, median_ms, median_per_s
from measuring import Timings
from serving import Serving

PHOTOS = pictures.jpegs(3)


@pytest.fixture
def serving(server: Server) -> Serving:
    return Serving(server.address, server.http, f"http://127.0.0.1:{server.ports[2]}/metrics", server.process.pid)


def statistics(count: int, **ms: int) -> dict[str, object]:
    times = {part: {"count": count, "ns": 1_000_000 * spent} for part, spent in ms.items()}
    return {"inference_stats": times}


def test_all_clients_send_at_once_and_each_number_is_sent_once() -> None:
    together, numbers = threading.Barrier(4), []

    def request(number: int) -> None:
        together.wait(timeout=10)  # passes only while four are under way
        numbers.append(number)

    done = load(request, clients=4, requests=20)
    assert sorted(numbers) == list(range(20))
    assert len(done.times.seconds) == 20
    assert done.per_s == 20 / done.wall_s


def test_a_client_that_waits_uses_no_cpu_time() -> None:
    waiting = load(lambda _: threading.Event().wait(0.05), clients=2, requests=4)
    working = load(lambda _: sum(range(1_000_000)), clients=1, requests=3)
    assert waiting.client_ms < 10 < 50 <= waiting.mean_ms
    assert working.client_ms == pytest.approx(working.mean_ms, rel=0.9)
    assert working.client_ms > 0


def test_medians_are_of_the_runs() -> None:
    runs = [Load(Timings((ms / 1000,) * 4), wall_s, client_cpu_s=0) for ms, wall_s in ((10, 1), (30, 2), (500, 4))]
    assert (median_per_s(runs), median_ms(runs, 95)) == (2, pytest.approx(30))


def test_a_stay_is_what_was_added_between_two_readings() -> None:
    before = statistics(10, success=100, queue=20, compute_input=5, compute_infer=50)
    after = statistics(14, success=140, queue=24, compute_input=13, compute_infer=78)
    assert Stay.between(before, after) == Stay(queue_ms=1, input_ms=2, infer_ms=7)


def test_the_parts_add_up_to_what_the_client_saw() -> None:
    prepare, encode = Stay(queue_ms=1, input_ms=1, infer_ms=6), Stay(queue_ms=2, input_ms=2, infer_ms=8)
    parts = breakdown.parts(25, 2, prepare, encode)
    assert parts == {"client": 2, "network": 3, "queue": 3, "prepare": 6, "encode": 8, "copies": 3}
    divided = breakdown.named(parts, {"decode": 0.5, "resize": 0.25, "crop, hand-over": 0.25})
    assert "prepare" not in divided
    assert (divided["decode"], divided["resize"], divided["crop, hand-over"]) == (3, 1.5, 1.5)
    assert sum(divided.values()) == sum(parts.values()) == 25


def test_a_real_server_tells_the_parts(serving: Serving, clip: Clip) -> None:
    requests = breakdown.single_requests(clip, PHOTOS)
    runs = [breakdown.Run("image", 2, 12), breakdown.Run("text", 1, 12)]
    found = {run: breakdown.measured(serving, clip, run, requests[run.tower]) for run in runs}
    assert all(ms > 0 for parts in found.values() for ms in parts.values())
    shares = breakdown.preparation_shares(PHOTOS, clip.spec, 1000)
    assert 0 < shares["decode"] < 0.5
    assert sum(shares.values()) == pytest.approx(1)
    divided = {runs[0]: breakdown.named(found[runs[0]], shares), runs[1]: breakdown.named(found[runs[1]], {"tokenise": 1})}
    shown = breakdown.table(divided)
    assert shown.columns == ["ms", "image, 2 clients", "text, 1 client"]
    assert [row[0] for row in shown.rows if row[1] is None] == ["tokenise"]
    assert [row[0] for row in shown.rows if row[2] is None] == ["decode", "resize", "crop, hand-over"]


def test_the_servers_cost_is_measured_for_each_item(serving: Serving, clip: Clip) -> None:
    run = scale.Run("image", cores=1, clients=2, batch=2)
    found = scale.measured(run, serving, scale.request_of(clip, run, PHOTOS))
    assert len(found.load.times.seconds) == run.requests == scale.ITEMS["image"] // 2
    assert 0 < found.cpu_s < 1
    row = scale.row(run, [found])
    assert row[:2] == ["2 × 2", 1]
    assert row[2] == pytest.approx(2 * found.load.per_s)


def test_cores_are_those_of_child_processes_too_and_given_back() -> None:
    before = os.sched_getaffinity(0)
    with scale.on_cores(1):
        told = subprocess.run(["nproc"], capture_output=True, text=True, check=True)
    assert told.stdout.strip() == "1"
    assert os.sched_getaffinity(0) == before


def test_cores_double_up_to_all() -> None:
    assert [scale.core_counts(cores) for cores in (1, 2, 6, 8)] == [[1], [1, 2], [1, 2, 4, 6], [1, 2, 4, 8]]


def test_mixed_requests_are_photos_texts_and_batches(clip: Clip) -> None:
    shapes = [memory.mixed(clip, PHOTOS, n).shape for n in (0, 1, 2, 40, 80)]
    size = clip.spec.embedding_size
    assert shapes == [(2, size), (1, size), (1, size), (3, size), (4, size)]


def test_memory_is_told_for_each_process_of_the_family(serving: Serving) -> None:
    found = serving.memory_bytes()
    models = {"clip_image_preprocess", "clip_image_encoder", "clip_text_tokenize", "clip_text_encoder"}
    assert set(found) == {"clipserve", "tritonserver", *models}
    resident = {process.pid: process.memory_info().rss for process in serving.family()}
    assert max(resident.values()) < sum(found.values()) < sum(resident.values())
    parts = memory.parts_mb(serving)
    assert [*parts] == ["clip_image_encoder", "clip_text_encoder", "the rest"]
    assert sum(parts.values()) == pytest.approx(sum(found.values()) / 1e6, rel=0.05)


def test_memory_is_shown_at_the_start_at_the_end_and_where_it_is_highest() -> None:
    shown = memory.table({count: {"encoder": 500.0 + (count == 130), "the rest": 50.0} for count in range(0, 401, 10)})
    points = [f"after {count} requests" for count in (10, 100, 200, 300, 400)]
    assert [row[0] for row in shown.rows] == ["after the start", *points, "highest"]
    assert shown.rows[0] == ["after the start", 550, 500, 50]
    assert shown.rows[-1] == ["highest", 551, 501, 50]


def test_another_program_sees_none_of_our_python(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("PYTHONPATH", "client")
    monkeypatch.setenv("OMP_WAIT_POLICY", "passive")
    monkeypatch.setenv("HF_HUB_OFFLINE", "0")
    found = programs.environment()
    assert not {"PYTHONPATH", "OMP_WAIT_POLICY"} & set(found)
    assert (found["HF_HUB_OFFLINE"], found["PATH"]) == ("1", os.environ["PATH"])


def test_a_program_that_fails_says_why() -> None:
    with pytest.raises(SystemExit, match=r"clip-retrieval failed \(1\)"):
        programs.ClipRetrieval(Path("/bin/false"), "checkpoint").embed([])
    with pytest.raises(SystemExit, match="infinity didn't start"), programs.infinity(Path("/bin/false"), "checkpoint", 1):
        pass


def test_an_absent_program_is_skipped_with_a_line(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    program = tmp_path / "infinity" / "bin" / "infinity_emb"
    program.parent.mkdir(parents=True)
    program.touch()
    assert peers.found(tmp_path, "infinity", "infinity_emb") == program
    assert peers.found(tmp_path, "clip-retrieval", "clip-retrieval") is None
    assert peers.found(None, "infinity", "infinity_emb") is None
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
