"""Inputs of ``clipserve up`` beside folders and lists: what is taken for one, embedded, imported, and taken up again."""

from __future__ import annotations

import os
import shutil
from collections.abc import Iterator
from pathlib import Path

import pytest
import sidecars
import urllib3
from embed_runs import shard
from servers import free_ports
from sidecars import Sidecar
from ups import Up

import pictures
from clip_client import InvalidInput, ModelSpec, Unavailable
from clip_client.search import Search
from clip_serve.up import cli, embedding
from clip_serve.up.embedding import Embedded
from clip_serve.up.options import Options
from clip_serve.up.ownership import Place
from clip_serve.up.servers import Served
from clip_serve.up.sources import Folder, List, opened
from clip_serve.up.stop import Stop

JPEGS = pictures.jpegs(6)


@pytest.fixture
def shards(tmp_path: Path) -> Path:
    """Two shards of three pictures, one of which is none."""
    folder = tmp_path / "shards"
    folder.mkdir()
    shard(folder / "0.tar", {"a.jpg": JPEGS[0], "a.txt": b"the first", "b.jpg": JPEGS[1], "c.jpg": JPEGS[2]})
    shard(folder / "1.tar", {"d.jpg": JPEGS[3], "e.jpg": JPEGS[4], "f.jpg": b"no picture"})
    return folder


