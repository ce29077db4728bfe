"""Repositories of the hub: what is fetched, what is said, what faults become; behind a stand-in of its API."""

from __future__ import annotations

import hashlib
import json
import threading
from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler, HTTPServer
from pathlib import Path

import hub_server
import pytest
from hub_server import Fault, Hub, PullRequest, Repository
from huggingface_hub import HfApi, constants, hf_hub_download
from huggingface_hub.hf_api import RepoFile

from clip_client.errors import InvalidInput, Unavailable
from clip_export.checkpoints import conversions, hub, hub_client

NAME = "org/clip"
TOKEN = "hf_secretsecretsecret"
WEIGHTS = bytes(range(256)) * 256  # 64 KiB
SMALL = {"config.json": b'{"model_type": "clip"}', "README.md": b"read me"}


def write(folder: Path, files: dict[str, bytes]) -> Path:
    for name, content in files.items():
        (folder / name).parent.mkdir(parents=True, exist_ok=True)
        (folder / name).write_bytes(content)
    return folder


@pytest.fixture
def server(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Hub]:
    """A hub with one repository, which this process uses."""
    main = write(tmp_path / "main", {**SMALL, "model.safetensors": WEIGHTS})
    with hub_server.running({NAME: Repository(main)}) as running:
        running.use(monkeypatch, tmp_path / "home")
        monkeypatch.setattr(constants, "HF_ASSETS_CACHE", str(tmp_path / "home" / "assets"))
        monkeypatch.setattr(hub_client, "PAUSES_S", (0.01, 0.02, 0.04))
        monkeypatch.delenv("HF_TOKEN", raising=False)
        yield running


@pytest.fixture
def said() -> list[str]:
    return []


def fetch(said: list[str], *names: str, name: str = NAME, revision: str | None = None) -> Path:
    return hub.fetched(hub.repository(name, revision, said.append), names or ["config.json", "model.safetensors"], said.append)


def test_only_the_files_asked_for_are_fetched_and_once(server: Hub, said: list[str]) -> None:
    folder = fetch(said)
    assert (folder / "model.safetensors").read_bytes() == WEIGHTS
    assert server.fetched(NAME) == ["config.json", "model.safetensors"]
    assert said == [f"downloading {NAME}: 2 files, 0.1 MB"]
    server.requests.clear()
    assert fetch(said) == folder
    assert server.fetched(NAME) == []


def test_the_id_is_the_hubs_own_spelling(server: Hub, said: list[str]) -> None:
    server.renamed["old/name"] = NAME
    for name in ("Org/CLIP", "old/name"):
        assert hub.repository(name, None, said.append).name == NAME


def test_a_gated_repository_says_where_the_licence_is(server: Hub, said: list[str], monkeypatch: pytest.MonkeyPatch) -> None:
    server.repositories[NAME].gated = [TOKEN]
    with pytest.raises(InvalidInput, match=f"{NAME} is gated: accept its licence at {server.address}/{NAME} and set HF_TOKEN"):
        fetch(said)
    monkeypatch.setenv("HF_TOKEN", "hf_of_somebody_else")
    with pytest.raises(InvalidInput, match="the account of HF_TOKEN has no access to it") as refused:
        fetch(said)
    assert "somebody" not in str(refused.value)
    monkeypatch.setenv("HF_TOKEN", TOKEN)
    assert (fetch(said) / "model.safetensors").read_bytes() == WEIGHTS


