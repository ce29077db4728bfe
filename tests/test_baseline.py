"""A changed checkpoint is judged beside its parent: held-out clicks must rise, the general set must not fall."""

from __future__ import annotations

import json
import math
from pathlib import Path
from typing import Any

import held_out_clicks
import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
import scipy.stats
import sklearn.metrics
from held_out_clicks import row, write, write_pictures

from clip_client.errors import InvalidInput
from clip_export.baseline import bootstrap, candidates, clicks, figures
from clip_export.baseline.candidates import Candidates
from clip_export.baseline.clicks import Clicks, Row
from clip_export.baseline.figures import Seen
from clip_export.checkpoints import lineage
from clip_export.checkpoints.lineage import LINEAGE
from clip_export.evaluation.gate import Allowed
from clip_export.evaluation.items import Evaluation


class TestInterval:
    """The bootstrap beside scipy's."""

    def test_it_is_scipys_paired_percentile_interval(self) -> None:
        random = np.random.default_rng(3)
        weights = random.lognormal(size=120)
        differences = weights * random.normal(0.05, 0.3, size=120)
        theirs = scipy.stats.bootstrap(
            (differences, weights),
            lambda d, w, axis: d.sum(axis=axis) / w.sum(axis=axis),
            paired=True,
            vectorized=True,
            n_resamples=bootstrap.RESAMPLES,
            method="percentile",
            rng=np.random.default_rng(4),
        ).confidence_interval
        [low], [high] = bootstrap.interval(differences[:, None], weights)
        width = theirs.high - theirs.low
        assert low == pytest.approx(theirs.low, abs=0.03 * width)
        assert high == pytest.approx(theirs.high, abs=0.03 * width)

    def test_it_is_the_same_each_time(self) -> None:
        differences, weights = np.random.default_rng(0).normal(size=(60, 2)), np.ones(60)
        np.testing.assert_array_equal(bootstrap.interval(differences, weights), bootstrap.interval(differences, weights))

    def test_it_holds_the_truth_as_often_as_it_says(self) -> None:
        random = np.random.default_rng(5)
        differences = np.where(random.random((100, 400)) < 0.2, random.choice([-1.0, 1.0], (100, 400)), 0.0)
        low, high = bootstrap.interval(differences, np.ones(100))  # 400 trials of 100 queries; the true difference is 0
        assert 0.91 < ((low <= 0) & (high >= 0)).mean() < 0.985


def seen(texts: dict[str, np.ndarray], vectors: np.ndarray) -> Seen:
    return Seen(texts, Candidates({str(n): n for n in range(len(vectors))}, vectors, ""))


def made(rows: list[Row]) -> Clicks:
    return Clicks(Path("clicks.parquet"), rows, {}, True)


class TestClicks:
    """Figures on clicks, from vectors that are known."""

    def test_the_figure_is_scikit_learns_dcg(self) -> None:
        random = np.random.default_rng(0)
        vectors, queries = held_out_clicks.pictures(50, 16), held_out_clicks.pictures(30, 16, seed=1)
        rows, expected = [], []
        for n in range(30):
            shown, chosen = random.permutation(50)[:12], int(random.integers(12))
            rows.append(Row(f"text {n}", [str(id) for id in shown], [chosen], [1.0]))
            relevant = np.arange(12) == chosen
            expected.append(sklearn.metrics.dcg_score([relevant], [vectors[shown] @ queries[n]]))
        model = seen({f"text {n}": queries[n] for n in range(30)}, vectors)
        dcg, *_ = figures.of_clicks(made(rows), model, model)
        assert (dcg.parent, dcg.this) == pytest.approx((np.mean(expected), np.mean(expected)))
        assert (dcg.verdict, dcg.low, dcg.high) == ("no gain", 0, 0)

    def test_weights_undo_the_position_of_what_was_chosen(self) -> None:
        """People look at the n-th of ten with probability 1/n, and choose what is relevant if they see it."""
        random = np.random.default_rng(7)
        examined, rows, plain, truth = 1 / np.arange(1, 11), [], [], []
        vectors, queries = held_out_clicks.pictures(300, 8), held_out_clicks.pictures(1200, 8, seed=1)
        for n, query in enumerate(queries):
            shown = np.argsort(-vectors @ held_out_clicks.pictures(1, 8, seed=n)[0])[:10]
            relevant = random.random(10) < 0.3
            order = np.argsort(np.argsort(-vectors[shown] @ query))
            truth += [1 / math.log2(2 + place) for place in order[relevant]]
            chosen = [int(p) for p in np.flatnonzero(relevant & (random.random(10) < examined))]
            if chosen:
                rows.append(Row(f"text {n}", [str(id) for id in shown], chosen, [1 / examined[p] for p in chosen]))
                plain.append(Row(f"text {n}", [str(id) for id in shown], chosen, [1.0] * len(chosen)))
        shower = seen({f"text {n}": held_out_clicks.pictures(1, 8, seed=n)[0] for n in range(1200)}, vectors)
        other = seen({f"text {n}": query for n, query in enumerate(queries)}, vectors)
        corrected, *_ = figures.of_clicks(made(rows), shower, other)
        biased, *_ = figures.of_clicks(made(plain), shower, other)
        assert corrected.this == pytest.approx(np.mean(truth), abs=0.02)
        assert (corrected.verdict, biased.verdict) == ("no gain", "worse")  # relevance has nothing to do with either order

    def test_rows_of_one_query_are_drawn_together(self) -> None:
        vectors = held_out_clicks.pictures(20, 8)
        texts = {text: held_out_clicks.pictures(1, 8, seed=n)[0] for n, text in enumerate(("a cat", "A  Cat ", "a dog"))}
        rows = [Row(text, ["0", "1"], [0], [1.0]) for text in texts for _ in range(40)]
        assert figures.of_clicks(made(rows), seen(texts, vectors), seen(texts, vectors))[0].queries == 2

    def test_a_gain_within_noise_is_none(self) -> None:
        vectors = held_out_clicks.pictures(300, 8)
        random = np.random.default_rng(0)
        before = {f"text {n}": vectors[random.integers(300)] for n in range(60)}
        after = {text: held_out_clicks.pictures(1, 8, seed=n)[0] for n, text in enumerate(before)}
        lists = [[str(id) for id in random.permutation(300)[:9]] for _ in before]
        rows = [Row(text, shown, [int(random.integers(9))], [1.0]) for text, shown in zip(before, lists, strict=True)]
        pair = [seen(before, vectors), seen(after, vectors)]
        both = (figures.of_clicks(made(rows), *models)[0] for models in (pair, pair[::-1]))
        dcg = max(both, key=lambda figure: figure.change)
        assert dcg.change > 0
        assert dcg.verdict == "no gain"
        assert "is within noise; " in dcg.objection


