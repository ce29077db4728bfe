"""clipserve learn: what is taken and left out, propensities, a checkpoint in the parent's format, going on after a stop."""

from __future__ import annotations

import json
import shutil
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import clicked_collections
import held_out_clicks
import numpy as np
import pyarrow.parquet as pq
import pytest
import torch
from clicked_collections import Clicked
from safetensors.torch import load_file, save_file
from sidecars import Sidecar

from clip_client import ModelSpec
from clip_client.errors import InvalidInput
from clip_export.checkpoints.lineage import HELD_OUT, LINEAGE, PICTURES
from clip_export.checkpoints.lineage import read as read_lineage
from clip_export.learning import cli, clicks, feedback_source, propensities, training
from clip_export.learning.clicks import Origin

STEPS = 12
ORIGIN = Origin("f" * 16, "5" * 16)


class TestClicks:
    """Rows that are learned from, and those that aren't."""

    def usable(self, *rows: dict[str, Any]) -> clicks.Clicks:
        return clicks.usable(clicked_collections.table(rows), ORIGIN, {"a": 0, "b": 1, "c": 2})

    def test_the_books_balance_and_each_row_has_its_reason(self) -> None:
        row, shown = clicked_collections.row, ["a", "b", "c"]
        rows = {
            "": row("cat", shown, [1]),
            clicks.NO_TEXT: row(None, shown, [1]),
            clicks.LONG_TEXT: row("  ", shown, [1]),
            clicks.OTHER_SPACE: row("cat", shown, [1], model="0" * 16),
            clicks.FORGED: row("cat", shown, [3]),
            clicks.NOTHING: row("cat", shown, []),
            clicks.CONTRADICTORY: row("dog", shown, [2], marked_wrong=[2]),
            clicks.UNKNOWN: row("cat", ["gone", "a"], [0]),
        }
        usable = self.usable(*rows.values())
        assert [left.reason for left in usable.left_out] == list(rows)[1:]
        assert [left.number for left in usable.left_out] == list(range(1, len(rows)))
        assert [row.number for row in usable.rows] == [0]
        assert sum(usable.reasons.values()) + len(usable.rows) == len(rows)

    @pytest.mark.parametrize(
        ("shown", "chosen"), [(["a", "a"], [0]), (["a", None], [0]), (["a"], [-1]), (["a"], [None]), (None, [0])]
    )
    def test_forged_lists(self, shown: Any, chosen: Any) -> None:
        assert self.usable(clicked_collections.row("cat", shown, chosen)).reasons == {clicks.FORGED: 1}

    def test_answers_of_a_text_only_successor_and_of_unknown_models_count(self) -> None:
        row = clicked_collections.row
        origins = [{"model": ORIGIN.fingerprint}, {"model": "1" * 16, "space": ORIGIN.space}, {"model": "", "space": ""}]
        assert len(self.usable(*(row("cat", ["a"], [0], **origin) for origin in origins)).rows) == 3
        assert self.usable(row("cat", ["a"], [0], model=ORIGIN.fingerprint, space="1" * 16)).reasons == {clicks.OTHER_SPACE: 1}

    def test_what_others_mark_as_wrong_as_often_is_contradictory(self) -> None:
        row, shown = clicked_collections.row, ["a", "b"]
        usable = self.usable(row("cat", shown, [0]), row(" CAT", shown, [], marked_wrong=[0]), row("cat", shown, [1]))
        assert usable.reasons == {clicks.CONTRADICTORY: 2}
        more = self.usable(row("cat", shown, [0]), row("cat", shown, [0]), row("cat", shown, [], marked_wrong=[0]))
        assert len(more.rows) == 3

    def test_queries_are_held_out_whole_and_the_same_each_time(self) -> None:
        texts = [f"text {n}" for n in range(2000)]
        held = [clicks.is_held_out(text, 0.2, 0) for text in texts]
        assert 320 < sum(held) < 480
        assert held == [clicks.is_held_out(text, 0.2, 0) for text in texts]
        assert held != [clicks.is_held_out(text, 0.2, 1) for text in texts]


