"""``clipserve search``: a folder in, hits out, and clip-retrieval's folders both ways."""

from __future__ import annotations

import json
import socket
import subprocess
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
import sidecars
from servers import CLIPSERVE, Server
from sidecars import PICTURES, Sidecar, unit

from clip_client import Clip
from pictures import encoded, picture


@pytest.fixture(scope="module")
def sidecar(server: Server, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Sidecar]:
    with sidecars.running(tmp_path_factory.mktemp("search"), server.address) as sidecar:
        yield sidecar


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    """Eight pictures, one of them broken, with captions, fields and a table beside them."""
    (tmp_path / "in" / "sub").mkdir(parents=True)
    for n in range(8):
        (tmp_path / "in" / "sub" / f"{n}.jpg").write_bytes(encoded(picture(60 + n, 50, seed=n)))
    (tmp_path / "in" / "broken.png").write_bytes(b"no picture")
    (tmp_path / "in" / "notes.md").write_text("no picture either")
    (tmp_path / "in" / "sub" / "3.txt").write_text("the third\n")
    (tmp_path / "in" / "sub" / "3.json").write_text('{"year": 1999, "nested": {"a": 1}}')
    pq.write_table(pa.table({"file_name": ["sub/4.jpg"], "caption": ["the fourth"]}), tmp_path / "table.parquet")
    return tmp_path / "in"


def run(sidecar: Sidecar, collection: str, *arguments: object, status: int = 0) -> str:
    verb, *rest = map(str, arguments)
    where = ["--url", sidecar.url, "--collection", collection]
    ended = subprocess.run([CLIPSERVE, "search", verb, *where, *rest], capture_output=True, text=True, timeout=60)
    assert ended.returncode == status, ended.stderr
    return ended.stdout + ended.stderr


def test_a_folder_is_added_searched_and_filtered(sidecar: Sidecar, folder: Path, clip: Clip, tmp_path: Path) -> None:
    told = run(sidecar, "photos", "add", folder, "--metadata", tmp_path / "table.parquet", status=1)
    assert "8 rows in photos; 1 file left out" in told
    assert "broken.png: not a picture" in told
    again = run(sidecar, "photos", "add", folder, status=1)
    assert "8 rows in photos" in again
    hits = json.loads(run(sidecar, "photos", "query", "a cat", "-k", "8", "--json"))
    files = sorted((folder / "sub").glob("*.jpg"))
    scores = clip.embed_image(files) @ clip.embed_text("a cat")
    assert [hit["id"] for hit in hits] == [f"sub/{files[n].name}" for n in np.argsort(-scores)]
    by_id = {hit["id"]: hit for hit in hits}
    assert by_id["sub/3.jpg"]["metadata"] == {"caption": "the third", "year": 1999}
    assert by_id["sub/4.jpg"]["metadata"]["caption"] == "the fourth"
    assert by_id["sub/5.jpg"]["source"] == str((folder / "sub" / "5.jpg").resolve())
    assert "the third" in run(sidecar, "photos", "query", folder / "sub" / "3.jpg", "-k", "1")
    assert "year = 1999" not in run(sidecar, "photos", "query", "a cat", "--filter", "year = 1999")
    assert "2 of 2 matches copied" in run(
        sidecar, "photos", "filter", folder / "sub" / "6.jpg", tmp_path / "out", "--num-results", "2"
    )
    assert (tmp_path / "out" / "6.jpg").read_bytes() == (folder / "sub" / "6.jpg").read_bytes()
    assert "image: 8 vectors, faiss; the index finds 100 % of what an exact search finds" in run(sidecar, "photos", "stats")
    assert json.loads(run(sidecar, "photos", "stats", "--json"))["rows"] == 8
    assert "8 rows" in run(sidecar, "photos", "rebuild")