@pytest.mark.parametrize(
    ("source", "kind"),
    [
        ("photos", Folder),
        ("list.txt", List),
        ("list", List),
        ("shards", Embedded),
        ("shards/0.tar", Embedded),
        ("shards/{0..1}.tar", Embedded),
        ("shards/*.tar", Embedded),
        ("table.parquet", Embedded),
        ("TABLE.CSV", Embedded),
        ("table.jsonl", Embedded),
        ("s3://bucket/{00..99}.tar", Embedded),
        ("https://example.org/table.parquet", Embedded),
        ("pipe:cat shards/0.tar", Embedded),
        ("photos with a table", Folder),
    ],
)
def test_an_input_is_told_by_its_name_and_by_what_is_there(
    source: str, kind: type, shards: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    folder = shards.parent
    for name in ("photos", "photos with a table"):
        (folder / name).mkdir()
        (folder / name / "a.jpg").write_bytes(JPEGS[0])
    for name in ("table.parquet", "TABLE.CSV", "table.jsonl", "photos with a table/captions.csv"):
        (folder / name).write_bytes(b"")
    for name in ("list.txt", "list"):
        (folder / name).write_text("photos/a.jpg\n")
    monkeypatch.chdir(folder)
    assert type(opened(Options(pictures=source))) is kind


@pytest.mark.parametrize(
    ("options", "reason"),
    [
        ({"watch": True}, "--watch follows folders and lists"),
        ({"metadata": Path(__file__)}, "--metadata is for folders and lists"),
    ],
)
def test_what_is_for_folders_is_refused_with_what_to_do(options: dict, reason: str) -> None:
    with pytest.raises(InvalidInput, match=reason):
        opened(Options(pictures="a.tar{}[", reading=("--split=x",), **options))


def test_words_about_the_input_are_passed_on() -> None:
    options = cli._options(
        ["imagenet", "--input-format", "dataset", "--image-column=--odd name", "--allow-port=81", "--allow-port=82"]
    )
    expected = ("--input-format=dataset", "--image-column=--odd name", "--allow-port=81", "--allow-port=82")
    assert options.reading == expected
    assert type(opened(options)) is Embedded


@pytest.fixture(scope="module")
def sidecar(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Sidecar]:
    """A sidecar without a Triton."""
    with sidecars.running(tmp_path_factory.mktemp("up"), "127.0.0.1:9") as sidecar:
        yield sidecar


@pytest.fixture
def search(sidecar: Sidecar, spec: ModelSpec) -> Iterator[Search]:
    """A client with a collection ``c`` for the checkpoint."""
    with sidecar.client() as search:
        search.create("c", dimension=spec.embedding_size, fingerprint=spec.fingerprint)
        yield search
        search.drop("c")


@pytest.mark.long
def test_shards_are_embedded_imported_with_pictures_and_followed_when_they_change(
    shards: Path, repository: Path, spec: ModelSpec, sidecar: Sidecar, search: Search, capfd: pytest.CaptureFixture[str]
) -> None:
    options = Options(pictures=f"{shards}/*.tar", repository=repository)
    place, served = Place(shards.parent / "data"), Served(sidecar.url, "m", spec.fingerprint, lambda: None)
    with Stop() as stop:
        first = Embedded(str(options.pictures), options)
        assert first.prepare(place, spec, stop) == 1
        assert first.add("c", served, stop).line == "read 5 = 5 added + 0 unchanged + 0 replaced + 0 left out"
        told = capfd.readouterr()
        assert "read 6 = 5 embedded + 1 left out" in told.out
        assert "left out f: " in told.err
        rows = list(search.rows("c"))
        assert all(urllib3.request("GET", sidecar.url + row["thumbnail"]).data[:2] == b"\xff\xd8" for row in rows)

        again = Embedded(str(options.pictures), options)
        assert again.prepare(place, spec, stop) == 1
        assert again.folder == first.folder
        again.remove_former(search, "c")
        assert len(list(search.rows("c"))) == 5

        shard(shards / "1.tar", {"d.jpg": JPEGS[3], "g.jpg": JPEGS[5]})
        shard(shards / "2.tar", {"h.jpg": JPEGS[4]})
        changed = Embedded(str(options.pictures), options)
        assert changed.prepare(place, spec, stop) == 0
        changed.add("c", served, stop)
        changed.remove_former(search, "c")
        assert sorted(row["metadata"]["key"] for row in search.rows("c")) == list("abcdgh")
        assert os.listdir(first.folder.parent) == [changed.folder.name]


def test_rows_of_before_stay_while_a_part_is_missing(
    shards: Path, repository: Path, spec: ModelSpec, sidecar: Sidecar, search: Search, capfd: pytest.CaptureFixture[str]
) -> None:
    options = Options(pictures=f"{shards}/{{0..1}}.tar", repository=repository)
    place, served = Place(shards.parent / "data"), Served(sidecar.url, "m", spec.fingerprint, lambda: None)
    with Stop() as stop:
        for left_out in (1, 1):
            source = Embedded(str(options.pictures), options)
            assert source.prepare(place, spec, stop) == left_out
            source.add("c", served, stop)
            source.remove_former(search, "c")
            (shards / "1.tar").unlink(missing_ok=True)
    assert not source.is_whole
    assert {row["metadata"]["key"] for row in search.rows("c")} == set("abcde")
    assert "isn't whole yet: 1 of 2 parts are done" in capfd.readouterr().out


def test_an_input_that_cannot_be_embedded_says_why(
    repository: Path, spec: ModelSpec, tmp_path: Path, capfd: pytest.CaptureFixture[str]
) -> None:
    source = Embedded(str(tmp_path / "none-*.tar"), Options(repository=repository))
    with Stop() as stop, pytest.raises(InvalidInput, match="can't be embedded"):
        source.prepare(Place(tmp_path / "data"), spec, stop)
    assert "error: no shards at" in capfd.readouterr().err


def test_an_input_without_a_good_item_adds_nothing(
    repository: Path, spec: ModelSpec, tmp_path: Path, sidecar: Sidecar, search: Search
) -> None:
    source = Embedded(str(shard(tmp_path / "a.tar", {"a.jpg": b"no picture"})), Options(repository=repository))
    with Stop() as stop:
        assert source.prepare(Place(tmp_path / "data"), spec, stop) == 1
        source.add("c", Served(sidecar.url, "m", spec.fingerprint, lambda: None), stop)
        source.remove_former(search, "c")
    assert list(search.rows("c")) == []


def test_an_import_that_ends_early_is_told(
    shards: Path, spec: ModelSpec, tmp_path: Path, capfd: pytest.CaptureFixture[str]
) -> None:
    (tmp_path / "part-0.parquet").write_bytes(b"")
    source = Embedded(str(shards), Options(), folder=tmp_path)
    with Stop() as stop, pytest.raises(Unavailable, match="the import ended before its end"):
        source.add("c", Served("http://127.0.0.1:9", "m", spec.fingerprint, lambda: None), stop)
    assert "error: " in capfd.readouterr().err


def test_secrets_of_an_input_are_not_in_names_of_files(tmp_path: Path) -> None:
    source = Embedded("https://user:secret@example.org/a.tar?token=secret", Options())
    assert "secret" not in source.digest
    assert "secret" not in embedding._state(source.source, "f")
    for secret in (source.source, "pipe:curl -H secret"):
        with pytest.raises(InvalidInput, match=r"not (https://example.org/a.tar|the pipe): start again"):
            opened(Options(pictures=secret, watch=True))


@pytest.mark.slow
def test_one_command_from_shards_to_a_page(shards: Path, repository: Path, tmp_path: Path) -> None:
    places = {"repository": repository, "data": tmp_path / "data"}
    for books in ("5 added + 0 unchanged", "0 added + 5 unchanged"):
        run = Up(f"{shards}/*.tar", port=free_ports(1)[0], **places)
        assert run.ended() == 1  # one picture is left out
        assert f"= {books} + 0 replaced + 0 left out" in run.out
        assert "left out f: " in run.err
    shutil.rmtree(tmp_path / "data" / ".clipserve-up" / "embedded")
    run = Up(f"{shards}/*.tar", port=free_ports(1)[0], **places)
    run.wait_for(lambda: any(path.is_dir() for path in (tmp_path / "data").glob(".clipserve-up/embedded/*/*")))
    assert run.stop() == 130
