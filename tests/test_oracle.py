"""An export compares its own steps with the checkpoint's library, and publishes nothing where they differ."""

from __future__ import annotations

import json
import shutil
from collections.abc import Callable
from functools import partial
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import checkpoints
import numpy as np
import open_clips
import other_checkpoints
import pytest
from conftest import FLOATS
from test_checkpoint import edit
from test_families import KINDS, NAMES

import pictures
from clip_client import ModelSpec, preprocess, tokens
from clip_export import cli, families
from clip_export.artifact_files import LIBRARY_RECORD
from clip_export.builds.judge import Artifacts
from clip_export.checkpoints import image_processor
from clip_export.checkpoints.find import find
from clip_export.families import clip as clip_family
from clip_export.libraries.hugging_face import Transformers
from clip_export.libraries.sentence_transformers import SentenceTransformers
from clip_export.options import parsed
from clip_export.oracle import comparison, record
from clip_export.oracle import items as oracle_items
from clip_export.oracle.comparison import Compared
from clip_export.towers import image_tower, text_towers, unit_length

SMALL = {
    "vision": {"patch_size": 16, "image_size": 64, "num_hidden_layers": 1},
    "processor": {"size": {"shortest_edge": 64}, "crop_size": {"height": 64, "width": 64}},
}


@pytest.fixture(scope="module")
def small(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A CLIP checkpoint of small pictures."""
    return checkpoints.make(tmp_path_factory.mktemp("oracle") / "small", **SMALL)


def compared(arguments: list[str], folder: Path) -> dict[str, Compared]:
    """Return the oracle's verdict on a checkpoint, without the rest of an export."""
    options = parsed(arguments)
    found = find(options.model, options.revision, options.text_model)
    family = families.of(found)
    spec = family.spec(found, "clip")
    folder.mkdir(parents=True, exist_ok=True)
    artifacts = Artifacts(folder, spec, partial(family.towers, found, spec), print)
    return record.compared(found, family, artifacts, options.eval)


def export(model: Path, folder: Path, *options: str) -> int:
    where = ["--artifacts", str(folder / "artifacts"), "--repository", str(folder / "repository")]
    return cli.main(["--model", str(model), *where, *FLOATS, *options])


@pytest.mark.parametrize("name", NAMES)
def test_every_kind_of_checkpoint_is_that_of_its_library(name: str, tmp_path: Path) -> None:
    open_clips.library()
    for tower, one in compared(KINDS[name][0](tmp_path / name), tmp_path / "artifacts").items():
        assert (tower, one.missing, one.differences, one.notes) == (tower, "", (), ())
        assert one.cosine_min > 0.99999
        assert one.items >= 12


@pytest.mark.parametrize("change", [{"return_dict": False}, {"attn_implementation": "flash_attention_2"}])
def test_settings_of_somebodys_training_machine_hinder_no_comparison(
    change: dict[str, Any], small: Path, tmp_path: Path
) -> None:
    folder = Path(shutil.copytree(small, tmp_path / "copy"))
    edit(folder / "config.json", **change)
    for one in compared(["--model", str(folder)], tmp_path / "artifacts").values():
        assert (one.missing, one.differences) == ("", ())


def test_a_context_that_is_padded_at_the_start(tmp_path: Path) -> None:
    folder = other_checkpoints.siglip(tmp_path / "siglip")
    edit(folder / "tokenizer_config.json", padding_side="left")
    text = compared(["--model", str(folder)], tmp_path / "artifacts")["text"]
    assert (text.missing, text.differences, text.notes) == ("", (), ())


def end_token_off_by_one(patch: pytest.MonkeyPatch) -> None:
    real = tokens.Tokenizer.__call__

    def broken(self: Any, texts: Any) -> Any:
        rows, errors = real(self, texts)
        return np.where(rows == self._spec.end_token, self._spec.end_token - 1, rows), errors

    patch.setattr(tokens.Tokenizer, "__call__", broken)


def pad_in_the_wrong_place(patch: pytest.MonkeyPatch) -> None:
    real = tokens.Tokenizer.__call__

    def broken(self: Any, texts: Any) -> Any:
        rows, errors = real(self, texts)
        padded = np.full((len(rows), self._spec.context_length), self._spec.pad_token, np.int32)
        ends = (rows == self._spec.end_token).argmax(axis=1) + 1
        for into, row, end in zip(padded, rows, ends, strict=True):
            into[-end:] = row[:end]
        return padded, errors

    patch.setattr(tokens.Tokenizer, "__call__", broken)


def truncation_that_drops_the_end(patch: pytest.MonkeyPatch) -> None:
    real = tokens.Tokenizer.__call__

    def broken(self: Any, texts: Any) -> Any:
        rows, errors = real(self, texts)
        rows[:, -1] = np.where(rows.shape[1] == self._spec.context_length, 320, rows[:, -1])
        return rows, errors

    patch.setattr(tokens.Tokenizer, "__call__", broken)


def crop_off_by_one(patch: pytest.MonkeyPatch) -> None:
    real = preprocess._corner
    patch.setattr(preprocess, "_corner", lambda edge, spec: real(edge, spec) + 1)


def another_filter(patch: pytest.MonkeyPatch) -> None:
    patch.setattr(preprocess, "_resampling", lambda spec: preprocess.Image.Resampling.BOX)


def orientation_ignored(patch: pytest.MonkeyPatch) -> None:
    patch.setattr(preprocess, "ImageOps", SimpleNamespace(exif_transpose=lambda image, *, in_place: None))


def means_swapped(patch: pytest.MonkeyPatch) -> None:
    real = image_processor.image_fields

    def broken(*arguments: Any) -> dict[str, Any]:
        fields = real(*arguments)
        return {**fields, "mean": (0.9, 0.4, 0.1)}

    patch.setattr(image_processor, "image_fields", broken)


def means_swapped_in_the_graph(patch: pytest.MonkeyPatch) -> None:
    real = image_tower.ImageTower.__init__

    def broken(self: Any, *arguments: Any) -> None:
        real(self, *arguments)
        self.shift = self.shift * 2

    patch.setattr(image_tower.ImageTower, "__init__", broken)


def pooled_elsewhere(patch: pytest.MonkeyPatch) -> None:
    patch.setattr(clip_family, "at_end", lambda hidden, is_end: hidden[:, 1])


def scale(patch: pytest.MonkeyPatch, factor: float) -> None:
    for module in (image_tower, text_towers):
        patch.setattr(module, "unit", lambda embedding, good: factor * unit_length.unit(embedding, good))


def not_of_unit_length(patch: pytest.MonkeyPatch) -> None:
    scale(patch, 1.01)


def not_a_number(patch: pytest.MonkeyPatch) -> None:
    scale(patch, float("nan"))


FAULTS: dict[Callable[[pytest.MonkeyPatch], None], tuple[str, str, str]] = {
    end_token_off_by_one: ("text", "one word: tokens", "ours from position 2"),
    pad_in_the_wrong_place: ("text", "one word: tokens", "ours from position 0"),
    truncation_that_drops_the_end: ("text", "a text far beyond the context: tokens", "ours from position"),
    crop_off_by_one: ("image", "a JPEG: pixels", "of 255"),
    another_filter: ("image", "a JPEG: pixels", "of 255"),
    orientation_ignored: ("image", "a JPEG of orientation 2: pixels", "of 255"),
    means_swapped: ("image", "a JPEG: pixels", "of 255"),
    means_swapped_in_the_graph: ("image", "a JPEG: tower", "cosine"),
    pooled_elsewhere: ("text", "one word: tower", "cosine"),
    not_of_unit_length: ("text", "one word: tower", "length 1.01, expected 1"),
    not_a_number: ("image", "a JPEG: tower", "length nan, expected 1"),
}


@pytest.mark.parametrize("fault", FAULTS, ids=lambda fault: fault.__name__)
def test_a_fault_of_ours_is_refused_by_its_step(
    fault: Callable[[pytest.MonkeyPatch], None],
    small: Path,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    fault(monkeypatch)
    tower, named, reason = FAULTS[fault]
    assert export(small, tmp_path, "--json", str(tmp_path / "report.json"), "--force") == cli.REFUSED
    assert f"the {tower} tower differs from transformers 5" in (printed := capsys.readouterr().err)
    differences = json.loads((tmp_path / "report.json").read_text())["library"][tower]["differences"]
    told = [f"{one['item']}: {one['step']} ({one['reason']})" for one in differences]
    assert any(line.startswith(named) and reason in line for line in told)
    assert told[0] in printed
    assert not (tmp_path / "repository").exists()


@pytest.fixture(scope="module")
def built(small: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder that the small checkpoint was exported to."""
    folder = tmp_path_factory.mktemp("built")
    assert export(small, folder) == 0
    return folder


@pytest.fixture
def own(built: Path, tmp_path: Path) -> Path:
    """A copy, to export to again."""
    return Path(shutil.copytree(built, tmp_path / "own"))


@pytest.mark.long
def test_a_fault_is_noticed_after_a_good_export_too(
    small: Path, own: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    end_token_off_by_one(monkeypatch)
    assert export(small, own) == cli.REFUSED
    assert "tokens" in capsys.readouterr().err


def test_the_report_has_a_row_of_the_library(small: Path, own: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert export(small, own, "--json", str(own / "report.json")) == 0
    rows = [line.split() for line in capsys.readouterr().out.splitlines() if line.split()[:1] == ["library"]]
    assert [row[:3] for row in rows].count(["library", "1.00000", "1.00000"]) == 2
    assert sum("transformers" in row for row in rows) == 2
    assert (own / "artifacts" / "small" / "report.md").read_text().count("| library | 1.00000 | 1.00000 |") == 2
    library = json.loads((own / "report.json").read_text())["library"]
    assert {tower: one["items"] for tower, one in library.items()} == {"image": 23, "text": 14}


def test_pictures_and_captions_of_the_evaluation_are_compared_too(small: Path, tmp_path: Path) -> None:
    folder = tmp_path / "photos"
    folder.mkdir()
    for n, jpeg in enumerate(pictures.jpegs(20)):
        (folder / f"{n:02}.jpg").write_bytes(jpeg)
    captions = [{"file": f"{n:02}.jpg", "captions": [f"picture {n}", "another"]} for n in range(20)]
    (folder / "captions.json").write_text(json.dumps(captions))
    (folder / "00.jpg").write_bytes(b"broken")
    found = compared(["--model", str(small), "--eval", str(folder)], tmp_path / "artifacts")
    assert {tower: one.items for tower, one in found.items()} == {"image": 23 + 15, "text": 14 + 16}


class TestAgain:
    """A comparison isn't repeated until something changes."""

    @pytest.fixture
    def own(self, small: Path, tmp_path: Path) -> Path:
        folder = Path(shutil.copytree(small, tmp_path / "own"))
        self.ask(folder, tmp_path)
        return folder

    def ask(self, model: Path, tmp_path: Path) -> dict[str, Compared]:
        return compared(["--model", str(model)], tmp_path / "artifacts")

    def test_nothing_has_changed(self, own: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
        monkeypatch.setattr(comparison, "compare", lambda *_: pytest.fail("it was compared before"))
        assert self.ask(own, tmp_path)["image"].items == 23

    @pytest.mark.parametrize("content", ["", "{", "[]", '{"key": "x"}'])
    def test_a_damaged_record_is_made_anew(self, content: str, own: Path, tmp_path: Path) -> None:
        (tmp_path / "artifacts" / LIBRARY_RECORD).write_text(content)
        assert self.ask(own, tmp_path)["image"].items == 23

    def test_a_setting_that_only_the_library_reads(self, own: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
        settings = json.loads((own / "tokenizer_config.json").read_text())
        (own / "tokenizer_config.json").write_text(json.dumps({**settings, "clean_up_tokenization_spaces": True}))
        monkeypatch.setattr(comparison, "compare", lambda *_: {tower: Compared(missing="asked") for tower in ("image", "text")})
        assert self.ask(own, tmp_path)["text"].missing == "asked"

    def test_another_version_of_the_library(self, own: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
        monkeypatch.setattr(Transformers, "title", "transformers 9")
        assert self.ask(own, tmp_path)["text"].library == "transformers 9"


class TestWithoutItsLibrary:
    """The report says so, and why."""

    @pytest.fixture
    def pair(self, small: Path, tmp_path: Path) -> list[str]:
        return ["--text-model", str(other_checkpoints.sentence_transformer(tmp_path / "text"))]

    @pytest.mark.long
    def test_not_installed(
        self,
        pair: list[str],
        small: Path,
        tmp_path: Path,
        monkeypatch: pytest.MonkeyPatch,
        capsys: pytest.CaptureFixture[str],
    ) -> None:
        monkeypatch.setattr(SentenceTransformers, "distribution", "no-such-library")
        assert export(small, tmp_path, *pair, "--json", str(tmp_path / "report.json")) == 0
        told = "not compared with its own library: no-such-library isn't installed: pip install no-such-library"
        assert told in " ".join(capsys.readouterr().out.split())  # the table's last column is folded
        assert told in (tmp_path / "artifacts" / "small+text" / "report.md").read_text()
        library = json.loads((tmp_path / "report.json").read_text())["library"]
        assert (library["image"]["missing"], "isn't installed" in library["text"]["missing"]) == ("", True)

    def test_it_cannot_be_run(self, pair: list[str], small: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
        monkeypatch.setattr(SentenceTransformers, "texts", lambda *_: [][0])
        found = compared(["--model", str(small), *pair], tmp_path / "artifacts")
        assert found["image"].missing == ""
        assert "sentence-transformers 6" in found["text"].missing
        assert "can't be run on it: IndexError" in found["text"].missing

    def test_an_item_that_it_refuses_is_told(self, small: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
        real = Transformers.texts

        def picky(self: Transformers, texts: list[str]) -> Any:
            return real(self, texts) if "" not in texts else [][0]

        monkeypatch.setattr(Transformers, "texts", picky)
        found = compared(["--model", str(small)], tmp_path / "artifacts")
        assert (found["text"].items, found["text"].differences) == (13, ())
        assert "an empty text: transformers" in found["text"].notes[0]
        assert "not compared (IndexError" in found["text"].notes[0]


def test_texts_lie_around_the_end_of_the_context(small: Path, spec: ModelSpec) -> None:
    content = (small / "tokenizer.json").read_text()
    items = oracle_items.collect(None, spec, content)
    counted = {name: len(text.split()) for name, text in items.texts.items()}
    assert counted["a text that fills the context"] == spec.context_length - 2
    assert counted["a text one word too long"] == spec.context_length - 1
    assert "the added token <|startoftext|>" in items.texts


def test_inputs_that_differ_without_effect_are_told_and_published(
    small: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    real = comparison.tokens_differ
    monkeypatch.setattr(comparison, "tokens_differ", lambda *arguments: real(*arguments) or "another")
    found = compared(["--model", str(small)], tmp_path / "artifacts")
    assert found["text"].differences == ()
    assert found["text"].notes[0].startswith("an empty text: tokens differ (another), at cosine 1.0000")
