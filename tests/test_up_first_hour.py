"""`clipserve up` for somebody who knows nothing yet: what is said, when, and where files go."""

from __future__ import annotations

import json
import os
import pty
import re
import signal
import subprocess
import time
from pathlib import Path

import pytest
from servers import CLIPSERVE, free_ports
from ups import Up

from clip_client import bundled, notices
from clip_client.counting import counted
from clip_serve.up import adding, places
from clip_serve.up.following import _listed
from clip_serve.up.options import Options
from pictures import encoded, picture


@pytest.fixture
def photos(tmp_path: Path) -> Path:
    folder = tmp_path / "photos"
    folder.mkdir()
    (folder / "a.jpg").write_bytes(encoded(picture(50, 40, seed=1)))
    return folder


def test_the_notice_of_a_checkpoint_comes_before_its_export(photos: Path, tmp_path: Path) -> None:
    model = tmp_path / "model"
    model.mkdir()
    (model / "config.json").write_text(json.dumps({"model_type": "clip", "notice": "Made for \x1b[1mcats\nalone."}))
    run = Up(photos, "--model", model, repository=tmp_path / "none", data=tmp_path / "data", port=free_ports(1)[0])
    assert run.ended() == 1
    first, second = run.out.splitlines()
    assert first == f"nothing is published in {tmp_path}/none yet: exporting {model}, once"
    assert second == "model: Made for [1mcats alone. Another model: --model openai/clip-vit-base-patch32"
    assert re.search(r"^step 1 of 6, \d+ s: reading the checkpoint$", run.err, re.M)


def test_the_bundled_checkpoints_notice_is_known_without_an_export(tmp_path: Path) -> None:
    assert "drawings" in notices.of_folder(bundled.CHECKPOINT)
    (tmp_path / "config.json").write_text('{"notice": ["no text"]}')
    assert notices.of_folder(tmp_path) == ""
    assert notices.of_folder(tmp_path / "none") == ""


@pytest.mark.slow
def test_a_first_run_says_each_thing_once_and_sends_nobody_elsewhere(checkpoint: Path, photos: Path, tmp_path: Path) -> None:
    run = Up(
        photos, "--watch", "--model", checkpoint, repository=tmp_path / "models", data=tmp_path / "data", port=free_ports(1)[0]
    )
    run.wait_watching()
    assert run.stop() == 0
    told = run.out + run.err
    assert (told.count("Made for tests."), told.count("Another model:")) == (1, 1)
    assert [line for line in told.splitlines() if "start it with" in line or "report" in line or "--prune" in line] == []
    steps = re.findall(r"^step (\d) of 6, \d+ s: ", run.err, re.M)
    assert steps[0] + steps[-1] == "16"
    assert "1 row in default; 0 files left out" in run.out
    assert "timing" not in told


def test_nothing_is_made_among_the_pictures(
    photos: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setenv("XDG_DATA_HOME", str(tmp_path / "own"))
    (photos / "2024").mkdir()
    for working in (photos, photos / "2024"):
        monkeypatch.chdir(working)
        moved = places.chosen(Options(pictures=photos, watch=True))
        own = tmp_path / "own" / "clipserve"
        made = {moved.data, moved.repository, moved.artifacts}
        assert made == {own / name for name in ("search-data", "model_repository", "artifacts")}
        assert f"database, models and artefacts go to {own}" in capsys.readouterr().out
    monkeypatch.chdir(tmp_path)
    for options in (Options(pictures=photos), Options()):
        assert places.chosen(options) is options
    assert capsys.readouterr().out == ""


def test_what_lies_among_the_pictures_already_stays_and_is_said(
    photos: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setenv("XDG_DATA_HOME", str(tmp_path / "own"))
    monkeypatch.chdir(photos)
    (photos / "search-data" / "default").mkdir(parents=True)
    moved = places.chosen(Options(pictures=Path(), artifacts=photos / "mine"))
    assert (moved.data, moved.artifacts) == (Path("search-data"), photos / "mine")
    assert moved.repository == tmp_path / "own" / "clipserve" / "model_repository"
    assert f"among the pictures lies what isn't one: {photos}/mine, {photos}/search-data" in capsys.readouterr().out


def test_a_line_that_names_another_commands_flag_names_the_one_that_is_meant(capsys: pytest.CaptureFixture[str]) -> None:
    adding.tell("2 rows whose files are gone: --prune removes them")
    adding.tell("2 rows in default; 1 file left out")
    told = "2 rows whose files are gone: up --watch removes such rows\n2 rows in default; 1 file left out\n"
    assert capsys.readouterr().out == told


def test_lines_name_a_few_files_and_count_the_rest() -> None:
    assert _listed({"b.jpg", "a.jpg"}) == "a.jpg, b.jpg"
    assert _listed({f"{n}.jpg" for n in range(1003)}) == "0.jpg, 1.jpg, 10.jpg, 1,000 more"


def test_nouns_follow_their_number() -> None:
    assert [counted(n, "row") for n in (0, 1, 2, 1234)] == ["0 rows", "1 row", "2 rows", "1234 rows"]
    assert [counted(n, "match", "matches") for n in (1, 2)] == ["1 match", "2 matches"]


@pytest.mark.slow
def test_in_a_terminal_the_last_line_says_when_changes_are_taken(repository: Path, photos: Path, tmp_path: Path) -> None:
    leader, follower = pty.openpty()
    places = ["--repository", repository, "--data", tmp_path / "data", "--port", str(free_ports(1)[0]), "--no-open"]
    command = [str(word) for word in (CLIPSERVE, "up", photos, *places)]
    with subprocess.Popen(command, stdin=follower, stdout=follower, stderr=follower, start_new_session=True) as process:
        os.close(follower)
        shown, deadline = "", time.monotonic() + 120
        while "Ctrl-C" not in shown and time.monotonic() < deadline:
            shown += os.read(leader, 65_536).decode()
        process.send_signal(signal.SIGINT)
        assert process.wait(60) == 0
    os.close(leader)
    assert "Ctrl-C ends it. Pictures that come, change or go meanwhile are taken at the next start; with --watch" in shown
