"""The stand-in hub answers the real client of huggingface_hub as the hub does."""

from __future__ import annotations

import hashlib
import time
from collections.abc import Iterator
from pathlib import Path

import hub_server
import pytest
from hub_server import Fault, Hub, PullRequest, Repository
from huggingface_hub import HfApi, constants, hf_hub_download, set_client_factory, snapshot_download
from huggingface_hub.errors import (
    GatedRepoError,
    HfHubHTTPError,
    RemoteEntryNotFoundError,
    RepositoryNotFoundError,
    RevisionNotFoundError,
)
from huggingface_hub.utils._http import default_client_factory

ID = "Some-Org/some-clip"
WEIGHTS = bytes(range(256)) * 400


@pytest.fixture
def repository(tmp_path: Path) -> Repository:
    main, pull = tmp_path / "main", tmp_path / "pull"
    for folder, weights in ((main, "pytorch_model.bin"), (pull, "model.safetensors")):
        (folder / "0_CLIPModel").mkdir(parents=True)
        (folder / "config.json").write_text('{"model_type": "clip"}')
        (folder / "0_CLIPModel" / "vocab.json").write_text("{}")
        (folder / weights).write_bytes(WEIGHTS)
    return Repository(main, revisions={"v1": pull}, pulls={66: PullRequest(pull)}, discussions={3: "A question"})


@pytest.fixture
def hub(repository: Repository, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Hub]:
    with hub_server.running({ID: repository}) as hub:
        hub.use(monkeypatch, tmp_path / "home")
        set_client_factory(default_client_factory)  # the export replaces it by a patient one
        yield hub


def test_the_client_lists_and_fetches_a_repository(hub: Hub, repository: Repository) -> None:
    api = HfApi()
    info = api.model_info(ID, files_metadata=True)
    assert {file.rfilename: file.size for file in info.siblings or []}["pytorch_model.bin"] == len(WEIGHTS)
    assert {file.rfilename for file in info.siblings or [] if file.lfs} == {"pytorch_model.bin"}
    tree = {entry.path: entry for entry in api.list_repo_tree(ID, recursive=True, expand=True)}
    assert set(tree) == {"0_CLIPModel", "0_CLIPModel/vocab.json", "config.json", "pytorch_model.bin"}
    assert tree["pytorch_model.bin"].lfs.sha256 == hashlib.sha256(WEIGHTS).hexdigest()
    assert [entry.path for entry in api.list_repo_tree(ID, "0_CLIPModel")] == ["0_CLIPModel/vocab.json"]
    assert [entry.path for entry in api.get_paths_info(ID, ["config.json", "nothing"])] == ["config.json"]
    folder = Path(snapshot_download(ID, allow_patterns=["*.bin", "*.json"]))
    assert folder.name == info.sha
    assert (folder / "pytorch_model.bin").read_bytes() == WEIGHTS
    assert hub.fetched(ID) == ["0_CLIPModel/vocab.json", "config.json", "pytorch_model.bin"]


def test_pages_are_followed(hub: Hub) -> None:
    hub.listed, hub.discussed = 1, 1
    assert len(list(HfApi().list_repo_tree(ID, recursive=True))) == 4
    assert [thread.num for thread in HfApi().get_repo_discussions(ID)] == [66, 3]


def test_pull_requests_are_told_and_fetched(hub: Hub) -> None:
    api = HfApi()
    (pull,) = api.get_repo_discussions(ID, discussion_type="pull_request", discussion_status="open")
    assert (pull.num, pull.author, pull.is_pull_request) == (66, "SFconvertbot", True)
    details = api.get_discussion_details(ID, pull.num)
    commit = api.model_info(ID, revision="refs/pr/66").sha
    assert details.events[0].oid == commit
    assert [
        reference.target_commit for reference in api.list_repo_refs(ID, include_pull_requests=True).pull_requests or []
    ] == [commit]
    by_number, by_commit = (hf_hub_download(ID, "model.safetensors", revision=revision) for revision in ("refs/pr/66", commit))
    assert Path(by_number) == Path(by_commit)


def test_other_names_of_a_repository_lead_to_it(hub: Hub) -> None:
    hub.renamed["old-clip"] = ID
    for name in ("old-clip", ID.lower()):
        assert HfApi().model_info(name, revision="v1").id == ID
        assert Path(hf_hub_download(name, "config.json")).read_text() == '{"model_type": "clip"}'
        assert Path(hf_hub_download(name, "pytorch_model.bin")).read_bytes() == WEIGHTS


def test_refusals_are_those_of_the_hub(hub: Hub, repository: Repository, monkeypatch: pytest.MonkeyPatch) -> None:
    with pytest.raises(RepositoryNotFoundError):
        HfApi().model_info("some-org/nothing")
    with pytest.raises(RevisionNotFoundError):
        snapshot_download(ID, revision="gone")
    with pytest.raises(RemoteEntryNotFoundError):
        hf_hub_download(ID, "nothing.json")
    repository.gated = ["hf_good"]
    assert HfApi().model_info(ID).gated == "manual"
    for token in (False, "hf_other"):
        with pytest.raises(GatedRepoError, match="restricted"):
            hf_hub_download(ID, "config.json", token=token)
    assert hf_hub_download(ID, "pytorch_model.bin", token="hf_good")
    repository.private = ["hf_good"]
    with pytest.raises(RepositoryNotFoundError):
        HfApi().model_info(ID)
    assert HfApi(token="hf_good").model_info(ID).private


def test_faults_end_as_told(hub: Hub) -> None:
    hub.faults = [Fault("GET /api/models", times=1, status=429, retry_after_s=0), Fault("GET /api/models", times=1, status=500)]
    for status in (429, 500):
        with pytest.raises(HfHubHTTPError) as refusal:
            HfApi().model_info(ID)
        assert refusal.value.response.status_code == status
    assert HfApi().model_info(ID).sha


def test_a_download_that_was_cut_off_goes_on_where_it_ended(hub: Hub, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(constants, "DOWNLOAD_CHUNK_SIZE", 10_000)  # the client keeps whole chunks, of 10 MB
    hub.faults = [Fault(r"GET .*\.bin", times=1, cut_after=50_000)]
    assert Path(hf_hub_download(ID, "pytorch_model.bin")).read_bytes() == WEIGHTS
    ranges = [request.headers.get("range") for request in hub.requests if request.file == (ID, "pytorch_model.bin")]
    assert ranges == [None, "bytes=50000-"]


def test_a_body_can_be_tampered_with_or_slow(hub: Hub) -> None:
    hub.faults = [Fault(r"GET .*\.bin", tampered=True, delay_s=0.01)]
    start = time.monotonic()
    content = Path(hf_hub_download(ID, "pytorch_model.bin")).read_bytes()
    assert time.monotonic() - start > 0.01 * len(WEIGHTS) / hub_server.BLOCK
    assert [place for place, (sent, real) in enumerate(zip(content, WEIGHTS, strict=True)) if sent != real] == [51_200]
