"""Checkpoints by their hub id, behind a stand-in of the hub: what is fetched, taken, said and refused."""

from __future__ import annotations

import json
import os
import shutil
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import hub_server
import libraries
import numpy as np
import pytest
import torch
from hub_server import Hub, PullRequest, Repository
from huggingface_hub import constants
from safetensors.torch import load_file, save_file

from clip_client.errors import InvalidInput
from clip_export.checkpoints import hub_client
from clip_export.checkpoints.checkpoint import Checkpoint, Paired
from clip_export.checkpoints.find import find
from clip_export.checkpoints.pickles import Pickles

README = "openai/clip-vit-base-patch32"
TENSORS = {"logit_scale": torch.tensor(4.6)}
CLIP = {"model_type": "clip", "text_config": {}, "vision_config": {}}


@pytest.fixture
def server(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Hub]:
    with hub_server.running({}) as running:
        running.use(monkeypatch, tmp_path / "home")
        monkeypatch.setattr(constants, "HF_ASSETS_CACHE", str(tmp_path / "home" / "assets"))
        monkeypatch.setattr(hub_client, "PAUSES_S", (0.01, 0.02, 0.04))
        monkeypatch.chdir(tmp_path)
        yield running


@pytest.fixture
def said() -> list[str]:
    return []


@pytest.fixture
def pickles(tmp_path: Path, said: list[str]) -> Pickles:
    return Pickles(tmp_path / "artifacts" / "converted", said.append)


def repository(folder: Path, **files: Any) -> Path:
    """Write a folder: JSON for a dictionary or list, safetensors or a pickle for True; __ is / in a name."""
    for name, content in files.items():
        path = folder / name.replace("__", "/").replace("-json", ".json")
        path.parent.mkdir(parents=True, exist_ok=True)
        if content is not True:
            path.write_text(json.dumps(content))
        elif path.suffix == ".safetensors":
            save_file({**TENSORS, name: torch.tensor(1.0)}, path, {"format": "pt"})
        elif path.suffix == ".bin":
            torch.save(TENSORS, path)
        else:
            path.write_text(name)
    return folder


