"""Versions side by side: a roll on the disk, killed anywhere, refused where it must be, and under load on a real server."""

from __future__ import annotations

import json
import shutil
import subprocess
import sys
import threading
import urllib.request
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from filelock import FileLock
from repositories import changed_weights, named_anew
from servers import Server, running
from sidecars import running as running_sidecar
from ups import wait_for

from clip_client import Clip, ContractMismatch, ModelSpec, model_versions
from clip_client.repository_check import check
from clip_client.search import Row, Search, Term
from clip_search import trial
from clip_serve.versions import cli, memory_check

TEXTS = ["a cat", "a dog", "two cows"]


@pytest.fixture
def own(repository: Path, tmp_path: Path) -> Path:
    """A repository of six models."""
    return Path(shutil.copytree(repository, tmp_path / "model_repository"))


@pytest.fixture
def taught(repository: Path, spec: ModelSpec, tmp_path: Path) -> Path:
    """The same with another text tower."""
    made = named_anew(repository, tmp_path / "taught", space=spec.space, image_sha256=spec.image_sha256, weights="1" * 64)
    changed_weights(made, "text")
    return made


def publish(repository: Path, *arguments: object, server: Server | None = None, status: int = 0) -> None:
    where = ["--server", server.http] if server else ["--no-server"]
    assert cli.main([*map(str, arguments), "--repository", str(repository), *where]) == status


def answered(repository: Path, name: str = "clip") -> np.ndarray:
    with Clip.local(repository, name=name) as clip:
        return clip.embed_text(TEXTS)


def files(repository: Path) -> dict[str, bytes]:
    return {str(path.relative_to(repository)): path.read_bytes() for path in repository.rglob("*.pbtxt")}


def test_a_version_goes_into_service_and_back(own: Path, taught: Path, capsys: pytest.CaptureFixture[str]) -> None:
    before, after = answered(own), answered(taught)
    publish(own, taught, "--beside")
    assert check(own) == ["clip"]
    np.testing.assert_array_equal(answered(own), before)
    np.testing.assert_array_equal(answered(own, "clip.2"), after)
    publish(own, "--to", 2)
    np.testing.assert_array_equal(answered(own), after)
    np.testing.assert_array_equal(answered(own, "clip.1"), before)
    with Clip.local(own) as clip, Clip.local(taught) as there:
        assert clip.spec == there.spec
    publish(own, "--rollback")
    assert (model_versions.serving(own, "clip"), model_versions.kept(own, "clip")) == (1, [1, 2])
    np.testing.assert_array_equal(answered(own), before)
    publish(own, "--rollback")
    np.testing.assert_array_equal(answered(own), after)
    publish(own, taught)
    assert (model_versions.serving(own, "clip"), model_versions.kept(own, "clip")) == (3, [2, 3])  # the others are gone
    publish(own, "--to", 7, status=1)
    assert "clip has no version 7 to go to: version 3 serves, 2 is kept" in capsys.readouterr().err


def test_weights_are_not_copied(own: Path, taught: Path) -> None:
    publish(own, taught)
    one, other = (root / f"{name}_text_encoder/1/model.onnx" for root, name in ((own, "clip.2"), (taught, "clip")))
    assert one.samefile(other)