class TestGeneral:
    """Figures on labelled pictures."""

    def judged(self, hits: int, allowed: Allowed) -> list[figures.Figure]:
        """Texts of which so many of 200 find their picture; the parent's all do."""
        perfect = np.eye(200, dtype=np.float32)
        texts = np.concatenate([perfect[:hits], np.roll(perfect, 1, axis=0)[hits:]])
        none, pixels = np.empty(0, np.int64), np.zeros((200, 1, 1, 3), np.uint8)
        evaluation = Evaluation("", pixels, pixels, np.zeros((200, 1), np.int32), np.arange(200), none)
        return figures.of_general(evaluation, (perfect, perfect), (perfect, texts), allowed)

    def test_what_falls_too_far_is_named_with_its_interval(self) -> None:
        first = self.judged(180, Allowed())[0]
        assert (first.name, first.parent, first.this, first.verdict) == ("text_to_image_r@1", 1, 0.9, "falls too far")
        assert first.change == pytest.approx(-10)
        assert first.low < first.change < first.high < 0
        assert first.objection.startswith("text to image R@1 falls by more than --max-loss 1: −10.0 points (95 % interval −1")

    def test_what_falls_less_is_told_and_let_pass(self) -> None:
        first = self.judged(180, Allowed(lost_points=12))[0]
        assert (first.verdict, first.objection) == ("falls a little", "")

    def test_nothing_happened(self) -> None:
        assert {figure.verdict for figure in self.judged(200, Allowed())} == {"within noise"}