class TestPropensities:
    """Estimates against the truth that the clicks were drawn with."""

    @pytest.mark.parametrize("power", [0.5, 1.0, 1.5])
    def test_they_are_those_of_the_clicks(self, power: float) -> None:
        draw = np.random.default_rng(1)
        looks = 1 / np.arange(1, 31) ** power
        lists = [np.sort(draw.normal(0.3, draw.uniform(0.02, 0.1), 30))[::-1] for _ in range(3000)]
        chances = [looks * np.exp(12 * (cosines - cosines[0])) for cosines in lists]
        chosen = [[int(draw.choice(30, p=chance / chance.sum()))] for chance in chances]
        curve = propensities.estimated(lists, chosen)
        assert curve[0] == 1
        assert (np.diff(curve) <= 0).all()
        ratio = curve[[1, 4, 9, 19]] / looks[[1, 4, 9, 19]]
        assert ratio == pytest.approx(np.ones(4), rel=0.35)

    def test_a_single_position_or_no_click_has_no_bias(self) -> None:
        assert propensities.estimated([np.array([0.3])], [[0]]).tolist() == [1.0]
        assert propensities.estimated([np.array([0.3, 0.2])], [[]]).tolist() == [1.0, 1.0]

    def test_weights_have_a_limit(self) -> None:
        curve = np.array([1.0, 0.5, 0.001])
        assert propensities.weights(curve, [0, 1, 2, 9]) == [1.0, 2.0, propensities.MOST_WEIGHT, propensities.MOST_WEIGHT]


@pytest.fixture(scope="module")
def clicked(sidecar: Sidecar, checkpoint: Path, spec: ModelSpec) -> Iterator[Clicked]:
    """A collection of the small checkpoint's, and what people want of it."""
    with sidecar.client() as search:
        yield clicked_collections.make(search, "clicked", checkpoint, spec.fingerprint)
        search.drop("clicked")