def test_readmes_example_takes_the_conversion_of_a_pull_request(
    server: Hub, pickles: Pickles, said: list[str], checkpoint: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    pull = Path(shutil.copytree(checkpoint, tmp_path / "pull"))
    torch.save(load_file(pull / "model.safetensors"), pull / "pytorch_model.bin")
    main = Path(shutil.copytree(pull, tmp_path / "main"))
    (main / "model.safetensors").unlink()
    for name in ("flax_model.msgpack", "tf_model.h5", "README.md"):
        (main / name).write_text(name)
    (pull / "tokenizer_config.json").write_text("{}")  # main's is the one that counts
    server.repositories[README] = Repository(main, pulls={66: PullRequest(pull)})
    found = find(README, None, pickles=pickles)
    assert "pytorch_model.bin" not in server.fetched(README)
    assert not {"flax_model.msgpack", "tf_model.h5", "README.md"} & {*server.fetched(README)}
    commits = found.revision.split("+")
    assert [line for line in said if "pull request 66" in line and commits[1] in line]
    assert (found.folder / "tokenizer_config.json").read_text() == (main / "tokenizer_config.json").read_text()
    with monkeypatch.context() as patch:
        patch.setattr(constants, "HF_HUB_OFFLINE", True)
        assert find(README, None, pickles=pickles).folder == found.folder
    texts = ["a cat", "two dogs on a beach"]
    ours = libraries.Ours.of(found)
    embeddings, theirs = ours.embed(texts), libraries.embed(checkpoint, texts, ours.spec)
    assert np.min(np.sum(embeddings * theirs, axis=-1)) > 0.9999


def test_a_pickle_without_a_conversion_is_converted_or_refused_before_the_download(
    server: Hub, pickles: Pickles, said: list[str], tmp_path: Path
) -> None:
    main = repository(tmp_path / "main", **{"config.json": CLIP, "pytorch_model.bin": True})
    server.repositories["org/clip"] = Repository(main)
    with pytest.raises(
        InvalidInput, match=r"org/clip has pickled weights only \(pytorch_model\.bin\), .* no conversion among its"
    ):
        find("org/clip", None)
    assert server.fetched("org/clip") == ["config.json"]
    found = find("org/clip", None, pickles=pickles)
    assert (load_file(found.weight_files[0]).keys(), found.config) == (TENSORS.keys(), CLIP)


USE = """
from clip_export.checkpoints.find import find
print(find("org/clip", None).weight_files[0].resolve())
"""


@pytest.mark.long
def test_the_environments_variables_of_the_hub_work(server: Hub, tmp_path: Path) -> None:
    main = repository(tmp_path / "main", **{"config.json": CLIP, "model.safetensors": True})
    server.repositories["org/clip"] = Repository(main, gated=["hf_mine"])
    home = tmp_path / "elsewhere"

    def run(**variables: str) -> subprocess.CompletedProcess[str]:
        environment = {**os.environ, **server.environment(home), **variables}
        return subprocess.run([sys.executable, "-c", USE], env=environment, capture_output=True, text=True, check=False)

    assert "org/clip is gated" in run().stderr
    fetched = run(HF_TOKEN="hf_mine").stdout.strip()
    assert Path(fetched).is_relative_to(home / "hub")
    asked = len(server.requests)
    assert run(HF_HUB_OFFLINE="1").stdout.strip() == fetched
    assert len(server.requests) == asked


def test_only_one_of_two_formats_is_fetched(server: Hub, pickles: Pickles, tmp_path: Path) -> None:
    both = {"model.safetensors": True, "open_clip_model.safetensors": True, "open_clip_pytorch_model.bin": True}
    main = repository(
        tmp_path / "main", **{"config.json": CLIP, "open_clip_config.json": {}, "pytorch_model.bin": True, **both}
    )
    server.repositories["laion/CLIP"] = Repository(main)
    found = find("laion/CLIP", None, pickles=pickles)
    assert (found.label, type(found)) == ("laion/CLIP", Checkpoint)
    assert [name for name in server.fetched("laion/CLIP") if "model." in name] == ["model.safetensors"]


def test_one_of_several_files_is_chosen_by_its_address(server: Hub, pickles: Pickles, said: list[str], tmp_path: Path) -> None:
    main = repository(tmp_path / "main", **{"config.json": CLIP, "a.safetensors": True, "b.safetensors": True})
    server.repositories["org/clip"] = Repository(main)
    with pytest.raises(
        InvalidInput, match=r"a\.safetensors, b\.safetensors: choose one with --model hf://org/clip/a\.safet"
    ) as asked:
        find("org/clip", None, pickles=pickles)
    assert server.fetched("org/clip") == ["config.json"]
    found = find(str(asked.value).rpartition("--model ")[2].replace("/a.", "/b."), None, pickles=pickles)
    assert found.label == "org/clip/b"
    assert load_file(found.weight_files[0]).keys() == {"logit_scale", "b.safetensors"}
    assert said[-1] == "org/clip/b: b.safetensors is taken as the model's weights"
    with pytest.raises(InvalidInput, match=f"choose one with --model {main}/a.safetensors"):
        find(str(main), None, pickles=pickles)
    here = find(f"{main}/b.safetensors", None, pickles=pickles)
    assert load_file(here.weight_files[0]).keys() == {"logit_scale", "b.safetensors"}


def test_a_clip_inside_sentence_transformers(server: Hub, pickles: Pickles, tmp_path: Path) -> None:
    modules = [{"path": "0_CLIPModel", "type": "sentence_transformers.models.CLIPModel"}]
    inside = {"0_CLIPModel__config.json": CLIP, "0_CLIPModel__model.safetensors": True, "0_CLIPModel__pytorch_model.bin": True}
    server.repositories["org/st"] = Repository(repository(tmp_path / "main", **{"modules.json": modules, **inside}))
    found = find("org/st", None, pickles=pickles)
    assert (found.label, found.folder.name, type(found)) == ("org/st", "0_CLIPModel", Checkpoint)
    assert "0_CLIPModel/pytorch_model.bin" not in server.fetched("org/st")


def test_a_text_model_brings_its_image_tower_along(server: Hub, pickles: Pickles, said: list[str], tmp_path: Path) -> None:
    clip = repository(tmp_path / "clip", **{"config.json": CLIP, "model.safetensors": True})
    modules = [{"path": "", "type": "sentence_transformers.models.Transformer"}]
    text = {"config.json": {"model_type": "distilbert"}, "model.safetensors": True, "modules.json": modules}
    names = [f"sentence-transformers/clip-ViT-B-32{ending}" for ending in ("", "-multilingual-v1")]
    main = repository(tmp_path / "text", **text)
    server.repositories |= {names[0]: Repository(clip), names[1]: Repository(main), "org/text": Repository(main)}
    found = find(names[1], None, pickles=pickles)
    assert isinstance(found, Paired)
    assert (found.image.label, found.text.label) == (names[0], names[1])
    assert [line for line in said if f"pictures come from {names[0]}" in line]
    with pytest.raises(InvalidInput, match="org/text is a text model, expected both towers: pass it as --text-model"):
        find("org/text", None, pickles=pickles)
    assert isinstance(find(names[0], None, "org/text", pickles), Paired)


def test_a_missing_library_is_named_before_the_download(
    server: Hub, pickles: Pickles, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    main = repository(
        tmp_path / "main", **{"open_clip_config.json": {}, "open_clip_model.safetensors": True, "own_code.py": True}
    )
    server.repositories["timm/PE-Core"] = Repository(main)
    monkeypatch.setitem(sys.modules, "open_clip", None)
    with pytest.raises(InvalidInput, match=r"needs open_clip: pip install 'clipserve\[open-clip\]'"):
        find("timm/PE-Core", None, pickles=pickles)
    assert "open_clip_model.safetensors" not in server.fetched("timm/PE-Core")


def test_shards_that_the_index_does_not_name_are_not_read(pickles: Pickles, tmp_path: Path) -> None:
    shards = {"model-00001-of-00001.safetensors": True, "model-00001-of-00002.safetensors": True}
    index = {"weight_map": {"logit_scale": "model-00001-of-00001.safetensors"}}
    folder = repository(tmp_path / "clip", **{"config.json": CLIP, "model.safetensors.index.json": index, **shards})
    found = find(str(folder), None, pickles=pickles)
    assert [path.name for path in found.weight_files] == ["model-00001-of-00001.safetensors"]


def test_a_half_precision_file_alone_is_taken(pickles: Pickles, said: list[str], tmp_path: Path) -> None:
    found = find(
        str(repository(tmp_path / "clip", **{"config.json": CLIP, "model.fp16.safetensors": True})), None, pickles=pickles
    )
    assert found.weight_files[0].name == "model.safetensors"
    assert said == ["clip: model.fp16.safetensors is taken as the model's weights"]
