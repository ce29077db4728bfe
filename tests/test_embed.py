"""``clipserve embed``: parts that are whole or aren't there, books that balance, runs that go on where one was killed."""

from __future__ import annotations

import gzip
import io
import json
import shutil
import tarfile
import time
from pathlib import Path
from types import SimpleNamespace

import numpy as np
import pyarrow.parquet as pq
import pytest
from repositories import other_checkpoint
from shards import captioned, content, embed, errors, rows, shard, started, vectors

import pictures
from clip_client import Clip, ContractMismatch, InvalidInput, ModelSpec
from clip_embed import report
from pictures import jpegs


@pytest.fixture
def data(tmp_path: Path) -> Path:
    """Three shards of 40, 40 and 20 pictures."""
    pictures = jpegs(100)
    for number, (first, last) in enumerate(((0, 40), (40, 80), (80, 100))):
        shard(tmp_path / "data" / f"{number:03d}.tar", captioned(pictures[first:last], first))
    return tmp_path / "data"


@pytest.fixture
def local(repository: Path) -> list[object]:
    """Options of the engine."""
    return ["--repository", repository]


def told(captured: pytest.CaptureFixture[str]) -> dict[str, object]:
    """The books in JSON."""
    books: dict[str, object] = json.loads(captured.readouterr().out)
    return books


def test_vectors_are_those_of_the_client(data: Path, repository: Path, local: list[object], tmp_path: Path) -> None:
    assert embed(data / "{000..002}.tar", tmp_path / "out", *local) == 0
    with Clip.local(repository) as clip:
        images, texts = clip.embed_image(jpegs(100)), clip.embed_text([f"thing number {n}" for n in range(100)])
    for tower, expected in (("img", images), ("text", texts)):
        got = vectors(tmp_path / "out", tower)
        assert got.dtype == np.float16
        assert np.abs(got - expected).max() < 1e-3
    assert [row["image_path"] for row in rows(tmp_path / "out")] == [f"{n:06d}" for n in range(100)]
    last = rows(tmp_path / "out")[-1]
    assert last == {
        "image_path": "000099", "caption": "thing number 99", "key": "000099", "shard": str(data / "002.tar"),
        "n": 99, "site": "a.org", "other_fields": None,
    }  # fmt: skip
    assert errors(tmp_path / "out") == []


