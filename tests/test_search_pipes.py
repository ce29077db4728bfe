"""``clipserve search`` in pipes and terminals, and its verbs for collections."""

from __future__ import annotations

import json
import os
import re
import subprocess
from collections.abc import Iterator
from pathlib import Path

import pytest
import sidecars
from conftest import NOTICE
from servers import CLIPSERVE, Server
from sidecars import Sidecar, unit
from terminals import run_in_terminal

from clip_client import ModelSpec
from clip_client.file_names import as_source
from clip_client.search import Row
from pictures import encoded, picture

LONG = f"/pictures/{'long-' * 40}name.jpg"
SOURCES = [
    LONG,
    as_source("/pictures/two\nlines.jpg"),
    as_source(os.fsdecode(b"/pictures/caf\xe9.jpg")),
    "https://example.com/a.jpg",
]
PATHS = [os.fsencode(path) for path in (LONG, "/pictures/two\nlines.jpg", os.fsdecode(b"/pictures/caf\xe9.jpg"), SOURCES[3])]


@pytest.fixture(scope="module")
def sidecar(server: Server, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Sidecar]:
    with sidecars.running(tmp_path_factory.mktemp("pipes"), server.address) as sidecar:
        yield sidecar


@pytest.fixture(scope="module")
def photos(sidecar: Sidecar, spec: ModelSpec) -> str:
    """A collection whose rows have odd sources and long captions, and one has no source."""
    captions = ["\x1b[31mred\x1b[0m\ttab", "x" * 200_000, "caf\u00e9", "four", "five"]
    vectors = unit(5, spec.embedding_size)
    with sidecar.client() as search:
        search.create("photos", fingerprint=spec.fingerprint, dimension=spec.embedding_size)
        rows = [
            Row(id=str(n), vector=vectors[n], source=source, metadata={"caption": captions[n], "year": 2000 + n})
            for n, source in enumerate([*SOURCES, None])
        ]
        search.add("photos", rows)
    return "photos"


def command(sidecar: Sidecar, verb: str, *arguments: object) -> list[str]:
    return [str(CLIPSERVE), "search", verb, "--url", sidecar.url, *map(str, arguments)]


def run(sidecar: Sidecar, verb: str, *arguments: object, **options) -> subprocess.CompletedProcess:
    return subprocess.run(command(sidecar, verb, *arguments), capture_output=True, timeout=60, check=False, **options)


def test_hits_in_a_pipe_are_whole_lines_of_cells(sidecar: Sidecar, photos: str) -> None:
    coloured = {**os.environ, "FORCE_COLOR": "1"}
    lines = run(sidecar, "query", "a cat", "--collection", photos, env=coloured).stdout.decode().splitlines()
    heading, *hits = [line.split("\t") for line in lines]
    assert heading == ["score", "id", "caption", "source"]
    assert {hit[1]: hit[3] for hit in hits} == {str(n): source for n, source in enumerate([*SOURCES, ""])}
    assert {hit[2] for hit in hits} >= {r"\x1b[31mred\x1b[0m\ttab"}


def test_paths_alone_are_one_a_line_or_end_with_a_nul(sidecar: Sidecar, photos: str) -> None:
    lines = run(sidecar, "query", "a cat", "--collection", photos, "-f")
    assert sorted(lines.stdout.split(b"\n")) == sorted(b"\n".join([*PATHS, b""]).split(b"\n"))
    assert b"1 of the paths hold a line break: --null" in lines.stderr
    assert b"left out 4: its row has no source" in lines.stderr
    nulls = run(sidecar, "query", "a cat", "--collection", photos, "-0")
    assert sorted(nulls.stdout.split(b"\0")) == sorted([*PATHS, b""])


def test_a_reader_that_leaves_ends_the_command_quietly(sidecar: Sidecar, photos: str) -> None:
    for output in ("--json", "-k5"):
        line = " ".join(command(sidecar, "query", "cat", "--collection", photos, output))
        ended = subprocess.run(
            ["bash", "-c", f"{line} | head -c 1; echo ${{PIPESTATUS[0]}}"], capture_output=True, text=True, timeout=60
        )
        assert ended.stdout.splitlines()[-1].endswith("141")  # as if SIGPIPE had ended it
        assert ended.stderr == ""


def test_a_table_in_a_terminal_folds_and_moves_no_cursor(sidecar: Sidecar, photos: str) -> None:
    asked = command(sidecar, "query", "a cat", "--collection", photos, "--filter", "year != 2001")
    status, shown = run_in_terminal(asked, NO_COLOR="1")
    assert status == 0
    assert not re.search(r"\x1b\[[0-9;]*3[0-9]", shown)  # no colour, neither rich's nor the caption's
    text = re.sub(r"\x1b\[[0-9;]*m", "", shown)
    assert max(map(len, text.splitlines())) <= 80
    assert r"\x1b[31mred\x1b[0m\ttab" in re.sub(r"\s", "", text)
    assert LONG in re.sub(r"\s", "", text)


def test_the_path_of_a_picture_that_is_not_there_is_no_text(sidecar: Sidecar, photos: str) -> None:
    for query in ("nowhere/cat.JPG", "cat.heic", "a red car.png"):
        ended = run(sidecar, "query", query, "--collection", photos, text=True)
        assert ended.returncode == 1
        assert f"there is no picture {query}: check the path, or pass --text" in ended.stderr
    assert run(sidecar, "query", "a red car.png", "--text", "--collection", photos).returncode == 0