@pytest.mark.parametrize(
    ("arguments", "told"),
    [
        ((), "expected either a folder to publish, or --rollback or --to N"),
        (("--rollback",), "clip has no earlier version to go to: version 1 serves, no other is kept"),
        (("{taught}", "--beside", "--replace"), "--beside and --replace exclude each other"),
        (("{taught}", "--name", "siglip"), "has no siglip, but clip: pass --name"),
        (("{taught}/clip_text",), "is empty: publish a checkpoint"),
        (("nowhere",), "no model repository nowhere"),
    ],
)
def test_what_cannot_be_published_is_named(
    arguments: tuple[str, ...], told: str, own: Path, taught: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    before = files(own)
    publish(own, *(argument.format(taught=taught) for argument in arguments), status=1)
    assert told in capsys.readouterr().err
    assert files(own) == before


def test_another_space_needs_a_word(own: Path, repository: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    other = named_anew(repository, tmp_path / "other", image_sha256="4" * 64, weights="4" * 64)
    publish(own, other, status=1)
    spec = ModelSpec.load(other / "clip_text" / "1" / "spec.json")
    assert f"is of space {spec.space}" in (error := capsys.readouterr().err)
    assert "pass --new-space" in error
    publish(own, other, "--new-space")
    with Clip.local(own) as clip:
        assert clip.spec.space == spec.space


def test_a_roll_while_another_is_under_way_is_refused(own: Path, taught: Path, capsys: pytest.CaptureFixture[str]) -> None:
    with FileLock(own.parent / ".model_repository.roll.lock"):
        publish(own, taught, status=1)
    assert "another roll of" in capsys.readouterr().err


def test_a_server_that_is_not_there_is_told_before_anything_changes(
    own: Path, taught: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    before = files(own)
    assert cli.main([str(taught), "--repository", str(own), "--server", "http://127.0.0.1:9"]) == 1
    assert "doesn't answer" in capsys.readouterr().err
    assert files(own) == before


def test_memory_for_two_is_measured_before(own: Path, taught: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    publish(own, taught, "--beside")
    memory_check.check(own, "clip", "clip.2", 1000)
    monkeypatch.setattr(memory_check, "free_bytes", lambda: 10**9)
    with pytest.raises(
        ConnectionError, match=r"clip takes 2,000 MB .*takes about 2,\d+ MB, and 1,000 MB are free: pass --replace"
    ):
        memory_check.check(own, "clip", "clip.2", 2 * 10**9)


@pytest.mark.long
def test_a_kill_at_every_step_leaves_one_or_the_other(own: Path, taught: Path) -> None:
    """Each child is killed before another change of the file system; a fresh process, since a fork takes no threads along."""
    script = Path(__file__).parent / "lib" / "killed_publish.py"
    run = subprocess.run([sys.executable, script, own, taught], capture_output=True, text=True, check=False)
    assert run.returncode == 0, run.stderr
    outcome = json.loads(run.stdout)
    assert outcome["steps"] > 50
    assert outcome["names"] == [["clip"]]
    assert outcome["serving"] == sorted(outcome["serving"])
    assert set(outcome["serving"]) == {1, 2}
    assert outcome["afterwards"] == "serves"


@pytest.mark.long
def test_a_roll_under_load_fails_no_request_and_mixes_nothing(own: Path, taught: Path, spec: ModelSpec) -> None:
    before, after = answered(own), answered(taught)
    stop, seen, failed = threading.Event(), list[str](), list[str]()
    most_beside_old = [0]  # answers of version 2 to one client while a process of version 1 still ends
    with running(own) as server:
        old = [process for process in server.family() if "stub" in process.name() and "_encoder/" in process.cmdline()[1]]
        assert old

        def ask() -> None:
            beside_old = 0
            with Clip(server.address) as clip:
                while not stop.wait(0.01):  # at full speed they would only keep what is published from its start
                    try:
                        rows = clip.embed_text(TEXTS)
                    except Exception as problem:
                        failed.append(repr(problem))
                        return
                    seen.append(
                        "".join(kind for kind, truth in (("1", before), ("2", after)) if np.allclose(rows, truth, atol=1e-5))
                    )
                    beside_old += seen[-1] == "2" and any(process.is_running() for process in old)
                    most_beside_old[0] = max(most_beside_old[0], beside_old)

        threads = [threading.Thread(target=ask) for _ in range(4)]
        for thread in threads:
            thread.start()
        with Clip(server.address) as clip:
            assert clip.embed_text("x").any()
            publish(own, taught, "--beside", server=server)
            with Clip(server.address, name="clip.2") as beside:
                np.testing.assert_allclose(beside.embed_text(TEXTS), after, atol=1e-5)
            publish(own, "--to", 2, server=server)
            np.testing.assert_allclose(clip.embed_text(TEXTS), after, atol=1e-5)
            assert (clip.spec.space, clip.spec.fingerprint != spec.fingerprint) == (spec.space, True)
            publish(own, "--rollback", server=server)
            np.testing.assert_allclose(clip.embed_text(TEXTS), before, atol=1e-5)
            assert clip.spec.fingerprint == spec.fingerprint
            (taught / "clip_text_encoder" / "1" / "model.onnx").unlink()
            (taught / "clip_text_encoder" / "1" / "model.onnx").write_bytes(b"no model")
            publish(own, taught, server=server, status=1)
            assert model_versions.kept(own, "clip") == [1, 2]
            assert clip.count_tokens(["a cat"]) == [4]
        stop.set()
        for thread in threads:
            thread.join()

        def told() -> dict[str, Any]:
            return dict(json.loads(urllib.request.urlopen(f"{server.http}/v2/clipserve/versions").read())["names"]["clip"])

        wait_for(lambda: told() == {"serving": 1, "loaded": [1], "trouble": {}})  # the launcher looks once a second or so
        loaded = {process.cmdline()[1].split("/")[-3] for process in server.family() if "stub" in process.name()}
        assert loaded == {f"clip.1_{model}" for model in ("image_preprocess", "image_encoder", "text_tokenize", "text_encoder")}
    assert not failed
    assert set(seen) == {"1", "2"}
    assert most_beside_old[0] > 1  # the first one tells a client of version 2; it doesn't stand still until version 1 has ended


def positions(count: int, share: float) -> list[bool]:
    return [trial._position(f"client {n}") < share for n in range(count)]


def test_a_share_of_the_clients_is_always_the_same() -> None:
    tenth, fifth = positions(5000, 0.1), positions(5000, 0.2)
    assert tenth == positions(5000, 0.1)
    assert 400 < sum(tenth) < 600
    assert all(also for also, first in zip(fifth, tenth, strict=True) if first)


@pytest.mark.long
def test_a_share_of_the_text_queries_goes_to_the_version_beside(
    own: Path, taught: Path, spec: ModelSpec, tmp_path: Path
) -> None:
    publish(own, taught, "--beside")
    other = ModelSpec.load(taught / "clip_text" / "1" / "spec.json").fingerprint
    clients = [f"client {n}" for n in range(40)]
    chosen = {client for client in clients if trial._position(client) < 0.3}
    assert 0 < len(chosen) < len(clients)
    with running(own) as server, running_sidecar(tmp_path / "search", server.address, "--share", "0.3") as sidecar:
        with sidecar.client() as search:
            search.create("c")
            search.add("c", [Row(id="a", text="a cat")])

        def models() -> dict[str, str]:
            return {client: asked(sidecar.url, client)["model"] for client in [*clients, ""]}

        wait_for(lambda: asked(sidecar.url, min(chosen))["model"] == other, timeout_s=60)
        assert models() == {client: other if client in chosen else spec.fingerprint for client in [*clients, ""]}
        with sidecar.client() as search:
            assert {client: search.query("c", "a cat", client=client).model for client in [*clients, ""]} == models()
        assert asked(sidecar.url, "")["space"] == spec.space
        publish(own, "--to", 2, server=server)
        wait_for(lambda: asked(sidecar.url, "")["model"] == other and set(models().values()) == {other}, timeout_s=60)
        with sidecar.client() as search:
            assert search.query("c", "a cat")[0].id == "a"
            assert search.stats("c")["space"] == spec.space
            foreign = named_anew(taught, tmp_path / "foreign", weights="5" * 64)
            publish(own, foreign, "--new-space", server=server)
            for n in range(3):
                with pytest.raises(ContractMismatch, match=f"c holds vectors of model {spec.fingerprint}"):
                    search.query("c", f"a dog {n}")
                with pytest.raises(ContractMismatch, match=f"c holds vectors of model {spec.fingerprint}"):
                    search.add("c", [Row(id="b", text="a dog")])
            assert search.query("c", Term(id="a")) == []  # answered: the row itself is left out, and there is no other
            publish(own, "--rollback", "--new-space", server=server)
            assert search.query("c", "a cat")[0].id == "a"


@pytest.mark.long
def test_a_collection_goes_over_to_a_version_of_another_space(own: Path, repository: Path, tmp_path: Path) -> None:
    other = named_anew(repository, tmp_path / "other", weights="5" * 64)
    changed_weights(other, "text")
    space = ModelSpec.load(other / "clip_text" / "1" / "spec.json").space
    texts = [f"{n} cats and a dog" for n in range(20)]

    def check(search: Search) -> None:
        hits = search.query("c", texts[7], k=len(texts), modality="text")
        assert hits.space == space
        assert [hit.score for hit in hits] == pytest.approx([scores[hit.id] for hit in hits], abs=1e-4)
        assert {hit.id for hit in hits} == set(texts)

    with (
        running(own) as server,
        running_sidecar(tmp_path / "search", server.address) as sidecar,
        sidecar.client() as search,
        Clip(server.address) as clip,
    ):
        search.create("c", columns={"caption": "string"})
        search.add("c", [Row(id=text, text=text, metadata={"caption": text}) for text in texts])
        before = clip.embed_text(texts)
        publish(own, other, "--beside", "--new-space", server=server)
        search.reembed("c", "2")
        wait_for(lambda: search.reembedding("c")["state"] in ("kept", "failed", "refused"), timeout_s=120)
        with Clip(server.address, name="clip.2") as beside:
            vectors = beside.embed_text(texts)
        scores = dict(zip(texts, (vectors @ vectors[7]).tolist(), strict=True))
        assert np.abs(vectors @ vectors[7] - before @ before[7]).max() > 1e-3
        check(search)
        publish(own, "--to", 2, "--new-space", server=server)
        check(search)
        search.drop_old_vectors("c")
        check(search)


def asked(url: str, client: str) -> dict[str, Any]:
    body = json.dumps({"text": "a cat", "client": client}).encode()
    request = urllib.request.Request(f"{url}/v1/collections/c/search", body, {"Content-Type": "application/json"})
    return dict(json.loads(urllib.request.urlopen(request).read()))
