"""A real tritonserver, started, stopped and killed in every way; each time nothing stays behind."""

from __future__ import annotations

import contextlib
import dataclasses
import json
import re
import shutil
import signal
import subprocess
import sys
import time
import urllib.error
import urllib.request
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from types import SimpleNamespace

import numpy as np
import psutil
import pytest
import tritonclient.grpc as grpc_client
from servers import CLIPSERVE, Server, free_ports, running
from tritonclient.utils import InferenceServerException

import pictures
from clip_client import Clip, ModelSpec, Unavailable
from clip_serve import cli, launcher, leftovers, process_watch
from clip_serve.crashes import Crashed

MODELS = ("clip_image_preprocess", "clip_image_encoder", "clip_text_tokenize", "clip_text_encoder")
FIRST_OF_MODELS = [MODELS[0], *(pytest.param(model, marks=pytest.mark.slow) for model in MODELS[1:])]


def started(repository: Path, *options: str) -> Server:
    """A server that is ready and about to be mistreated."""
    server = Server(repository, options)
    server.wait_ready()
    return server


def left_behind(server: Server) -> list[str]:
    """Shared memory and run folders of a launcher."""
    prefix = f"clipserve-{server.process.pid}-"
    roots = (leftovers.SHARED_MEMORY, Path(leftovers.tempfile.gettempdir()))
    return [str(path) for root in roots for path in root.glob(f"{prefix}*")]


def assert_gone(processes: list[psutil.Process], within_s: float = 5) -> None:
    _, alive = psutil.wait_procs(processes, timeout=within_s)
    assert [process for process in alive if process.status() != psutil.STATUS_ZOMBIE] == []


def assert_works(repository: Path) -> None:
    with running(repository) as server, Clip(server.address) as clip:
        assert np.linalg.norm(clip.embed_text("again")) == pytest.approx(1, abs=1e-5)


def run(*arguments: str | Path) -> subprocess.CompletedProcess[str]:
    return subprocess.run([CLIPSERVE, "serve", *arguments], capture_output=True, text=True, timeout=60, check=False)


@pytest.mark.timeout(60, func_only=True)
def test_what_a_server_under_test_says_never_stops_it(server: Server, clip: Clip) -> None:
    with open(f"/proc/{server.process.pid}/fd/2", "ab") as messages:
        messages.write(b"a message\n" * 20_000)  # a pipe holds a third of that, then whoever writes waits for ever
    assert clip.embed_text("a cat").shape == (clip.spec.embedding_size,)


