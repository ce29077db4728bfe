"""`clipserve export --baseline`: what is refused before anything is built, and what is published."""

from __future__ import annotations

import dataclasses
import json
import shutil
from pathlib import Path
from typing import Any

import held_out_clicks
import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from held_out_clicks import TEXTS, row, write, write_pictures

import pictures
from clip_client import ModelSpec
from clip_client.errors import InvalidInput
from clip_client.preprocess import preprocess
from clip_export import cli
from clip_export.baseline import candidates, checks, parent
from clip_export.baseline.models import Model
from clip_export.baseline.parent import Parent
from clip_export.baseline.trial import Sources, Trial
from clip_export.checkpoints.lineage import PICTURES, Lineage
from clip_export.checkpoints.pickles import REFUSED
from clip_export.evaluation.gate import Allowed
from clip_export.evaluation.items import Evaluation


def model(spec: ModelSpec, **fields: Any) -> Model:
    """A model that is never run."""
    return Model(dataclasses.replace(spec, **fields), "", lambda tower: pytest.fail(f"the {tower} tower isn't needed"))


def taught(spec: ModelSpec, tower: Any = "text") -> Lineage:
    return Lineage("tiny", spec.fingerprint, "", "", tower, {})


class TestRefused:
    """Refusals before anything is built."""

    @pytest.fixture
    def clicked(self, tmp_path: Path, spec: ModelSpec) -> Path:
        """Sixty clicks, and vectors of ten pictures."""
        rows = [row(text, [str(n) for n in range(10)], [n % 10]) for n, text in enumerate(TEXTS)]
        vectors = held_out_clicks.pictures(10, spec.embedding_size)
        write_pictures(tmp_path / PICTURES, vectors, spec.fingerprint)
        return write(tmp_path / "clicks.parquet", rows)

    def prepared(
        self, this: Model, parent: Parent, clicks: Path, lineage: Lineage | None = None, pictures: Path | None = None
    ) -> Trial:
        return Trial.prepared(this, parent, lineage, Sources(clicks, pictures, clicks.parent))

    def test_none(self, spec: ModelSpec, clicked: Path) -> None:
        trial = self.prepared(model(spec, weights_sha256="x"), Parent(model(spec), "torch-fp32"), clicked, taught(spec))
        assert (trial.clicks.topics, trial.same_pictures) == (60, True)

    def test_another_family(self, spec: ModelSpec, clicked: Path) -> None:
        with pytest.raises(
            InvalidInput, match=r"--baseline tiny is of the family 'siglip', tiny of 'clip': pass the checkpoint"
        ):
            self.prepared(model(spec), Parent(model(spec, family="siglip"), "torch-fp32"), clicked)

    def test_itself(self, spec: ModelSpec, clicked: Path) -> None:
        with pytest.raises(InvalidInput, match="are the same checkpoint"):
            self.prepared(model(spec), Parent(model(spec), "torch-fp32"), clicked)

    @pytest.mark.parametrize(
        ("fields", "told"),
        [({"image_sha256": "other"}, "the image tower's weights"), ({"interpolation": "box"}, "interpolation")],
    )
    def test_pictures_that_were_promised_to_stay(
        self, fields: dict[str, str], told: str, spec: ModelSpec, clicked: Path
    ) -> None:
        this, parent = model(spec, weights_sha256="x", **fields), Parent(model(spec), "torch-fp32")
        with pytest.raises(InvalidInput, match=f"isn't the one of --baseline tiny, by {told}"):
            self.prepared(this, parent, clicked, taught(spec))
        with pytest.raises(InvalidInput, match=r"has another image tower than the baseline tiny.*pass --click-pictures FOLDER"):
            self.prepared(this, parent, clicked, taught(spec, "both"))

    def test_vectors_of_another_model(self, spec: ModelSpec, clicked: Path) -> None:
        this, parent = model(spec, weights_sha256="x"), Parent(model(spec), "torch-fp32")
        write_pictures(clicked.with_name(PICTURES), held_out_clicks.pictures(10, spec.embedding_size), "0123456789abcdef")
        with pytest.raises(
            InvalidInput, match=f"has vectors of the checkpoint 0123456789abcdef, the baseline is {spec.fingerprint}"
        ):
            self.prepared(this, parent, clicked)
        kept = Parent(model(spec, inherited_space="0123456789abcdef"), "torch-fp32")
        assert self.prepared(this, kept, clicked).stored
        write_pictures(clicked.with_name(PICTURES), held_out_clicks.pictures(10, 8))
        with pytest.raises(InvalidInput, match=f"has vectors of 8 numbers, tiny makes {spec.embedding_size}"):
            self.prepared(this, parent, clicked)

    def test_no_clicks_and_too_few(self, spec: ModelSpec, clicked: Path) -> None:
        this, parent = model(spec, weights_sha256="x"), Parent(model(spec), "torch-fp32")
        with pytest.raises(InvalidInput, match=r"there is no file .*none.parquet"):
            self.prepared(this, parent, clicked.with_name("none.parquet"))
        write(clicked, [row(text.upper() if n else text, ["0", "1"], [0]) for text in TEXTS[:49] for n in range(2)])
        with pytest.raises(InvalidInput, match=r"has 49 different queries that can be judged, 50 are needed.*98 rows read"):
            self.prepared(this, parent, clicked)
        write(clicked, [row(text, ["a", "b"], [0]) for text in TEXTS])
        with pytest.raises(
            InvalidInput, match=r"has 0 different queries.*60 left out: a picture that was chosen has no vector"
        ):
            self.prepared(this, parent, clicked)

    def test_a_general_set_that_tells_nothing(self) -> None:
        none, pixels = np.empty(0, np.int64), np.zeros((60, 1, 1, 3), np.uint8)
        plain = Evaluation("photos", pixels, pixels, np.zeros((60, 1), np.int32), none, none)
        with pytest.raises(InvalidInput, match="--eval photos: --baseline needs pictures with captions or in folders by class"):
            checks.general(plain, Allowed())
        with pytest.raises(
            InvalidInput, match=r"has 60 labelled pictures to judge on, 100 are needed to tell a loss of 1 points"
        ):
            checks.general(dataclasses.replace(plain, owners=np.arange(60)), Allowed())
        checks.general(dataclasses.replace(plain, owners=np.arange(60)), Allowed(lost_points=2))

    @pytest.mark.parametrize(
        ("options", "told"),
        [
            (["--clicks", "a.parquet"], "--clicks is for --baseline PARENT"),
            (["--click-pictures", "photos"], "--click-pictures is for --baseline PARENT"),
            (["--baseline", "parent"], "--baseline needs --eval FOLDER"),
            (["--baseline", "parent", "--image-only", "--eval", "photos"], "--image-only leaves texts out"),
        ],
    )
    def test_half_of_the_options(self, options: list[str], told: str, capsys: pytest.CaptureFixture[str]) -> None:
        assert cli.main(["--model", "mine", *options]) == 2
        assert told in capsys.readouterr().err


