"""Known checkpoints: the stored lists are the library's, each name means itself, and --known shows them."""

from __future__ import annotations

import fcntl
import json
import os
import pty
import re
import struct
import subprocess
import sys
import termios
from pathlib import Path

import open_clip_list
import open_clips
import pytest

from clip_client import InvalidInput
from clip_export import cli
from clip_export.checkpoints import hub_addresses, known, open_clip_names
from clip_export.checkpoints.names import File, HubId, OpenClipName, meaning

STORED = json.loads(open_clip_list.STORED.read_text(encoding="utf-8"))
COUNTED = ("RN50", "ViT-B-32-quickgelu", "ViT-S-32-alt", "MobileCLIP-S1", "coca_ViT-B-32", "ViT-B-16-SigLIP2")
"""Models of which a test counts the parameters: one of each kind of tower that needs nothing of the hub."""


@pytest.fixture(autouse=True)
def _elsewhere(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)


def test_the_stored_list_is_open_clips() -> None:
    stored = {name: {key: model[key] for key in ("quick_gelu", "tags")} for name, model in STORED.items()}
    assert stored == open_clip_list.installed(), "write it again with python tests/lib/open_clip_list.py"
    assert list(stored) == open_clips.library().list_models()


@pytest.mark.parametrize("name", COUNTED)
def test_parameters_of_open_clips_models(name: str) -> None:
    assert STORED[name]["parameters"] == open_clip_list.parameters(name)


def test_no_two_names_are_the_same_to_a_reader() -> None:
    models = [open_clip_names.key(name) for name in STORED]
    assert len(models) == len({*models})
    ids = [open_clip_names.key(hub_id) for hub_id in known.hub_ids()]
    assert len(ids) == len({*ids})
    for model in open_clip_names.models().values():
        assert len({open_clip_names.key(tag) for tag in model.tags}) == len(model.tags)


@pytest.mark.parametrize(
    "spelling", ["{}/{}", "open_clip:{}/{}", "{}:{}", "{}, {}", "{}__{}", "open_clip:{} {}", "{}-{}", "{1}/{0}"]
)
def test_each_of_open_clips_pairs_means_its_weights(spelling: str) -> None:
    pairs = open_clips.library().list_pretrained()
    assert len(pairs) == 196
    for model, tag in pairs:
        if spelling == "{1}/{0}" and tag == "openai":
            continue  # openai/ViT-B-32 and its like are OpenAI's own, on the hub
        weights = STORED[model]["tags"][tag]
        meant = meaning(spelling.format(model, tag))
        assert isinstance(meant, OpenClipName)
        assert (meant.tag, STORED[meant.model]["tags"][tag]) == (tag, weights)
        assert meant.model.removesuffix("-quickgelu") == model.removesuffix("-quickgelu")
        has_both = {model, f"{model}-quickgelu", model.removesuffix("-quickgelu")} & {*STORED} > {model}
        assert not has_both or STORED[meant.model]["quick_gelu"] == weights["quick_gelu"]
        assert bool(meant.note) == (meant.model != model)


@pytest.mark.parametrize("spelled", [str, str.lower, str.upper, lambda name: name.replace("-", "_"), lambda name: f" {name} "])
def test_each_of_open_clips_models_means_its_best_known_weights(spelled: object) -> None:
    for name, model in STORED.items():
        if model["tags"]:
            meant = meaning(f"open_clip:{spelled(name)}")
            assert isinstance(meant, OpenClipName)
            assert meant.tag in STORED[meant.model]["tags"]
            assert f"open_clip:{meant.model}/{meant.tag}" in meant.note


def test_each_known_name_means_itself() -> None:
    for hub_id in known.hub_ids():
        for spelling in (hub_id, f"hf:{hub_id}", f"https://huggingface.co/{hub_id}", hub_id.upper(), f"{hub_id}/"):
            assert meaning(spelling) == HubId(hub_id, None)
        assert meaning(hub_id).note == ""
    for checkpoint in known.open_clips():
        assert meaning(checkpoint.name).note == ""


def test_each_known_name_without_its_owner() -> None:
    for hub_id in known.hub_ids():
        name = hub_id.partition("/")[2]
        meant = meaning(name)
        assert meant == HubId(hub_id, None) or open_clip_names.model_named(name)


def test_ids_are_those_that_the_hub_allows() -> None:
    from huggingface_hub.utils import validate_repo_id

    for hub_id in known.hub_ids():
        validate_repo_id(hub_id)
        assert hub_addresses.is_id(hub_id)