def test_the_token_goes_to_the_hub_alone_and_into_no_line(
    server: Hub, said: list[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("HF_TOKEN", TOKEN)
    server.faults = [Fault(r"GET /api", times=1, status=503), Fault(r"GET /cdn", times=1, status=429, retry_after_s=0)]
    fetch(said)
    elsewhere = [request for request in server.requests if request.path.startswith("/cdn")]
    assert elsewhere
    assert not [request for request in elsewhere if TOKEN in str(request.headers)]
    assert TOKEN not in "".join(said)


@pytest.mark.parametrize("token", ["hf_tökén", "hf_… "])
def test_a_token_that_cannot_be_sent(token: str, server: Hub, said: list[str], monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("HF_TOKEN", token)
    with pytest.raises(InvalidInput, match="HF_TOKEN has a character that no token has"):
        fetch(said)


@pytest.mark.parametrize(
    ("name", "revision", "message"),
    [
        ("org/absent", None, "the hub has no org/absent, or it is private"),
        ("openai/clip-vit-base-patch33", None, r"check the id \(the nearest known are openai/clip-vit-base-patch32"),
        (NAME, "gone", f"{NAME} has no revision gone on the hub: check --revision"),
        (NAME, "0" * 40, f"{NAME} has no revision 0{{40}} on the hub"),
        ("org/na--me", None, "is no folder here, nor a hub id"),
    ],
)
def test_what_the_hub_does_not_have(name: str, revision: str | None, message: str, server: Hub, said: list[str]) -> None:
    with pytest.raises(InvalidInput, match=message):
        fetch(said, name=name, revision=revision)


def test_a_token_that_the_hub_refuses(server: Hub, said: list[str]) -> None:
    server.faults = [Fault("/api/models", status=401)]
    with pytest.raises(InvalidInput, match=f"refuses HF_TOKEN .* make a new one at {server.address}/settings/tokens"):
        fetch(said)


def test_a_rate_limit_is_waited_for_as_long_as_it_says(server: Hub, said: list[str]) -> None:
    server.faults = [Fault("GET /api", times=1, status=429, retry_after_s=1), Fault("GET /cdn", times=1, status=429)]
    assert (fetch(said) / "model.safetensors").read_bytes() == WEIGHTS
    assert said[0] == "the hub answers 429: trying again in 1 s"
    assert said[-1] == "the hub answers 429: trying again in 0.01 s"


def test_a_rate_limit_that_is_too_long_is_not_waited_for(server: Hub, said: list[str]) -> None:
    server.faults = [Fault("GET /api", status=429, retry_after_s=86400)]
    with pytest.raises(Unavailable, match=r"allows no more requests for now \(429\): try again in 86400 s"):
        fetch(said)
    assert said == []


@pytest.mark.parametrize("status", [500, 502, 503, 504])
def test_a_hub_out_of_order(status: int, server: Hub, said: list[str]) -> None:
    server.faults = [Fault("", times=3, status=status)]
    fetch(said)
    assert said[:3] == [f"the hub answers {status}: trying again in {seconds} s" for seconds in (0.01, 0.02, 0.04)]
    server.faults = [Fault("", status=status)]
    with pytest.raises(Unavailable, match=f"the hub at {server.address} answers {status}: try again later"):
        fetch(said, name="org/other")


def test_a_hub_that_never_answers(server: Hub, said: list[str], monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(hub_client, "TIMEOUTS_S", dict.fromkeys(hub_client.TIMEOUTS_S, 0.1))
    server.faults = [Fault("/api/", delay_s=60)]
    with pytest.raises(Unavailable, match=r"doesn't answer \(ReadTimeout\): try again later"):
        fetch(said)


def test_a_redirect_without_end(server: Hub, said: list[str]) -> None:
    server.renamed |= {"org/one": "org/two", "org/two": "org/one"}
    server.repositories |= dict.fromkeys(("org/one", "org/two"), server.repositories[NAME])
    with pytest.raises(Unavailable, match=r"can't be used \(TooManyRedirects\)"):
        fetch(said, name="org/one")


class _Page(BaseHTTPRequestHandler):
    def do_GET(self) -> None:
        self.send_response(200)
        self.end_headers()
        self.wfile.write(b"<html>please log in to the network</html>")

    do_HEAD = do_GET  # noqa: N815  (names that http.server calls)

    def log_message(self, format: str, *arguments: object) -> None:
        pass


def test_an_endpoint_that_is_no_hub(server: Hub, said: list[str], monkeypatch: pytest.MonkeyPatch) -> None:
    with HTTPServer(("127.0.0.1", 0), _Page) as other:
        threading.Thread(target=other.serve_forever, args=(0.05,), daemon=True).start()
        monkeypatch.setattr(constants, "ENDPOINT", f"http://user:password@127.0.0.1:{other.server_port}")
        with pytest.raises(Unavailable, match=r"isn't one of a hub .* check HF_ENDPOINT") as refused:
            fetch(said)
        other.shutdown()
    assert "password" not in str(refused.value)


def test_a_connection_that_ends_early_goes_on(server: Hub, said: list[str], monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(constants, "DOWNLOAD_CHUNK_SIZE", 10_000)  # a part of one isn't kept
    server.faults = [Fault("GET /cdn", times=1, cut_after=20_000)]
    assert (fetch(said) / "model.safetensors").read_bytes() == WEIGHTS
    assert "bytes=20000-" in [request.headers.get("range") for request in server.requests]


def test_an_interrupted_download_goes_on_in_another_run(server: Hub, said: list[str]) -> None:
    blobs = hub.storage(NAME) / "blobs"
    digest = hashlib.sha256(WEIGHTS).hexdigest()
    write(blobs, {f"{digest}.incomplete": WEIGHTS[:50_000]})
    assert (fetch(said) / "model.safetensors").read_bytes() == WEIGHTS
    assert "bytes=50000-" in [request.headers.get("range") for request in server.requests]
    assert not [*blobs.glob("*.incomplete")]


@pytest.mark.parametrize("begun", [b"of another file" * 1000, WEIGHTS + b"more"])
def test_a_beginning_of_another_file_is_dropped(begun: bytes, server: Hub, said: list[str]) -> None:
    write(hub.storage(NAME) / "blobs", {f"{hashlib.sha256(WEIGHTS).hexdigest()}.incomplete": begun})
    assert (fetch(said) / "model.safetensors").read_bytes() == WEIGHTS


@pytest.mark.parametrize(("path", "file"), [("GET /cdn", "model.safetensors"), ("GET .*/config.json", "config.json")])
def test_a_tampered_download_is_named_and_not_kept(path: str, file: str, server: Hub, said: list[str]) -> None:
    server.faults = [Fault(path, tampered=True)]
    with pytest.raises(Unavailable, match=f"{file} was changed or damaged on its way: its digest is .*, the hub lists"):
        fetch(said)
    server.faults = []
    assert (fetch(said) / "model.safetensors").read_bytes() == WEIGHTS
    assert (fetch(said) / "config.json").read_bytes() == SMALL["config.json"]


@pytest.mark.parametrize("damage", [b"", WEIGHTS[:100], b"x" + WEIGHTS[1:]], ids=["empty", "half", "a byte"])
def test_a_damaged_cache_is_mended_or_named(
    damage: bytes, server: Hub, said: list[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    file = fetch(said) / "model.safetensors"
    file.resolve().write_bytes(damage)
    with monkeypatch.context() as patch:
        patch.setattr(constants, "HF_HUB_OFFLINE", True)
        with pytest.raises(Unavailable, match=r"a damaged model\.safetensors of org/clip, and HF_HUB_OFFLINE is set"):
            fetch(said)
    assert (fetch(said) / "model.safetensors").read_bytes() == WEIGHTS


def test_without_the_hub_what_is_cached_goes_on(server: Hub, said: list[str], monkeypatch: pytest.MonkeyPatch) -> None:
    folder = fetch(said)
    monkeypatch.setattr(constants, "HF_HUB_OFFLINE", True)
    for name in (NAME, "ORG/Clip"):
        assert fetch(said, name=name) == folder
    assert said[-1] == f"HF_HUB_OFFLINE is set: going on with {NAME} as the cache has it, commit {folder.name[:8]}"
    assert fetch(said, revision=folder.name) == folder
    with pytest.raises(Unavailable, match=r"the hub's cache has no README\.md of org/clip, and HF_HUB_OFFLINE is set"):
        fetch(said, "README.md")
    with pytest.raises(Unavailable, match=r"HF_HUB_OFFLINE is set; the hub's cache has nothing of it: .*pass --model FOLDER"):
        fetch(said, name="org/other")


def test_a_hub_that_is_away(server: Hub, said: list[str], monkeypatch: pytest.MonkeyPatch) -> None:
    folder = fetch(said)
    monkeypatch.setattr(constants, "ENDPOINT", "http://127.0.0.1:9")
    assert fetch(said) == folder
    assert said[-1].startswith("the hub can't be reached at http://127.0.0.1:9 (ConnectError): going on with org/clip")


def test_other_libraries_look_into_the_cache_as_ever(server: Hub, said: list[str], monkeypatch: pytest.MonkeyPatch) -> None:
    folder = fetch(said)
    monkeypatch.setattr(constants, "HUGGINGFACE_CO_URL_TEMPLATE", "http://127.0.0.1:9/{repo_id}/resolve/{revision}/{filename}")
    assert hf_hub_download(NAME, "config.json") == str(folder / "config.json")


def test_a_cache_of_other_programs_goes_on(server: Hub, said: list[str], monkeypatch: pytest.MonkeyPatch) -> None:
    """Without the list of a commit's files, which only whole snapshots leave."""
    folder = fetch(said)
    (hub.storage(NAME) / "trees" / f"{folder.name}.json").unlink()
    monkeypatch.setattr("huggingface_hub._tree_cache._IN_MEMORY_TREE_CACHE", {})
    monkeypatch.setattr(constants, "HF_HUB_OFFLINE", True)
    assert sorted(hub.repository(NAME, None, said.append).files) == ["config.json", "model.safetensors"]


@pytest.mark.parametrize("path", ["../../x", "/etc/passwd", "a/../b", "a\\b", "a//b"])
def test_a_listing_that_leads_out_of_the_repository(
    path: str, server: Hub, said: list[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    entries = [RepoFile(type="file", path=name, size=3, oid="1" * 40) for name in (path, "config.json")]
    monkeypatch.setattr(HfApi, "list_repo_tree", lambda *arguments, **settings: iter(entries))
    assert [*hub.repository(NAME, None, said.append).files] == ["config.json"]


CONVERTED = {**SMALL, "pytorch_model.bin": b"pickle"}


def convert(server: Hub, tmp_path: Path, **pull: object) -> Hub:
    """Give the repository a pickle alone, and a pull request with safetensors."""
    main = write(tmp_path / "pickled", CONVERTED)
    changed = write(tmp_path / "pull", {**CONVERTED, "model.safetensors": WEIGHTS, **pull.pop("files", {})})  # type: ignore[dict-item]
    server.repositories[NAME] = Repository(main, pulls={7: PullRequest(changed, **pull)}, discussions={8: conversions.TITLE})  # type: ignore[arg-type]
    return server


def conversion(said: list[str]) -> conversions.Conversion | None:
    return conversions.of(hub.repository(NAME, None, said.append), ["pytorch_model.bin"], said.append)


def test_the_converters_pull_request_is_taken(
    server: Hub, said: list[str], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    convert(server, tmp_path)
    taken = conversion(said)
    assert taken is not None
    assert (taken.number, taken.added) == (7, {"model.safetensors"})
    fetch(said, "config.json")
    hub.fetched(taken.repository, taken.added, said.append)
    monkeypatch.setattr(constants, "HF_HUB_OFFLINE", True)
    again = conversion(said)
    assert again is not None
    assert (again.number, again.repository.commit, again.added) == (7, taken.repository.commit, taken.added)


def test_a_pull_request_without_the_pickle_is_a_conversion_too(server: Hub, said: list[str], tmp_path: Path) -> None:
    convert(server, tmp_path)
    (tmp_path / "pull" / "pytorch_model.bin").unlink()
    assert conversion(said) is not None


@pytest.mark.parametrize(
    ("pull", "line"),
    [
        ({"author": "somebody"}, ""),
        ({"title": "Better weights"}, ""),
        ({"status": "closed"}, ""),
        ({"status": "merged"}, ""),
        ({"files": {"modeling.py": b"import os"}}, "it adds modeling.py, expected safetensors only"),
        ({"files": {"pytorch_model.bin": b"another"}}, "pytorch_model.bin is another one there"),
    ],
)
def test_other_pull_requests_are_not_taken(
    pull: dict[str, object], line: str, server: Hub, said: list[str], tmp_path: Path
) -> None:
    convert(server, tmp_path, **pull)
    assert conversion(said) is None
    assert line in "".join(said)


def test_closed_discussions_are_no_conversion(server: Hub, said: list[str], tmp_path: Path) -> None:
    convert(server, tmp_path)
    server.faults = [Fault("/discussions", status=403)]
    assert conversion(said) is None


def test_a_json_file_that_is_none(server: Hub, said: list[str], tmp_path: Path) -> None:
    write(tmp_path / "main", {"config.json": b"{"})
    with pytest.raises(InvalidInput, match=r"org/clip: config\.json isn't JSON .*: it is so on the hub"):
        hub.content(hub.repository(NAME, None, said.append), "config.json")
    write(tmp_path / "main", {"config.json": json.dumps([1]).encode()})
    assert hub.content(hub.repository(NAME, None, said.append), "config.json") == [1]
