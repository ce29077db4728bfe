"""Folders that the sidecar reads itself: which it may read, what goes in, and an import that is interrupted."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from sidecars import Sidecar, unit

from clip_client.errors import InvalidInput, NotFound
from clip_client.search import Search
from clip_search.cli import parser

SIZE, NAME = 8, "folders"
SUM = ("rows", "added", "unchanged", "replaced")


@pytest.fixture
def client(sidecar: Sidecar) -> Iterator[Search]:
    """A client, and an empty collection of vectors of 8."""
    with sidecar.client() as search:
        search.create(NAME, dimension=SIZE, fingerprint="")
        yield search
        search.drop(NAME)


@pytest.fixture
def allowed(sidecar: Sidecar, request: pytest.FixtureRequest) -> Path:
    """A folder of the test's own, below the folder that the sidecar reads."""
    folder = Path(sidecar.options[sidecar.options.index("--images") + 1]) / request.node.name.replace("/", "_")
    folder.mkdir()
    return folder


def write(folder: Path, vectors: np.ndarray) -> Path:
    for name in ("img_emb", "metadata"):
        (folder / name).mkdir(parents=True)
    np.save(folder / "img_emb" / "img_emb_0.npy", vectors)
    pq.write_table(pa.table({"n": range(len(vectors))}), folder / "metadata" / "metadata_0.parquet")
    return folder


def taken(client: Search, folder: Path, **options: str) -> tuple[list[int], dict[str, str]]:
    """Sums of an import's counts, and reasons by row."""
    steps = [*client.import_folder(NAME, folder, **options)]
    return [sum(step[name] for step in steps) for name in SUM], dict(item for step in steps for item in step["left_out"])


def test_a_folder_goes_in_and_again_adds_nothing(client: Search, allowed: Path) -> None:
    vectors = unit(2_500, SIZE)
    vectors[[3, 2_100]] = 0
    folder = write(allowed / "in", vectors)
    counts, left_out = taken(client, folder)
    assert counts == [2_500, 2_498, 0, 0]
    assert left_out == dict.fromkeys(("row 3", "row 2100"), "img_emb has NaN, infinity or length 0 there")
    assert taken(client, folder)[0] == [2_500, 0, 2_498, 0]
    assert taken(client, folder, on_conflict="replace")[0] == [2_500, 0, 0, 2_498]
    assert taken(client, folder, prefix="b-")[0] == [2_500, 2_498, 0, 0]
    [row] = client.get(NAME, ["b-2099"], vectors=True)
    assert row["metadata"] == {"n": 2_099}
    np.testing.assert_allclose(row["vector_image"], vectors[2_099], atol=1e-6)
    other = write(allowed / "other", unit(1, SIZE, 9))
    counts, left_out = taken(client, other)
    assert counts == [1, 0, 0, 0]
    assert "id 0 has another vector in folders" in left_out["row 0"]


def test_an_import_that_is_ended_goes_on(client: Search, allowed: Path) -> None:
    folder = write(allowed / "in", unit(20_000, SIZE))
    steps = client.import_folder(NAME, folder)
    assert next(steps)["added"] == 8_000
    steps.close()  # type: ignore[attr-defined]
    (rows, added, unchanged, _), _ = taken(client, folder)
    assert rows == added + unchanged == 20_000
    assert unchanged >= 8_000
    assert client.stats(NAME)["rows"] == 20_000


def test_rows_that_are_added_together_are_named_one_by_one(client: Search, allowed: Path) -> None:
    """Rows are read 2,000 at a time, and added more at a time."""
    vectors = unit(4_500, SIZE)
    taken(client, write(allowed / "in", vectors))
    vectors[[0, 3]] = 0
    vectors[[7, 2_001, 4_499]] *= -1
    counts, left_out = taken(client, write(allowed / "other", vectors))
    assert counts == [4_500, 0, 4_495, 0]
    reason = (
        f"id {{}} has another vector in {NAME}: a prefix of its own gives a folder's rows ids of their own, replacing takes"
    )
    assert {name: told.partition(" these")[0] for name, told in left_out.items()} == {
        **dict.fromkeys(("row 0", "row 3"), "img_emb has NaN, infinity or length 0 there"),
        **{f"row {n}": reason.format(n) for n in (7, 2_001, 4_499)},
    }


def test_a_file_that_cant_be_read_leaves_the_others(client: Search, allowed: Path) -> None:
    folder = write(allowed / "in", unit(4, SIZE))
    np.save(folder / "img_emb" / "img_emb_1.npy", unit(3, SIZE))
    (folder / "metadata" / "metadata_1.parquet").write_bytes(b"no table")
    counts, left_out = taken(client, folder)
    assert counts == [7, 4, 0, 0]
    assert [*left_out] == ["row 4", "row 5", "row 6"]


def test_folders_that_may_not_be_read(client: Search, allowed: Path, tmp_path: Path) -> None:
    outside = write(tmp_path / "outside", unit(2, SIZE))
    with pytest.raises(InvalidInput, match="is outside the folders that this sidecar reads"):
        taken(client, outside)
    (allowed / "link").symlink_to(outside)
    with pytest.raises(InvalidInput, match="is outside"):
        taken(client, allowed / "link")
    inside = write(allowed / "in", unit(2, SIZE))
    (inside / "img_emb" / "img_emb_1.npy").symlink_to(outside / "img_emb" / "img_emb_0.npy")
    with pytest.raises(InvalidInput, match="is outside"):
        taken(client, inside)
    with pytest.raises(InvalidInput, match=r"no folder .*nothing here"):
        taken(client, allowed / "nothing")
    assert client.stats(NAME)["rows"] == 0


def test_requests_that_are_wrong(client: Search, sidecar: Sidecar, allowed: Path) -> None:
    folder, path = str(write(allowed / "in", unit(2, SIZE + 1))), f"/v1/collections/{NAME}/import"
    wrong = [
        ({"folder": folder, "state": [1, 2]}, "is another folder than the client's"),
        ({"folder": "in"}, "is no absolute path"),
        ({"folder": folder}, "the folder has vectors of 9, collection folders holds 8"),
        ({"folder": folder, "on_conflict": "error"}, "on_conflict"),
        ({"folder": "/x\0"}, "isn't a path"),
    ]
    for body, reason in wrong:
        status, answer = sidecar.ask("POST", path, body)
        assert status == 400, answer
        assert reason in answer["message"]
    with pytest.raises(NotFound):
        [*client.import_folder("nobody", folder)]


@pytest.mark.parametrize(("options", "told"), [((), "reads"), (("--send",), "")])
def test_the_command_lets_the_sidecar_read_what_it_may(
    client: Search, sidecar: Sidecar, allowed: Path, capfd: pytest.CaptureFixture[str], options: tuple[str, ...], told: str
) -> None:
    folder = write(allowed / "in", unit(3, SIZE))
    assert parser.main(["import", str(folder), "--url", sidecar.url, "--collection", NAME, *options]) == 0
    output = capfd.readouterr()
    assert output.out.splitlines()[-1] == "read 3 = 3 added + 0 unchanged + 0 replaced + 0 left out"
    assert (f"the sidecar reads {folder} itself" in output.err) == bool(told)
    assert [row["id"] for row in client.rows(NAME)] == ["0", "1", "2"]