def test_duplicates_are_groups_for_people_and_paths_for_pipes(sidecar: Sidecar, tmp_path: Path) -> None:
    folder = tmp_path / "twice"
    folder.mkdir()
    for n, name in enumerate(("a.jpg", "b.jpg", "two\nlines.jpg", "c.jpg", "d.jpg")):
        (folder / name).write_bytes(PICTURES[n // 3])  # the first three are one picture, and so are the last two
    run(sidecar, "twice", "add", folder)
    command = [CLIPSERVE, "search", "duplicates", "--url", sidecar.url, "--collection", "twice", "--threshold", "0.99"]

    def printed(*options: str) -> str:
        return subprocess.run([*command, *options], capture_output=True, text=True, timeout=60, check=True).stdout

    heading, *rows = [line.split("\t") for line in printed().splitlines()]
    assert heading[:3] == ["group", "score", "id"]
    assert [row[0] for row in rows] == ["1", "1", "1", "2", "2"]
    listed = json.loads(printed("--json", "--limit", "1"))
    assert (listed["checked"], listed["more"], listed["groups"][0]["size"]) == (5, True, 3)
    spare = printed("-0").split("\0")[:-1]
    assert len(spare) == len({*spare}) == 3
    kept = {str(path) for path in folder.resolve().iterdir()} - {*spare}
    assert sorted(Path(path).read_bytes() for path in kept) == sorted(PICTURES[:2])
    assert printed("--filter", "id = 'a.jpg'") == ""
    assert "threshold: " in run(sidecar, "twice", "duplicates", "--threshold", "0.1", status=1)


@pytest.mark.parametrize("kept", ["img_emb", "image.index"])
def test_clip_retrievals_folders_go_in_and_come_out(sidecar: Sidecar, tmp_path: Path, kept: str) -> None:
    name, vectors = f"import-{kept[-5:]}", unit(2500, 24)
    source, target = tmp_path / "in", tmp_path / "out"
    (source / "img_emb").mkdir(parents=True)
    (source / "metadata").mkdir()
    for n, part in enumerate(np.split(vectors, [1000, 1900])):
        np.save(source / "img_emb" / f"img_emb_{n}.npy", part.astype(np.float16))
    rows = [{"image_path": f"/pictures/{n}.jpg", "caption": f"caption {n}", "similarity": 0.5} for n in range(2500)]
    for n, part in enumerate((rows[:1000], rows[1000:1900], rows[1900:])):
        pq.write_table(pa.Table.from_pylist(part), source / "metadata" / f"metadata_{n}.parquet")
    assert "read 2500 = 2500 added + 0 unchanged + 0 replaced + 0 left out" in run(sidecar, name, "import", source)
    assert "2500 rows exported" in run(sidecar, name, "export", target)
    exported = np.concatenate([np.load(part) for part in sorted((target / "img_emb").glob("*.npy"))])
    assert exported.dtype == np.float16
    np.testing.assert_allclose(exported, vectors, atol=2e-3)
    assert pq.read_table(target / "metadata" / "metadata_0.parquet").to_pylist()[1234]["caption"] == "caption 1234"
    for path in target.iterdir():
        assert path.name in {"img_emb", "image.index", "metadata"}
    [entry.rename(tmp_path / entry.name) for entry in target.iterdir() if entry.name not in (kept, "metadata")]
    assert "2500 rows imported" in run(sidecar, f"{name}-again", "import", target)
    with sidecar.client() as search:
        (row,) = search.get(f"{name}-again", ["1234"], vectors=True)
    assert (row["source"], row["metadata"]["caption"]) == ("/pictures/1234.jpg", "caption 1234")
    np.testing.assert_allclose(row["vector_image"], vectors[1234], atol=2e-3)


def test_what_goes_wrong_is_said_in_a_line(sidecar: Sidecar, tmp_path: Path) -> None:
    (tmp_path / "empty").mkdir()
    assert "no pictures in" in run(sidecar, "a", "add", tmp_path / "empty", status=1)
    assert "no vectors in" in run(sidecar, "a", "import", tmp_path / "empty", status=1)
    assert "no collection none" in run(sidecar, "none", "query", "a cat", status=1)
    ended = subprocess.run(
        [CLIPSERVE, "search", "stats", "--url", "http://127.0.0.1:9"], capture_output=True, text=True, timeout=30
    )  # fmt: skip
    assert ended.returncode == 1
    assert "error: http://127.0.0.1:9 can't be reached" in ended.stderr
    assert "Traceback" not in ended.stderr


@pytest.mark.parametrize(
    ("options", "status", "message"),
    [
        (["--recall", "1.5"], 2, "the recall target is 1.5: expected above 0"),
        (["--memory", "nan"], 2, "nan GB of memory: expected a number above 0"),
        (["--text-cache", "-1"], 2, "-1 entries of a cache: expected a number from 0 on"),
        (["--data", "s3://bucket/x"], 1, "name a local folder for the indexes, --index DIR"),
        (["--token-file", "/nowhere"], 1, "the token can't be read"),
        (["--images", "/nowhere"], 1, "--images /nowhere: there is no such folder"),
        (["--triton", "nonsense"], 1, "expected host:port"),
    ],
)
def test_options_that_cant_be(options: list[str], status: int, message: str, tmp_path: Path) -> None:
    command = [CLIPSERVE, "search", "serve", "--data", tmp_path, "--port", "1", *options]
    ended = subprocess.run(command, capture_output=True, text=True, timeout=30)
    assert ended.returncode == status
    assert message in ended.stderr


def test_a_sidecar_takes_options_from_a_file_and_the_environment(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "token").write_text("s3cret")
    (tmp_path / "options.toml").write_text("[search]\nport = 1\nbody_mb = 1\n")
    monkeypatch.setenv("CLIPSERVE_CONFIG", str(tmp_path / "options.toml"))
    monkeypatch.setenv("CLIPSERVE_SEARCH_TOKEN_FILE", str(tmp_path / "token"))
    with sidecars.running(tmp_path / "data", "127.0.0.1:9") as sidecar:
        status, answer = sidecar.ask("POST", "/v1/collections", b"x" * 2**21, Authorization="Bearer s3cret")
        assert (status, "at most 1,048,576" in answer["message"]) == (413, True)
        assert sidecar.ask("GET", "/v1/collections")[0] == 401


def test_a_sidecar_that_doesnt_answer_is_waited_for_as_long_as_asked() -> None:
    with socket.create_server(("127.0.0.1", 0)) as silent:
        where = ["--url", f"http://127.0.0.1:{silent.getsockname()[1]}", "--timeout", "0.5"]
        run = subprocess.run([CLIPSERVE, "search", "list", *where], capture_output=True, text=True, check=False)
    assert run.returncode == 1
    assert "didn't answer within 0.5 s: raise timeout_s (--timeout)" in run.stderr


@pytest.mark.parametrize("text", ["0", "-1", "nan", "inf", "x"])
def test_a_timeout_is_a_number_of_seconds(text: str) -> None:
    run = subprocess.run([CLIPSERVE, "search", "list", "--timeout", text], capture_output=True, text=True, check=False)
    assert run.returncode == 2
    assert "argument --timeout" in run.stderr