def test_a_url_is_fetched_by_the_sidecar(sidecar: Sidecar, photos: str) -> None:
    ended = run(sidecar, "query", "http://127.0.0.1/cat.jpg", "--collection", photos, text=True)
    assert ended.returncode == 1
    assert "127.0.0.1" in ended.stderr  # an address that isn't public


@pytest.mark.parametrize("kind", ["text", "picture"])
def test_the_page_is_opened_with_the_search(kind: str, sidecar: Sidecar, photos: str, tmp_path: Path) -> None:
    (tmp_path / "a b.jpg").write_bytes(encoded(picture(900, 700)))
    browser = tmp_path / "browser"
    browser.write_text(f'#!/bin/sh\nprintf %s "$1" > {tmp_path}/opened\n')
    browser.chmod(0o700)
    query = "a cat & co" if kind == "text" else tmp_path / "a b.jpg"
    environment = {**os.environ, "BROWSER": f"{browser} %s"}
    assert run(sidecar, "query", query, "--collection", photos, "--open", env=environment).returncode == 0
    address = (tmp_path / "opened").read_text()
    assert address.startswith(f"{sidecar.url}/#collection=photos&")
    assert ("text=a%20cat%20%26%20co" if kind == "text" else "&q=") in address
    assert len(address) < 200
    kept = [] if kind == "text" else [sidecar.ask("GET", f"/v1/queries/{address.partition('q=')[2]}")]
    assert [(status, content[:2]) for status, content in kept] == [(200, b"\xff\xd8")] * (kind == "picture")


def test_a_collection_is_made_listed_and_dropped(sidecar: Sidecar) -> None:
    made = run(sidecar, "create", "drawings", "--dimension", "8", "--column", "year=int", text=True)
    assert "drawings is made, for vectors of 8" in made.stdout
    assert "is there already" in run(sidecar, "create", "drawings", text=True).stderr
    assert "expected NAME=KIND" in run(sidecar, "create", "others", "--column", "year", text=True).stderr
    listed = run(sidecar, "list", text=True).stdout.splitlines()
    assert listed[0].split("\t") == ["collection", "rows", "dimension", "model"]
    assert "drawings\t0\t8" in "\n".join(listed)
    assert "drawings" in {about["name"] for about in json.loads(run(sidecar, "list", "--json").stdout)}
    refused = run(sidecar, "drop", "drawings", stdin=subprocess.DEVNULL, text=True)
    assert (refused.returncode, "no terminal is there: pass --yes" in refused.stderr) == (1, True)
    status, shown = run_in_terminal(command(sidecar, "drop", "drawings"), typed="n\n")
    assert (status, "drop drawings, 0 rows, for good? [y/N]" in shown, "nothing was dropped" in shown) == (1, True, True)
    status, shown = run_in_terminal(command(sidecar, "drop", "drawings"), typed="y\n")
    assert (status, "drawings is dropped" in shown) == (0, True)
    assert "no collection drawings" in run(sidecar, "drop", "drawings", "--yes", text=True).stderr


def test_rows_are_deleted_and_the_books_balance(sidecar: Sidecar, tmp_path: Path) -> None:
    with sidecar.client() as search:
        search.create("rows", dimension=8, fingerprint="")
        search.add("rows", [Row(id=str(n), vector=vector, metadata={"n": n}) for n, vector in enumerate(unit(6, 8))])
    errors = tmp_path / "errors.jsonl"
    ended = run(sidecar, "delete", "0", "1", "1", "no such", "--collection", "rows", "--errors", errors, text=True)
    assert (ended.returncode, ended.stdout) == (1, "read 3 = 2 deleted + 1 left out\n")
    assert json.loads(errors.read_text())["item"] == "no such"
    assert run(sidecar, "delete", "--filter", "n > 4", "--collection", "rows", text=True).stdout == "1 row deleted\n"
    assert run(sidecar, "delete", "--collection", "rows").returncode == 2
    assert run(sidecar, "delete", "2", "--filter", "n > 0", "--collection", "rows").returncode == 2
    with sidecar.client() as search:
        assert [row["id"] for row in search.rows("rows")] == ["2", "3", "4"]


def test_recall_is_told_of_the_index_not_of_the_model(sidecar: Sidecar, photos: str) -> None:
    told = run(sidecar, "stats", "--collection", photos, text=True).stdout
    assert "image: 5 vectors, faiss; the index finds 100 % of what an exact search finds" in told
    assert "recall" not in told


def test_the_purpose_of_the_model_is_told_with_the_flag_that_changes_it(sidecar: Sidecar, photos: str, tmp_path: Path) -> None:
    told = f"notice: {NOTICE} Another model: clipserve export --model "
    stats = run(sidecar, "stats", "--collection", photos, text=True).stdout
    assert told in stats
    assert ", model clip (" in stats
    for n in range(3):
        (tmp_path / f"{n}.jpg").write_bytes(encoded(picture(40, 50, seed=n)))
    (tmp_path / "bad.jpg").write_bytes(b"no picture")
    remarks = run(sidecar, "add", tmp_path, "--collection", "noticed", text=True).stderr.splitlines()
    assert remarks[0].startswith(told)
    assert len([line for line in remarks if line.startswith("notice: ")]) == 1
    with sidecar.client() as search:
        search.create("others", dimension=8, fingerprint="0123456789abcdef")
    assert "notice" not in run(sidecar, "stats", "--collection", "others", text=True).stdout