@pytest.mark.parametrize(("free", "begins"), [(0, 16), (2**26, 16), (2**31, 32), (2**40, 64)])
def test_python_processes_begin_with_a_share_of_the_shared_memory(
    free: int, begins: int, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    monkeypatch.setattr(shutil, "disk_usage", lambda folder: SimpleNamespace(free=free))
    assert launcher.shared_bytes(tmp_path) == begins * 2**20


def test_without_shared_memory_the_least_is_asked_for(tmp_path: Path) -> None:
    assert launcher.shared_bytes(tmp_path / "none") == 16 * 2**20


def test_it_says_where_it_listens_and_is_quick(repository: Path) -> None:
    start = time.monotonic()
    server = Server(repository)
    first, *rest = (server.process.stdout.readline() for _ in range(5))
    assert re.fullmatch(r"ready after \d+\.\d s, serving clip\n", first)
    assert time.monotonic() - start < 20
    assert f"  gRPC     {server.address}\n" in rest
    assert f"  health   {server.http}/v2/health/ready\n" in rest
    status, _, err = server.stop()
    assert (status, err) == (0, "stopping\n")


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
def test_a_signal_stops_it_in_time_without_a_trace(number: signal.Signals, repository: Path) -> None:
    server = started(repository)
    family = server.family()
    assert len(family) >= 2 + len(MODELS)
    start = time.monotonic()
    server.process.send_signal(number)
    status, _, _ = server.ended(timeout_s=10)
    assert time.monotonic() - start < 10
    assert status == 0
    assert_gone(family, within_s=1)
    assert left_behind(server) == []


def test_a_signal_stops_it_while_it_loads(repository: Path) -> None:
    server = Server(repository)
    wait_for(lambda: len(server.family()) > 1)
    family = server.family()
    assert server.stop()[0] == 0
    assert_gone(family, within_s=1)
    assert left_behind(server) == []


@pytest.mark.parametrize("model", FIRST_OF_MODELS)
def test_a_killed_stub_ends_the_server_and_says_so(model: str, repository: Path) -> None:
    server = started(repository)
    family = server.family()
    start = time.monotonic()
    server.stub(model).kill()
    status, _, err = server.ended(timeout_s=15)
    assert time.monotonic() - start < 5
    assert status == 1
    assert f"the Python process of {model} died" in err
    assert_gone(family, within_s=1)
    assert left_behind(server) == []


@pytest.mark.long
def test_a_stub_killed_as_the_server_gets_ready_is_noticed(repository: Path) -> None:
    server = Server(repository)
    with Clip(server.address) as clip:
        clip.wait_ready(timeout_s=120)  # a start that stands still is begun again after a minute
        server.stub("clip_text_encoder").kill()
    status, _, err = server.ended(timeout_s=15)
    assert status == 1
    assert "error: " in err
    assert "Traceback" not in err
    assert left_behind(server) == []


def test_a_stub_that_ends_as_its_command_is_read_is_noticed(server: Server, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(psutil.Process, "cmdline", lambda process: [])  # as of a zombie
    with pytest.raises(Unavailable, match="died as it started"):
        process_watch.Watch(server.tritonserver(), len(MODELS), "")


def test_a_killed_tritonserver_ends_the_launcher(repository: Path) -> None:
    server = started(repository)
    family = server.family()
    server.tritonserver().kill()
    status, _, err = server.ended()
    assert status == 1
    assert "tritonserver ended by itself" in err
    assert_gone(family, within_s=1)
    assert left_behind(server) == []
    assert_works(repository)


@pytest.mark.long
def test_after_a_crash_the_server_is_started_again(repository: Path) -> None:
    server = started(repository)
    crashed = []
    with Clip(server.address) as clip:
        before = clip.embed_text("a cat")
        for name in ("clip_text_tokenize", "tritonserver", "clip_image_preprocess"):
            crashed.append(server.tritonserver() if name == "tritonserver" else server.stub(name))
            crashed[-1].send_signal(signal.SIGSEGV)
            assert any(line.startswith("ready after") for line in iter(server.process.stdout.readline, ""))
            np.testing.assert_allclose(clip.embed_text("a cat"), before, atol=1e-5)
    server.tritonserver().send_signal(signal.SIGSEGV)
    status, _, err = server.ended(60)
    assert status == 1
    assert err.count("starting again") == 3
    assert "that was crash 4 within 10 minutes: stopping" in err
    assert_gone(crashed)
    assert left_behind(server) == []


@pytest.mark.parametrize(("work", "stands"), [("sleep 60", True), ("while :; do :; done", False)])
def test_a_start_that_stands_still_is_noticed(monkeypatch: pytest.MonkeyPatch, work: str, stands: bool) -> None:
    monkeypatch.setattr(process_watch, "_STILL_S", 1.0)
    monkeypatch.setattr(process_watch, "_LEAST_CPU_S", 0.01)
    monkeypatch.setattr(process_watch, "_LOOK_S", 0.1)
    server = subprocess.Popen(["sh", "-c", f"{work} & wait"], start_new_session=True)
    start, end = process_watch.Start(server), time.monotonic() + 3
    try:
        with pytest.raises(Crashed, match="stood still") if stands else contextlib.nullcontext():
            while time.monotonic() < end:
                start.check()
                time.sleep(0.02)
    finally:
        process_watch.end_at_once(server)


def test_a_crash_at_the_start_is_tried_again(repository: Path) -> None:
    server = Server(repository)
    wait_for(lambda: [one for one in server.family() if one.name() == "tritonserver"])
    server.tritonserver().send_signal(signal.SIGABRT)
    server.wait_ready()
    server.process.terminate()
    status, _, err = server.ended()
    assert status == 0
    assert "tritonserver didn't start" in err
    assert "(SIGABRT): starting again" in err


@pytest.mark.long  # beside the next, which is killed under load
def test_a_killed_launcher_takes_everything_with_it(repository: Path) -> None:
    server = started(repository)
    family = server.family()
    server.process.kill()
    server.ended()
    assert_gone(family)
    assert_works(repository)  # a start sweeps what a killed launcher couldn't remove
    assert left_behind(server) == []


def test_a_launcher_killed_under_load_takes_everything_with_it(repository: Path) -> None:
    for model in ("clip_image_encoder", "clip_text_tokenize"):
        server = started(repository)
        family = server.family()
        with Clip(server.address, timeout_s=20) as clip, ThreadPoolExecutor(8) as pool:
            clip.embed_text("ready")
            requests = [pool.submit(clip.embed_image, pictures.jpegs(3)) for _ in range(200)]
            requests[10].result()
            server.stub(model).suspend()  # one that can't see for itself that its parent is gone
            server.process.kill()
            assert_gone(family)
            for request in requests:
                request.cancel()
        server.ended()


def test_a_start_ends_processes_that_were_left(tmp_path: Path) -> None:
    names = ("tritonserver", "triton_python_backend_stub", "innocent")
    command = ["-c", "import time; time.sleep(60)", "clipserve-999999-1-test"]
    for name in names:
        (tmp_path / name).symlink_to(sys.executable)
    processes = [subprocess.Popen([tmp_path / name, *command]) for name in names]
    wait_for(lambda: [psutil.Process(one.pid).name()[:15] for one in processes] == [name[:15] for name in names])
    leftovers.sweep()
    wait_for(lambda: processes[0].poll() is not None and processes[1].poll() is not None)
    assert processes[2].poll() is None
    processes[2].kill()
    processes[2].wait()


@pytest.mark.parametrize("who", ["tritonserver", *FIRST_OF_MODELS])
def test_a_process_that_is_halted_is_noticed_and_ends_the_server(who: str, repository: Path) -> None:
    server = started(repository)
    family = server.family()
    frozen = server.tritonserver() if who == "tritonserver" else server.stub(who)
    start = time.monotonic()
    frozen.suspend()
    wait_for(lambda: readiness(server) == 503, within_s=3)
    status, _, err = server.ended(timeout_s=20)
    assert time.monotonic() - start < 10
    assert status == 1
    assert f"the process of {who} was halted" in err
    assert_gone(family, within_s=1)
    assert left_behind(server) == []


def test_a_short_halt_is_no_end(repository: Path) -> None:
    with running(repository) as server, Clip(server.address) as clip:
        stub = server.stub("clip_text_encoder")
        stub.suspend()
        wait_for(lambda: readiness(server) == 503, within_s=3)
        stub.resume()
        assert clip.embed_text("x").any()
        wait_for(lambda: readiness(server) == 200, within_s=3)


def test_it_is_not_ready_before_it_is(repository: Path) -> None:
    server = Server(repository)
    seen = set()

    def settled() -> bool:
        seen.add(readiness(server))
        return 200 in seen

    wait_for(settled, within_s=60)
    assert seen <= {0, 503, 200}
    server.wait_ready()
    assert server.stop()[0] == 0


def readiness(server: Server) -> int:
    """Status of the health check; 0 where nobody listens."""
    try:
        return int(urllib.request.urlopen(f"{server.http}/v2/health/ready", timeout=5).status)
    except urllib.error.HTTPError as problem:
        return problem.code
    except OSError:
        return 0


def test_only_what_is_abandoned_is_swept() -> None:
    own = Path(leftovers.SHARED_MEMORY, leftovers.prefix() + "test")
    abandoned = Path(leftovers.SHARED_MEMORY, "clipserve-999999-1-test")
    foreign = Path(leftovers.SHARED_MEMORY, "clipserve-notes-of-the-user")
    for path in (own, abandoned, foreign):
        path.touch()
    leftovers.sweep()
    assert [path.exists() for path in (own, abandoned, foreign)] == [True, False, True]
    leftovers.remove_own()
    assert not own.exists()
    foreign.unlink()


def test_a_clock_that_is_set_makes_nobody_abandoned(monkeypatch: pytest.MonkeyPatch) -> None:
    own = Path(leftovers.SHARED_MEMORY, leftovers.prefix() + "test")
    own.touch()
    monkeypatch.setattr("psutil._pslinux.boot_time", lambda: 1.0)  # as after a step of the clock
    leftovers.sweep()
    assert own.exists()
    leftovers.remove_own()
    assert not own.exists()


def test_what_is_closed_to_others_is_its_own_and_no_link(tmp_path: Path) -> None:
    own, link = (Path(leftovers.SHARED_MEMORY, leftovers.prefix() + name) for name in ("own", "link"))
    target = tmp_path / "target"
    for path in (own, target):
        path.touch()
        path.chmod(0o644)
    link.symlink_to(target)
    leftovers.close_own()
    assert [path.stat().st_mode & 0o777 for path in (own, target)] == [0o600, 0o644]
    leftovers.remove_own()
    assert target.exists()


def test_two_servers_do_not_disturb_each_other(server: Server, repository: Path) -> None:
    second = started(repository)
    assert second.stop()[0] == 0
    with Clip(server.address) as clip:
        assert clip.embed_text("still there").shape == (clip.spec.embedding_size,)


def test_a_taken_port_is_named(server: Server, repository: Path) -> None:
    http, metrics = free_ports(2)
    ports = ["--http-port", str(http), "--grpc-port", str(server.ports[1]), "--metrics-port", str(metrics)]
    result = run("--repository", repository, *ports)
    assert result.returncode == 1
    assert result.stderr == (
        f"error: 127.0.0.1:{server.ports[1]} can't be used (Address already in use): "
        "stop what uses it, or pass another --grpc-port\n"
    )


def test_a_host_of_another_machine_is_refused(repository: Path) -> None:
    result = run("--repository", repository, "--host", "192.0.2.1")
    assert result.returncode == 1
    assert "192.0.2.1:8000 can't be used (Cannot assign requested address)" in result.stderr


@pytest.mark.parametrize(("host", "address"), [("localhost", "127.0.0.1"), ("::1", "[::1]")])
def test_hosts_by_name_and_in_ipv6(host: str, address: str, repository: Path) -> None:
    with running(repository, "--host", host) as server, Clip(f"{address}:{server.ports[1]}") as clip:
        assert clip.embed_text("x").any()


def test_a_host_that_is_none(repository: Path) -> None:
    for host in ("no such host", ""):
        result = run("--repository", repository, "--host", host)
        assert result.returncode == 1
        assert f"--host {host!r} isn't an address" in result.stderr


def test_a_proxy_for_the_web_is_passed_by(repository: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    for variable in ("http_proxy", "https_proxy", "HTTP_PROXY"):
        monkeypatch.setenv(variable, "http://127.0.0.1:9")
    with running(repository) as server, Clip(server.address) as clip:
        assert clip.embed_text("x").any()


@pytest.mark.long
def test_paths_go_through_no_shell(repository: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    odd = tmp_path / "my models; $(touch injected) 'n' more"
    shutil.copytree(repository, odd)
    (tmp_path / "temporary files").mkdir()
    monkeypatch.setenv("TMPDIR", str(tmp_path / "temporary files"))
    with running(odd) as server, Clip(server.address) as clip:
        assert clip.embed_image(pictures.jpegs(1)).any()
    with running(odd, "--threads", "1") as server, Clip(server.address) as clip:
        assert clip.embed_text("x").any()
    assert not [path for root in (tmp_path, Path.cwd()) for path in root.rglob("injected")]


@pytest.mark.parametrize(
    ("options", "message"),
    [
        (("--log", "/no/such/folder/x.log"), "the log can't be written"),
        (("--grpc-port", "9000", "--http-port", "9000"), "pass three different ones"),
        (("--http-port", "70000"), "70000 isn't between 1 and 65535"),
        (("--http-port", "x"), "invalid port value: 'x'"),
    ],
    ids=str,
)
def test_options_that_cannot_be(options: tuple[str, ...], message: str, repository: Path) -> None:
    names = ("--http-port", "--grpc-port", "--metrics-port")
    free = [str(word) for pair in zip(names, free_ports(3), strict=True) for word in pair]
    result = run("--repository", repository, *free, *options)
    assert result.returncode in (1, 2)
    assert message in result.stderr
    assert "Traceback" not in result.stderr


class TestRepositories:
    """Repositories that can't be served are refused before Triton sees them."""

    @pytest.fixture
    def own(self, repository: Path, tmp_path: Path) -> Path:
        return Path(shutil.copytree(repository, tmp_path / "own"))

    def refused(self, repository: Path) -> str:
        result = run("--repository", repository)
        assert result.returncode == 1
        assert "Traceback" not in result.stderr
        return result.stderr

    def test_missing(self, tmp_path: Path) -> None:
        assert "no model repository" in self.refused(tmp_path / "nowhere")

    def test_empty(self, tmp_path: Path) -> None:
        assert "is empty: publish a checkpoint with: clipserve export --model FOLDER" in self.refused(tmp_path)

    def test_as_cloned_without_weights(self, own: Path) -> None:
        for folder in own.glob("*/1"):
            shutil.rmtree(folder)
        assert "has no weights for clip_image," in self.refused(own)

    def test_half_published(self, own: Path) -> None:
        shutil.rmtree(own / "clip_text")
        assert "lacks clip_text:" in self.refused(own)

    def test_of_two_checkpoints_under_one_name(self, own: Path, spec: ModelSpec) -> None:
        dataclasses.replace(spec, logit_scale=50.0).save(own / "clip_text" / "1" / "spec.json")
        assert "different checkpoints under one name" in self.refused(own)

    def test_of_an_older_layout(self, own: Path) -> None:
        path = own / "clip_text" / "1" / "spec.json"
        path.write_text(json.dumps({**json.loads(path.read_text()), "format": 0}))
        assert "isn't of this version's layout" in self.refused(own)

    def test_with_damaged_weights(self, own: Path) -> None:
        (own / "clip_text_encoder" / "1" / "model.onnx").write_bytes(b"damaged")
        ports = [text for flag, port in zip(("http", "grpc", "metrics"), free_ports(3), strict=True)
                 for text in (f"--{flag}-port", str(port))]  # fmt: skip
        result = run("--repository", own, *ports)
        assert result.returncode == 1
        assert "failed to load 'clip_text_encoder'" in result.stderr
        assert "tritonserver didn't start: the lines above say why" in result.stderr


@pytest.mark.long
def test_instances_and_threads_leave_the_repository_as_it_is(repository: Path, tmp_path: Path) -> None:
    before = {path: path.read_bytes() for path in repository.rglob("config.pbtxt")}
    with running(repository, "--instances", "2", "--threads", "1", "--log", str(tmp_path / "triton.log")) as server:
        config = grpc_client.InferenceServerClient(server.address).get_model_config("clip_image_encoder").config
        assert config.instance_group[0].count == 2
        assert config.parameters["intra_op_thread_count"].string_value == "1"
        assert len([process for process in server.family() if "clip_image_encoder_0_1" in process.cmdline()]) == 1
    assert {path: path.read_bytes() for path in repository.rglob("config.pbtxt")} == before
    assert "successfully loaded 'clip_image'" in (tmp_path / "triton.log").read_text()


def test_defaults_come_from_the_environment_and_a_file(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    (tmp_path / "clipserve.toml").write_text("[serve]\nhttp_port = 9000\ngrpc_port = 9100\n[search]\nport = 5\n")
    monkeypatch.setenv("CLIPSERVE_SERVE_GRPC_PORT", "9001")
    with pytest.raises(SystemExit):
        cli.main(["--config", str(tmp_path / "clipserve.toml"), "--help"])
    told = re.sub(r"\s+", " ", capsys.readouterr().out)
    assert re.search(r"--http-port PORT .*\(default: 9000\) --grpc-port PORT .*\(default: 9001\) --metrics-port", told)
    monkeypatch.setenv("CLIPSERVE_SERVE_GRPC_PROT", "9001")
    assert cli.main(["--install"]) == 1
    assert "did you mean CLIPSERVE_SERVE_GRPC_PORT" in capsys.readouterr().err


@pytest.mark.parametrize("option", ["--instances", "--threads"])
def test_no_instances_or_threads_are_refused(option: str) -> None:
    result = run(option, "0")
    assert result.returncode == 2
    assert "0 is below 1" in result.stderr


def test_protocols_that_change_the_server_are_closed(server: Server) -> None:
    client = grpc_client.InferenceServerClient(server.address)
    for forbidden in (
        client.get_model_repository_index,
        client.get_system_shared_memory_status,
        client.get_log_settings,
        client.get_trace_settings,
        lambda: client.unload_model("clip_image"),
    ):
        with pytest.raises(InferenceServerException, match="restricted"):
            forbidden()
    with pytest.raises(urllib.error.HTTPError, match="405"):
        urllib.request.urlopen(urllib.request.Request(f"{server.http}/v2/repository/index", method="POST"))


def test_it_listens_on_loopback_only(server: Server) -> None:
    listening = [c.laddr for p in server.family() for c in p.net_connections("inet") if c.status == psutil.CONN_LISTEN]
    assert {address.port for address in listening} == set(server.ports)
    assert {address.ip.removeprefix("::ffff:") for address in listening} == {"127.0.0.1"}


def test_the_models_answer_on_their_own(server: Server, spec: ModelSpec) -> None:
    client = grpc_client.InferenceServerClient(server.address)
    rows = np.array([pictures.jpegs(1)[0], b"no image"], np.object_).reshape(-1, 1)
    prepared = infer(client, "clip_image_preprocess", "image", rows, "BYTES")
    assert prepared.as_numpy("pixels").shape == (2, spec.image_size, spec.image_size, 3)
    assert [bool(error) for error in prepared.as_numpy("error").ravel()] == [False, True]
    embedding = infer(client, "clip_image_encoder", "pixels", prepared.as_numpy("pixels"), "UINT8").as_numpy("embedding")
    whole = infer(client, "clip_image", "image", rows, "BYTES").as_numpy("embedding")
    np.testing.assert_allclose(embedding, whole, atol=1e-6)
    assert not whole[1].any()
    tokens = infer(client, "clip_text_tokenize", "text", np.array([[b"a cat"]], np.object_), "BYTES").as_numpy("tokens")
    assert (tokens.dtype, tokens.shape) == (np.int32, (1, 8))
    assert infer(client, "clip_text_encoder", "tokens", tokens, "INT32").as_numpy("embedding").shape == (1, spec.embedding_size)


def infer(client: grpc_client.InferenceServerClient, model: str, name: str, array: np.ndarray, datatype: str):
    tensor = grpc_client.InferInput(name, list(array.shape), datatype)
    tensor.set_data_from_numpy(array)
    return client.infer(model, [tensor])


def wait_for(condition, within_s: float = 20) -> None:
    deadline = time.monotonic() + within_s
    while not condition():
        assert time.monotonic() < deadline
        time.sleep(0.02)