def test_a_run_again_does_nothing(data: Path, local: list[object], tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    embed(data / "{000..002}.tar", tmp_path / "out", *local)
    before = {path: path.stat().st_mtime_ns for path in (tmp_path / "out").rglob("*.npy")}
    capsys.readouterr()
    assert embed(data / "{000..002}.tar", tmp_path / "out", *local, "--json") == 0
    assert told(capsys)["items"] == 0
    assert {path: path.stat().st_mtime_ns for path in (tmp_path / "out").rglob("*.npy")} == before


def test_missing_parts_are_made_again_to_the_byte(data: Path, local: list[object], tmp_path: Path) -> None:
    out = tmp_path / "out"
    embed(data / "{000..002}.tar", out, *local)
    before = content(out)
    (out / "_clipserve" / "done" / "1.json").unlink()
    (out / "img_emb" / "img_emb_1.npy").unlink()
    (out / "metadata" / "metadata_1.parquet").write_bytes(b"torn")
    assert embed(data / "{000..002}.tar", out, *local) == 0
    assert content(out) == before


def test_bad_items_are_named_and_the_others_are_in(
    local: list[object], tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    good = jpegs(3)
    items = [
        ("a", {"jpg": good[0], "txt": b"fine"}),
        ("bomb", {"png": pictures.bomb(), "txt": b"huge"}),
        ("text", {"jpg": b"hello", "txt": b"no picture"}),
        ("bare", {"txt": b"a caption alone"}),
        ("latin", {"jpg": good[1], "txt": b"caf\xe9", "json": b"{broken"}),
        ("quiet", {"jpg": good[2]}),
    ]
    shard(tmp_path / "a.tar", items)
    assert embed(tmp_path / "a.tar", tmp_path / "out", *local, "--json") == 1
    books = told(capsys)
    assert (books["read"], books["taken"], books["left_out"], books["partial"], books["bare"]) == (6, 3, 3, 1, 1)
    reasons = {row["item"]: (row["kind"], row["reason"]) for row in errors(tmp_path / "out")}
    assert reasons.keys() == {"bomb", "text", "bare", "latin"}
    assert "15000 x 15000" in reasons["bomb"][1]
    assert reasons["bare"] == ("left out", "has no picture")
    assert reasons["latin"][0] == "partial"
    assert [row["caption"] for row in rows(tmp_path / "out")] == ["fine", "café", None]
    assert not vectors(tmp_path / "out", "text")[2].any()


def test_a_truncated_tar_keeps_what_came_before(data: Path, local: list[object], tmp_path: Path) -> None:
    whole = (data / "001.tar").read_bytes()
    (data / "001.tar").write_bytes(whole[: len(whole) // 2])
    assert embed(data / "{000..002}.tar", tmp_path / "out", *local) == 1
    [problem] = errors(tmp_path / "out")
    assert problem["kind"] == "input"
    assert problem["item"].endswith("001.tar")
    assert "ends early" in problem["reason"]
    assert 65 < len(rows(tmp_path / "out")) < 95


def test_names_that_are_no_unicode_are_escaped(local: list[object], tmp_path: Path) -> None:
    with tarfile.open(tmp_path / "a.tar", "w", encoding="latin-1", format=tarfile.GNU_FORMAT) as tar:
        for name, jpeg in (("caf\xe9.jpg", jpegs(1)[0]), ("\xe9.jpg", b"no picture"), ("b.jpg", jpegs(2)[1])):
            entry = tarfile.TarInfo(name)
            entry.size = len(jpeg)
            tar.addfile(entry, io.BytesIO(jpeg))
    assert embed(tmp_path / "a.tar", tmp_path / "out", *local) == 1
    assert [row["image_path"] for row in rows(tmp_path / "out")] == ["caf\\xe9", "b"]
    assert [row["item"] for row in errors(tmp_path / "out")] == ["\\xe9"]


def test_a_shard_that_is_not_there_stays_to_be_made(
    data: Path, local: list[object], tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    (data / "001.tar").rename(data / "later")
    assert embed(data / "{000..002}.tar", tmp_path / "out", *local) == 1
    said = capsys.readouterr().out
    assert "part 1 isn't done" in said
    assert "001.tar" in said
    assert not (tmp_path / "out" / "errors.parquet").exists()
    (data / "later").rename(data / "001.tar")
    assert embed(data / "{000..002}.tar", tmp_path / "out", *local) == 0
    assert len(rows(tmp_path / "out")) == 100


def test_a_killed_run_goes_on(data: Path, local: list[object], tmp_path: Path) -> None:
    embed(data / "{000..002}.tar", tmp_path / "whole", *local)
    for tries in range(6):
        run = started(data / "{000..002}.tar", tmp_path / "out", *local)
        time.sleep(0.9 + 0.15 * tries)
        run.kill()
        run.wait()
    assert embed(data / "{000..002}.tar", tmp_path / "out", *local) == 0
    assert content(tmp_path / "out") == content(tmp_path / "whole")
    assert not [*(tmp_path / "out" / "_clipserve" / "tmp").iterdir()]


def test_two_runs_on_one_output_share_the_parts(data: Path, local: list[object], tmp_path: Path) -> None:
    embed(data / "{000..002}.tar", tmp_path / "whole", *local)
    runs = [started(data / "{000..002}.tar", tmp_path / "out", *local, "--json") for _ in range(2)]
    outcomes = [json.loads(run.communicate(timeout=60)[0].splitlines()[-1]) for run in runs]
    assert sum(outcome["items"] for outcome in outcomes) == 100
    assert [outcome["finished"] for outcome in outcomes] == [True, True]
    assert content(tmp_path / "out") == content(tmp_path / "whole")


def test_shares_are_disjoint_and_the_last_one_joins(data: Path, local: list[object], tmp_path: Path) -> None:
    assert embed(data / "{000..002}.tar", tmp_path / "out", *local, "--part", "1/2") == 0
    assert not (tmp_path / "out" / "errors.parquet").exists()
    assert embed(data / "{000..002}.tar", tmp_path / "out", *local, "--part", "2/2") == 0
    assert len(rows(tmp_path / "out")) == 100
    assert errors(tmp_path / "out") == []


def test_the_bar_tells_the_time_that_is_left(monkeypatch: pytest.MonkeyPatch) -> None:
    now = [1000.0]
    monkeypatch.setattr(report, "time", SimpleNamespace(monotonic=lambda: now[0]))
    with report.Bar() as bar:
        bar.begin(12, 2)
        assert bar.title == "part 3 of 12"
        now[0] += 60
        bar.part()
        bar.part()
        assert bar.title == "part 5 of 12, 0:04:00 left"
        for _ in range(8):
            bar.part()
        assert bar.title == "part 12 of 12"


def test_another_run_is_refused(data: Path, local: list[object], repository: Path, spec: ModelSpec, tmp_path: Path) -> None:
    embed(data / "000.tar", tmp_path / "out", *local)
    with pytest.raises(ContractMismatch, match="format clip-retrieval there, parquet here"):
        embed(data / "000.tar", tmp_path / "out", *local, "--format", "parquet")
    with pytest.raises(ContractMismatch, match=r"input .*000\.tar.* there, .*001\.tar.* here"):
        embed(data / "001.tar", tmp_path / "out", *local)
    other = other_checkpoint(repository, tmp_path / "other", spec)
    with pytest.raises(ContractMismatch, match=f"checkpoint {spec.fingerprint} there"):
        embed(data / "000.tar", tmp_path / "out", "--repository", other)


def test_a_pipe_and_a_compressed_tar_are_shards(data: Path, local: list[object], tmp_path: Path) -> None:
    (data / "0.tar.gz").write_bytes(gzip.compress((data / "000.tar").read_bytes()))
    embed(data / "000.tar", tmp_path / "plain", *local)
    assert embed(data / "0.tar.gz", tmp_path / "packed", *local) == 0
    assert embed(f"pipe:cat '{data}/000.tar'", tmp_path / "piped", *local) == 0
    expected = vectors(tmp_path / "plain")
    assert np.array_equal(vectors(tmp_path / "packed"), expected)
    assert np.array_equal(vectors(tmp_path / "piped"), expected)


def test_a_command_that_fails_is_a_part_to_be_made_again(
    data: Path, local: list[object], tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    command = f"pipe:cat '{data}/000.tar'; test -e '{tmp_path}/ready'"
    assert embed(command, tmp_path / "out", *local) == 1
    assert "failed with status 1" in capsys.readouterr().out
    (tmp_path / "ready").touch()
    assert embed(command, tmp_path / "out", *local) == 0
    assert len(rows(tmp_path / "out")) == 40


def test_keys_choose_the_members(local: list[object], tmp_path: Path) -> None:
    first, second = jpegs(2)
    shard(tmp_path / "a.tar", [("a", {"small.jpg": first, "large.jpg": second, "cap": b"a word"})])
    embed(tmp_path / "a.tar", tmp_path / "large", *local, "--image-key", "large.jpg;small.jpg", "--caption-key", "cap")
    embed(tmp_path / "a.tar", tmp_path / "small", *local, "--image-key", ".SMALL.jpg", "--towers", "image")
    assert rows(tmp_path / "large")[0]["caption"] == "a word"
    assert not (tmp_path / "small" / "text_emb").exists()
    assert not np.array_equal(vectors(tmp_path / "large"), vectors(tmp_path / "small"))
    with pytest.raises(InvalidInput, match=r"a\.tar has no pictures: its items have cap, large\.jpg, small\.jpg, not webp"):
        embed(tmp_path / "a.tar", tmp_path / "none", *local, "--image-key", "webp")


def test_parquet_has_vectors_and_columns(data: Path, local: list[object], tmp_path: Path) -> None:
    embed(data / "00*.tar", tmp_path / "plain", *local)
    assert embed(data / "00*.tar", tmp_path / "out", *local, "--format", "parquet", "--precision", "float32") == 0
    table = pq.read_table(sorted((tmp_path / "out").glob("part-*.parquet")))
    assert table["n"].to_pylist() == [*range(100)]
    assert str(table.schema.field("image").type) == f"fixed_size_list<element: float>[{vectors(tmp_path / 'plain').shape[1]}]"
    got = np.stack(table["image"].to_numpy()).astype(np.float16)
    assert np.array_equal(got, vectors(tmp_path / "plain"))


def test_a_folder_of_pictures_with_files_beside(local: list[object], tmp_path: Path) -> None:
    folder = tmp_path / "photos"
    (folder / "sub").mkdir(parents=True)
    for name, jpeg in zip(("a.jpg", "sub/b.jpg", "c.jpg"), jpegs(3), strict=True):
        (folder / name).write_bytes(jpeg)
    (folder / "a.txt").write_text("a caption")
    (folder / "a.json").write_text('{"year": 1999, "tags": ["x"]}')
    (folder / "bad.jpg").write_bytes(b"no picture")
    (folder / "empty.png").touch()
    assert embed(folder, tmp_path / "out", *local, "--part-items", 2) == 1
    assert [Path(row["image_path"]).name for row in rows(tmp_path / "out")] == ["a.jpg", "c.jpg", "b.jpg"]
    assert rows(tmp_path / "out")[0]["year"] == 1999
    assert {row["item"] for row in errors(tmp_path / "out")} == {"bad.jpg", "empty.png"}


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["nothing-there"], "nothing is at nothing-there"),
        (["{0..3.tar"], "no shards|braces|nothing"),
        (["missing-{0..3}.tar"], "missing-0.tar"),
    ],
)
def test_inputs_that_are_not_there_are_named(
    arguments: list[str], message: str, local: list[object], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    with pytest.raises(InvalidInput, match=message):
        embed(*arguments, tmp_path / "out", *local)
    assert not (tmp_path / "out" / "_clipserve" / "manifest.json").exists()


def test_a_damaged_manifest_is_refused(data: Path, local: list[object], tmp_path: Path) -> None:
    embed(data / "000.tar", tmp_path / "out", *local)
    manifest = tmp_path / "out" / "_clipserve" / "manifest.json"
    manifest.write_bytes(manifest.read_bytes()[:-20])
    with pytest.raises(InvalidInput, match="can't be read"):
        embed(data / "000.tar", tmp_path / "out", *local)
    shutil.rmtree(tmp_path / "out")
    (tmp_path / "out").touch()
    with pytest.raises(InvalidInput, match="can't be made"):
        embed(data / "000.tar", tmp_path / "out", *local)