class TestParent:
    """Places that a baseline is opened from."""

    def opened(self, name: Path, tokenizer_json: str = "") -> Parent:
        return parent.opened(str(name), "clip", tokenizer_json, REFUSED, name)

    def test_artefacts_and_repositories(self, exported: Path, spec: ModelSpec) -> None:
        for folder in (exported / "artifacts" / "tiny", exported / "model_repository"):
            found = self.opened(folder, (exported / "model_repository/clip_text_tokenize/1/tokenizer.json").read_text())
            assert (found.model.spec, found.reference) == (spec, "onnx-fp32")
            tokens = np.full((2, 8), spec.end_token, np.int32)
            assert found.model.encoder("text")(tokens).shape == (2, spec.embedding_size)

    def test_artefacts_of_another_tokenizer(self, exported: Path) -> None:
        with pytest.raises(InvalidInput, match="was made with another tokenizer than the checkpoint"):
            self.opened(exported / "artifacts" / "tiny", "{}")

    def test_pictures_in_a_folder_are_embedded_and_unreadable_ones_left_out(
        self, exported: Path, general: Path, tmp_path: Path
    ) -> None:
        model = self.opened(exported / "model_repository").model
        (folder := tmp_path / "pictures").mkdir()
        for n in range(20):
            shutil.copy(general / f"{n}.png", folder)
        (folder / "7.png").write_bytes(b"half of one")
        found = candidates.embedded(candidates.files(folder, [f"{n}.png" for n in range(30)]), model)
        assert [*found.positions] == [f"{n}.png" for n in range(20) if n != 7]
        pixels = preprocess((folder / "9.png").read_bytes(), model.spec)
        expected = model.encoder("image")(pixels[None])[0]
        np.testing.assert_allclose(found.embeddings[found.positions["9.png"]], expected, atol=1e-5)

    def test_damaged_artefacts(self, exported: Path, tmp_path: Path) -> None:
        shutil.copytree(exported / "model_repository", tmp_path / "repository")
        weights = tmp_path / "repository" / "clip_text_encoder" / "1" / "model.onnx"
        weights.unlink()
        weights.write_bytes(b"half")
        found = self.opened(tmp_path / "repository")
        with pytest.raises(InvalidInput, match=r"can't be opened \(.*\): pass the checkpoint itself"):
            found.model.encoder("text")

    def test_artefacts_without_float32(self, exported: Path, tmp_path: Path) -> None:
        shutil.copytree(exported / "artifacts" / "tiny" / "torch-fp32", tmp_path / "torch-fp32")
        with pytest.raises(InvalidInput, match="has no onnx-fp32 of the image tower: both models are judged in float32"):
            self.opened(tmp_path)

    def test_a_repository_of_another_variant(self, exported: Path, tmp_path: Path) -> None:
        shutil.copytree(exported / "model_repository", tmp_path / "repository")
        record = tmp_path / "repository" / "clip_text_encoder" / "1" / "report.json"
        record.unlink()
        record.write_text('{"variant": "openvino-int8"}')
        with pytest.raises(InvalidInput, match="has openvino-int8 of the text tower"):
            self.opened(tmp_path / "repository")