class TestFile:
    """Files of clicks, and of vectors."""

    def test_the_books_balance_and_each_row_has_its_reason(self, tmp_path: Path) -> None:
        good = row("a cat", ["a", "b", "c"], [1, 2])
        rows = [
            good,
            {**good, "text": None},
            {**good, "text": "  "},
            {**good, "chosen": [], "weights": []},
            row("a cat", ["a"], [0]),
            {**good, "shown": ["a", "a", "b"]},
            {**good, "shown": ["a", None, "b"]},
            {**good, "chosen": [0, 3]},
            {**good, "chosen": [1, 1]},
            {**good, "chosen": [-1, 1]},
            {**good, "marked_wrong": [2]},
            {**good, "weights": [1.0]},
            {**good, "weights": [1.0, float("nan")]},
            {**good, "weights": [0.0, 1.0]},
            {**good, "weights": None},
        ]
        told = clicks.read(write(tmp_path / "clicks.parquet", rows), "f")
        assert (told.read, len(told.rows), told.weighted) == (15, 1, True)
        assert told.left_out == {
            "the query isn't one text": 2,
            "nothing was chosen": 1,
            "fewer than two pictures were shown": 1,
            "an id is missing or shown twice, or a position isn't in the list": 5,
            "a picture is both chosen and marked wrong": 1,
            "its weights aren't a positive number for each choice": 4,
        }
        assert told.books().startswith("15 rows read, 1 judged (2 choices, 1 query); 2 left out: the query isn't one text; 1")

    def test_without_weights_only_what_the_parent_showed_counts(self, tmp_path: Path) -> None:
        rows = [row("a cat", ["a", "b"], [1], model=model) for model in ("own", "", "other")]
        for fields in rows:
            del fields["weights"]
        told = clicks.read(write(tmp_path / "clicks.parquet", rows), "own")
        assert (len(told.rows), told.weighted, [*told.left_out.values()]) == (2, False, [1])

    def test_pictures_that_are_gone(self, tmp_path: Path) -> None:
        rows = [row("a cat", ["a", "b", "c"], [2]), row("a dog", ["a", "b", "c"], [1]), row("a cup", ["b", "c"], [1])]
        left = clicks.read(write(tmp_path / "clicks.parquet", rows), "").of({"a", "c"})
        assert [(one.shown, one.chosen) for one in left.rows] == [(["a", "c"], [1])]
        assert (left.read, left.left_out) == (3, {"a picture that was chosen has no vector": 2})

    @pytest.mark.parametrize(
        ("make", "told"),
        [
            (lambda path: None, "there is no file"),
            (lambda path: path.write_bytes(b"PAR1 or not"), "can't be read"),
            (lambda path: path.mkdir(), "can't be read"),
            (lambda path: pq.write_table(pa.table({"text": ["a"]}), path), "has no column shown, chosen"),
            (lambda path: pq.write_table(pa.table({"text": ["a"], "shown": [1], "chosen": ["x"]}), path), "can't be read"),
        ],
    )
    def test_what_isnt_clicks_is_refused_by_name(self, make: Any, told: str, tmp_path: Path) -> None:
        make(path := tmp_path / "clicks.parquet")
        with pytest.raises(InvalidInput, match=told) as refused:
            clicks.read(path, "")
        assert str(path) in str(refused.value)

    def test_vectors(self, tmp_path: Path) -> None:
        vectors = held_out_clicks.pictures(4, 8)
        stored = candidates.stored(write_pictures(tmp_path / "good.parquet", vectors, "abc"))
        np.testing.assert_array_equal(stored.embeddings, vectors)
        assert (stored.positions["3"], stored.made_by) == (3, "abc")
        with pytest.raises(InvalidInput, match="the vector of '0' isn't of length 1"):
            candidates.stored(write_pictures(tmp_path / "long.parquet", 3 * vectors))
        ragged = pa.table({"id": ["a", "b"], "embedding": [[1.0], [0.6, 0.8]]})
        pq.write_table(ragged, tmp_path / "ragged.parquet")
        with pytest.raises(InvalidInput, match="2 rows with vectors of"):
            candidates.stored(tmp_path / "ragged.parquet")
        pq.write_table(pa.table({"id": ["a", "a"], "embedding": [[1.0], [1.0]]}), tmp_path / "twice.parquet")
        with pytest.raises(InvalidInput, match="2 rows of 1 ids"):
            candidates.stored(tmp_path / "twice.parquet")

    def test_no_id_leads_out_of_the_folder(self, tmp_path: Path) -> None:
        (tmp_path / "secret.jpg").write_bytes(b"")
        (folder := tmp_path / "pictures").mkdir()
        (folder / "a.jpg").write_bytes(b"")
        assert [*candidates.files(folder, ["../secret.jpg", str(tmp_path / "secret.jpg"), "a.jpg", "a\0b"])] == ["a.jpg"]
        with pytest.raises(InvalidInput, match=r"has none of the 1 pictures that were shown"):
            candidates.files(folder, ["../secret.jpg"])


class TestLineage:
    """The file beside a learned checkpoint."""

    def test_facts_are_told_on_a_line(self, tmp_path: Path) -> None:
        fields = {"rows": {"read": 5, "used": 4, "left_out": {"no text": 1}}, "settings": {"seed": 0}, "propensities": [1, 0.5]}
        parent = {"label": "p\x1b", "fingerprint": "f"}
        (tmp_path / LINEAGE).write_text(json.dumps({"parent": parent, "tower": "text", **fields}))
        assert (told := lineage.read(tmp_path))
        assert told.lines() == [
            "Learned from p\\x1b (fingerprint f): its text tower",
            "Learning: rows: read 5, used 4, left out: no text 1, settings: seed 0",
        ]

    def test_none(self, tmp_path: Path) -> None:
        assert lineage.read(tmp_path) is None

    @pytest.mark.parametrize(
        "content",
        ["", "[]", "{}", '{"parent": {"label": 1, "fingerprint": "f"}, "tower": "text"}', '{"parent": [], "tower": "no"}'],
    )
    def test_what_isnt_one_is_refused(self, content: str, tmp_path: Path) -> None:
        (tmp_path / LINEAGE).write_text(content)
        with pytest.raises(InvalidInput, match="expected an object with parent"):
            lineage.read(tmp_path)