def test_models_of_another_open_clip_are_asked_of_it(tmp_path: Path) -> None:
    (tmp_path / "names-own-model.json").write_text(json.dumps(open_clips.library().get_model_config("RN50")))
    (tmp_path / "mine.pt").touch()
    with open_clips.own_model(tmp_path / "names-own-model.json"):
        assert meaning("open_clip:names-own-model/mine.pt") == File(Path("mine.pt"), "names-own-model")
        for name in ("open_clip:names-own-model", "open_clip:names-own-model/laion2b"):
            with pytest.raises(InvalidInput, match="open_clip has no weights of names-own-model: expected a file of them"):
                meaning(name)


def test_tags_of_another_open_clip_are_asked_of_it(monkeypatch: pytest.MonkeyPatch) -> None:
    open_clips.library()
    newer = {**open_clip_pretrained()["ViT-B-32"], "laion9b_s99b": {"hf_hub": "laion/new/"}}
    monkeypatch.setitem(open_clip_pretrained(), "ViT-B-32", newer)
    assert meaning("ViT-B-32/laion9b_s99b") == OpenClipName("ViT-B-32", "laion9b_s99b")
    with pytest.raises(InvalidInput, match=r"no weights 'laion9b_s9' of ViT-B-32: .*; the nearest: laion9b_s99b"):
        meaning("ViT-B-32/laion9b_s9")


def open_clip_pretrained() -> dict[str, dict[str, object]]:
    """The library's own table of weights."""
    from open_clip import pretrained

    return pretrained._PRETRAINED


def test_a_meaning_needs_no_library_and_no_network() -> None:
    heavy = ("huggingface_hub", "open_clip", "rich", "safetensors", "torch", "transformers")
    code = (
        "import sys; from clip_export.checkpoints.names import meaning; meaning('ViT-B/32'); meaning('ViT-B-32/openai'); "
        f"meaning('hf:a/b'); print([name for name in {heavy} if name in sys.modules])"
    )
    assert subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True).stdout.strip() == "[]"


def test_known_checkpoints_are_a_line_each_in_a_pipe(capsys: pytest.CaptureFixture[str]) -> None:
    assert cli.main(["--known"]) == 0
    header, *lines = [line.split("\t") for line in capsys.readouterr().out.splitlines()]
    assert header == ["--model", "parameters", "weights", "family", "repository", "tried"]
    assert {len(line) for line in lines} == {len(header)}
    assert [line[0] for line in lines] == [checkpoint.name for checkpoint in known.checkpoints()]
    assert ["openai/clip-vit-base-patch32", "151 M", "0.60 GB", "clip", "Hugging Face, a pickle", "rebuilt small"] in lines
    assert [
        "open_clip:ViT-B-32/laion2b_s34b_b79k",
        "151 M",
        "",
        "open_clip",
        "laion/CLIP-ViT-B-32-laion2B-s34B-b79K",
        "architecture",
    ] in lines
    assert not [line for line in lines if line[0] == "open_clip:ViT-B-32/openai"]


def test_known_checkpoints_with_a_word(capsys: pytest.CaptureFixture[str]) -> None:
    assert cli.main(["--known", "NAFLEX"]) == 0
    _, *lines = capsys.readouterr().out.splitlines()
    assert [line.partition("\t")[0] for line in lines] == [
        "google/siglip2-base-patch16-naflex",
        "google/siglip2-so400m-patch16-naflex",
    ]
    assert cli.main(["--known", "siglop"]) == cli.BAD_INPUT
    assert "no known checkpoint has 'siglop' in its row; the nearest: " in capsys.readouterr().err


@pytest.mark.parametrize("columns", [40, 80, 200])
def test_known_checkpoints_fold_to_the_terminal(columns: int) -> None:
    leader, follower = pty.openpty()
    fcntl.ioctl(follower, termios.TIOCSWINSZ, struct.pack("HHHH", 50, columns, 0, 0))
    code = "import sys; from clip_export.report import known; known.show('mobileclip')"
    environment = {**{name: value for name, value in os.environ.items() if name != "COLUMNS"}, "TERM": "xterm", "NO_COLOR": "1"}
    with subprocess.Popen([sys.executable, "-c", code], stdout=follower, env=environment) as process:
        os.close(follower)
        shown = b""
        while part := _read(leader):
            shown += part
        assert process.wait() == 0
    os.close(leader)
    text = re.sub(r"\x1b\[[0-9;]*m", "", shown.decode())
    assert {len(line) for line in text.splitlines()[1:]} == {max(map(len, text.splitlines()))}
    assert max(map(len, text.splitlines())) <= columns
    assert re.search(r"\b85 M\b", text)
    assert "…" not in text


def _read(terminal: int) -> bytes:
    try:
        return os.read(terminal, 65536)
    except OSError:  # the other end is closed
        return b""