@pytest.fixture(scope="module")
def general(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Sixty pictures with captions."""
    folder = tmp_path_factory.mktemp("general")
    for n in range(60):
        (folder / f"{n}.png").write_bytes(pictures.encoded(pictures.picture(40, 40, seed=n), "PNG"))
    names = [f"{n}.png" for n in range(60)]
    pq.write_table(pa.table({"file_name": names, "caption": held_out_clicks.TEXTS}), folder / "captions.parquet")
    return folder


@pytest.fixture(scope="module")
def learned(checkpoint: Path, spec: ModelSpec, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A checkpoint with another text tower than the small one's, and clicks of people who like its order."""
    folder = tmp_path_factory.mktemp("learned") / "learned"
    held_out_clicks.learned(checkpoint, folder, spec.fingerprint, rows={"read": 300, "used": 240}, settings={"seed": 0})
    held_out_clicks.held_out(folder, checkpoint, folder, spec.fingerprint)
    return folder


class TestExport:
    """The command."""

    def export(self, model: Path, where: Path, *options: str | Path) -> int:
        places = ["--artifacts", str(where / "artifacts"), "--repository", str(where / "model_repository")]
        return cli.main(["--model", str(model), *places, "--quick", "--variants", "onnx-fp32", *map(str, options)])

    def refused(self, capsys: pytest.CaptureFixture[str], *arguments: Any) -> str:
        assert self.export(*arguments) == 2
        where = arguments[1]
        assert not (where / "model_repository").exists()
        assert not [*where.glob("artifacts/*/*/")]  # nothing was built
        return capsys.readouterr().err

    @pytest.mark.long
    def test_a_gain_is_published_and_the_report_says_why(
        self, learned: Path, checkpoint: Path, general: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
    ) -> None:
        json_file = tmp_path / "report.json"
        options = ["--baseline", checkpoint, "--eval", general, "--max-loss", "60", "--json", json_file]
        assert self.export(learned, tmp_path, *options) == 0
        assert (tmp_path / "model_repository" / "clip_text").is_dir()
        told = json.loads(json_file.read_text())["baseline"]
        first, *_ = told["figures"]
        assert (first["name"], first["verdict"], first["queries"]) == ("clicks_dcg", "gain", 60)
        assert 0 < first["low"] < first["change"] < first["high"]
        assert told["lineage"]["facts"] == {"rows": {"read": 300, "used": 240}, "settings": {"seed": 0}}
        assert told["notes"][0].startswith(
            "Pictures keep the baseline's vectors: the image tower is the same to the bit, 60 of 60"
        )
        report = (tmp_path / "artifacts" / "learned" / "report.md").read_text()
        assert "## beside the baseline tiny" in report
        assert "**Better than tiny: held-out clicks rise by +" in report
        assert "| held-out clicks: place among those shown, DCG | 60 |" in report
        assert "beside the baseline tiny" in capsys.readouterr().out

    @pytest.mark.long
    def test_with_both_towers_taught_each_model_embeds_the_pictures(
        self, checkpoint: Path, spec: ModelSpec, general: Path, tmp_path: Path
    ) -> None:
        model = held_out_clicks.learned(checkpoint, tmp_path / "learned", spec.fingerprint, "both")
        rows = [row(text, [f"{(n + k) % 60}.png" for k in range(9)], [n % 9]) for n, text in enumerate(TEXTS)]
        clicked = write(tmp_path / "clicks.parquet", rows)
        options = [
            "--baseline",
            checkpoint,
            "--clicks",
            clicked,
            "--click-pictures",
            general,
            "--eval",
            general,
            "--max-loss",
            "60",
        ]
        assert self.export(model, tmp_path, *options) == 3
        report = json.loads((tmp_path / "artifacts" / "learned" / "report.json").read_text())["baseline"]
        assert report["notes"][0] == "Pictures have other vectors than the baseline's: a collection must be embedded anew"
        assert report["clicks"]["judged"] == 60
        assert report["figures"][0]["parent"] != report["figures"][0]["this"]

    def test_clicks_at_random_are_no_gain_and_nothing_is_built(
        self,
        learned: Path,
        checkpoint: Path,
        spec: ModelSpec,
        general: Path,
        tmp_path: Path,
        capsys: pytest.CaptureFixture[str],
    ) -> None:
        clicked = held_out_clicks.held_out(tmp_path / "random", checkpoint, None, spec.fingerprint)
        options = ["--baseline", checkpoint, "--clicks", clicked, "--eval", general, "--max-loss", "60"]
        assert self.export(learned, tmp_path, *options) == 3
        assert "no gain on held-out clicks: " in capsys.readouterr().err
        assert not (tmp_path / "model_repository").exists()
        assert not (tmp_path / "artifacts" / "learned" / "onnx-fp32").exists()
        report = json.loads((tmp_path / "artifacts" / "learned" / "report.json").read_text())
        assert report["published"]["variants"] == {}
        assert "no gain" in (tmp_path / "artifacts" / "learned" / "report.md").read_text()