@pytest.fixture(scope="module")
def feedback(clicked: Clicked, checkpoint: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """An export with four clicks a text, and a row that is left out."""
    rows = [*clicked_collections.rows(clicked, checkpoint), clicked_collections.row(None, ["p0"], [0])]
    return clicked_collections.write(tmp_path_factory.mktemp("feedback") / "clicks.parquet", rows)


def run(sidecar: Sidecar, feedback: Path, checkpoint: Path, output: Path, *options: str) -> int:
    """Run the command."""
    sources = ["--url", sidecar.url, "--collection", "clicked", "--feedback", feedback, "--checkpoint", checkpoint]
    return cli.main([*map(str, sources), "--output", str(output), "--steps", str(STEPS), *options])


@pytest.fixture(scope="module")
def learned(sidecar: Sidecar, feedback: Path, checkpoint: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The checkpoint that was learned."""
    output = tmp_path_factory.mktemp("learned") / "learned"
    assert run(sidecar, feedback, checkpoint, output) == 0
    return output


def gain(checkpoint: Path, clicked: Clicked, texts: list[str]) -> float:
    """Mean of 1 / log2(1 + rank) among all pictures of what people want, embedded by transformers."""
    cosines = held_out_clicks.embedded(checkpoint, texts) @ clicked.vectors.T
    wanted = np.array([int(clicked.wanted[text][1:]) for text in texts])
    own = cosines[np.arange(len(texts)), wanted]
    return float((1 / np.log2(2 + (cosines > own[:, None]).sum(1))).mean())


class TestLearned:
    """A run's result."""

    def test_it_has_the_parents_format_and_its_image_tower_to_the_bit(self, learned: Path, checkpoint: Path) -> None:
        before, after = load_file(checkpoint / "model.safetensors"), load_file(learned / "model.safetensors")
        assert before.keys() == after.keys()
        changed = {name for name in before if not torch.equal(before[name], after[name])}
        assert changed
        assert all(name.startswith(("text_model.", "text_projection.")) for name in changed)
        others = {path.name for path in checkpoint.iterdir()} - {"model.safetensors"}
        assert all((learned / name).read_bytes() == (checkpoint / name).read_bytes() for name in others)
        assert not (learned.parent / "learned.unfinished").exists()

    def test_what_was_chosen_comes_earlier(self, learned: Path, checkpoint: Path, clicked: Clicked, spec: ModelSpec) -> None:
        taught = [text for text in clicked_collections.TEXTS if not clicks.is_held_out(text, 0.2, 0)]
        assert gain(learned, clicked, taught) > gain(checkpoint, clicked, taught) + 0.05

    def test_the_lineage_says_where_it_comes_from(self, learned: Path, checkpoint: Path, spec: ModelSpec) -> None:
        content = json.loads((learned / LINEAGE).read_text())
        rows = content["rows"]
        assert rows["read"] == rows["used"] + rows["held_out"] + sum(rows["left_out"].values()) == 241
        assert rows["left_out"] == {clicks.NO_TEXT: 1}
        assert content["settings"]["steps"] == STEPS
        lineage = read_lineage(learned)
        assert lineage is not None
        assert (lineage.label, lineage.fingerprint, lineage.tower) == (checkpoint.name, spec.fingerprint, "text")

    def test_books_curve_and_held_out_rows_are_beside_it(self, learned: Path, clicked: Clicked, feedback: Path) -> None:
        assert (learned / "learning" / "curve.png").read_bytes().startswith(b"\x89PNG")
        assert (learned / "learning" / "left_out.csv").read_text().splitlines()[1:] == [f"240,q,{clicks.NO_TEXT}"]
        held_out = pq.read_table(learned / HELD_OUT)
        texts = set(held_out["text"].to_pylist())
        assert texts == {text for text in clicked_collections.TEXTS if clicks.is_held_out(text, 0.2, 0)}
        weights = [weight for row in held_out["weights"].to_pylist() for weight in row]
        assert np.mean(weights) == pytest.approx(1)
        pictures = pq.read_table((learned / HELD_OUT).with_name(PICTURES))
        assert pictures.num_rows == len(clicked.vectors)
        assert np.allclose(
            np.stack(pictures["embedding"].to_pylist()), clicked.vectors[np.argsort([f"p{n}" for n in range(120)])]
        )

    def test_a_run_that_was_stopped_goes_on_to_the_same_weights(
        self,
        learned: Path,
        sidecar: Sidecar,
        feedback: Path,
        checkpoint: Path,
        tmp_path: Path,
        monkeypatch: pytest.MonkeyPatch,
        capsys: pytest.CaptureFixture[str],
    ) -> None:
        taken, step = [], training.Training._step

        def stopped(self: training.Training, number: int) -> dict[str, float]:
            if number == 7 and 7 not in taken:
                taken.append(7)
                raise KeyboardInterrupt
            taken.append(number)
            return step(self, number)

        monkeypatch.setattr(training, "_SAVE_S", 0.0)
        monkeypatch.setattr(training.Training, "_step", stopped)
        assert run(sidecar, feedback, checkpoint, tmp_path / "again") == 130
        assert "the same command goes on" in capsys.readouterr().err
        assert not (tmp_path / "again").exists()
        assert run(sidecar, feedback, checkpoint, tmp_path / "again", "--rate", "0.5") == 2
        assert "was begun with rate 0.002, this run has 0.5" in " ".join(capsys.readouterr().err.split())
        assert run(sidecar, feedback, checkpoint, tmp_path / "again") == 0
        assert taken == [*range(7), 7, *range(7, STEPS)]
        assert (tmp_path / "again" / "model.safetensors").read_bytes() == (learned / "model.safetensors").read_bytes()
        assert (tmp_path / "again" / LINEAGE).read_bytes() == (learned / LINEAGE).read_bytes()


@pytest.mark.parametrize("adapter", ["layers", "lora"])
def test_an_adapter_changes_its_weights_alone(
    adapter: str, sidecar: Sidecar, feedback: Path, checkpoint: Path, tmp_path: Path
) -> None:
    assert run(sidecar, feedback, checkpoint, tmp_path / adapter, "--adapter", adapter, "--steps", "3") == 0
    before, after = load_file(checkpoint / "model.safetensors"), load_file(tmp_path / adapter / "model.safetensors")
    changed = {name for name in before if not torch.equal(before[name], after[name])}
    assert changed
    assert before.keys() == after.keys()
    assert not [name for name in changed if "embedding" in name]
    if adapter == "lora":
        ranks = {int(torch.linalg.matrix_rank(after[name].double() - before[name].double(), rtol=1e-3)) for name in changed}
        assert max(ranks) <= 8


def test_what_the_sidecar_keeps_is_taken_when_no_file_is_named(
    sidecar: Sidecar, clicked: Clicked, spec: ModelSpec, tmp_path: Path
) -> None:
    with sidecar.client() as search:
        with pytest.raises(InvalidInput, match="has no feedback: search on its page"):
            feedback_source.kept(None, search, "clicked", tmp_path / "kept.parquet")
        again = search.feedback("clicked", "a cat", ["p1", "p2", "p3"], "p2")
        search.feedback("clicked", "a cat", ["p1", "p2", "p3"], "p1", kind="wrong", query_id=again)
        table = feedback_source.kept(None, search, "clicked", tmp_path / "kept.parquet")
        search.feedback("clicked", "a dog", ["p1"], "p1")
        assert feedback_source.kept(None, search, "clicked", tmp_path / "kept.parquet") == table  # as the run began
        search.delete_feedback("clicked")
    [row] = clicks.usable(table, Origin(spec.fingerprint, spec.space), {"p1": 0, "p2": 1, "p3": 2}).rows
    assert (row.text, row.shown, row.chosen, row.wrong) == ("a cat", ("p1", "p2", "p3"), (1,), (0,))


class TestRefused:
    """Runs that end before they begin."""

    def told(self, capsys: pytest.CaptureFixture[str], *arguments: Any) -> str:
        assert run(*arguments) == 2
        assert not arguments[3].exists()
        return " ".join(capsys.readouterr().err.split())

    def test_too_little_says_how_much_is_needed(
        self, sidecar: Sidecar, clicked: Clicked, checkpoint: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
    ) -> None:
        few = [*clicked_collections.rows(clicked, checkpoint, 1)[:30], clicked_collections.row(None, ["p0"], [0])]
        file = clicked_collections.write(tmp_path / "few.parquet", few)
        told = self.told(capsys, sidecar, file, checkpoint, tmp_path / "learned")
        assert (
            "expected at least 100 for 20: collect more feedback (31 rows read; 1 left out: the query is no text alone)" in told
        )

    def test_a_checkpoint_of_another_space(
        self,
        sidecar: Sidecar,
        feedback: Path,
        checkpoint: Path,
        spec: ModelSpec,
        tmp_path: Path,
        capsys: pytest.CaptureFixture[str],
    ) -> None:
        other = tmp_path / "other"
        shutil.copytree(checkpoint, other)
        weights = load_file(other / "model.safetensors")
        save_file({**weights, "logit_scale": weights["logit_scale"] + 1}, other / "model.safetensors", {"format": "pt"})
        told = self.told(capsys, sidecar, feedback, other, tmp_path / "learned")
        assert f"the collection 'clicked' holds vectors of the model {spec.fingerprint}" in told
        assert "name the checkpoint that made the collection" in told

    @pytest.mark.parametrize(
        ("options", "told"),
        [
            (["--feedback", "nowhere.parquet"], "nowhere.parquet can't be read"),
            (["--replay", "nowhere.parquet"], "nowhere.parquet can't be read"),
            (["--collection", "nowhere"], "nowhere"),
            (["--url", "http://127.0.0.1:9"], "127.0.0.1:9"),
        ],
    )
    def test_options(
        self,
        options: list[str],
        told: str,
        sidecar: Sidecar,
        feedback: Path,
        checkpoint: Path,
        tmp_path: Path,
        capsys: pytest.CaptureFixture[str],
    ) -> None:
        assert run(sidecar, feedback, checkpoint, tmp_path / "learned", *options) == 2
        assert told in " ".join(capsys.readouterr().err.split())

    def test_an_output_that_is_there(
        self, sidecar: Sidecar, feedback: Path, checkpoint: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
    ) -> None:
        assert run(sidecar, feedback, checkpoint, tmp_path) == 2
        assert "is there already" in capsys.readouterr().err
