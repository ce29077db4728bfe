"""Every variant is a row with figures or a reason, and none is published that isn't good enough."""

from __future__ import annotations

import json
import shutil
import subprocess
import sys
from pathlib import Path

import openvino
import pytest
from amount import ALL, amount
from conftest import FLOATS
from PIL import Image

import pictures
from clip_client import InvalidInput, ModelSpec, bundled
from clip_client.engines.openvino import plugin_properties
from clip_export import cli, hardware
from clip_export.evaluation import items, labelled_pictures
from clip_export.variants import VARIANTS, onnx_fp32, quantization
from clip_export.variants.openvino_int8 import OpenVinoInt8
from clip_export.variants.quantization import Recipe
from clip_export.variants.tensorrt_fp16 import profile_shapes

BUILT = [name for name in VARIANTS if ALL or name not in ("torch-compile", "openvino-int8-merged")]
"""Variants that are built here; one needs a compiler for more than a minute, one has a test of its own."""
WANTED = "all" if ALL else ",".join(BUILT)


def export(checkpoint: Path, folder: Path, *options: str) -> int:
    where = ["--artifacts", str(folder / "artifacts"), "--repository", str(folder / "model_repository")]
    return cli.main(["--model", str(checkpoint), *where, *options])


@pytest.fixture(scope="module")
def photos(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Eighty pictures with two captions each, a third of which will be set aside for calibration."""
    folder = tmp_path_factory.mktemp("photos")
    for n, jpeg in enumerate(pictures.jpegs(80)):
        (folder / f"{n}.jpg").write_bytes(jpeg)
    rows = [{"file": f"{n}.jpg", "captions": [f"picture {n}", f"the number {n}"]} for n in range(80)]
    (folder / "captions.json").write_text(json.dumps(rows))
    return folder


@pytest.fixture(scope="module")
def everything(checkpoint: Path, exported: Path, photos: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The small checkpoint in all variants, with ``report.json`` beside the folders; two were built for all tests."""
    folder = tmp_path_factory.mktemp("everything")
    shutil.copytree(exported / "artifacts", folder / "artifacts")
    report = ["--json", str(folder / "report.json")]
    assert export(checkpoint, folder, "--variants", WANTED, "--eval", str(photos), "--max-loss", "20", *report) == 0
    return folder


@pytest.fixture(scope="module")
def report(everything: Path) -> dict:
    return json.loads((everything / "report.json").read_text())


@pytest.fixture
def own(everything: Path, tmp_path: Path) -> Path:
    """A copy, to be changed."""
    return Path(shutil.copytree(everything, tmp_path / "own"))


def test_every_variant_has_figures_or_a_reason(report: dict) -> None:
    assert [(row["tower"], row["variant"]) for row in report["variants"]] == [
        (tower, variant) for tower in ("image", "text") for variant in BUILT
    ]
    missing = {(row["tower"], row["variant"]): row["missing"] for row in report["variants"] if "missing" in row}
    unable = {name: reason for name in BUILT if (reason := VARIANTS[name].obstacle())}
    expected = {(tower, name): reason for tower in ("image", "text") for name, reason in unable.items()}
    if "openvino-int8-merged" in BUILT:
        expected |= {("text", "openvino-int8-merged"): "tokens are joined in image towers only"}
    assert missing == expected
    for row in report["variants"]:
        assert row.get("missing") or set(row["speed"]["latency_ms"]) == {"1", "8", "32"}
        assert row.get("missing") or row["speed"]["load_s"] > 0


def test_tensorrt_says_what_it_lacks(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(hardware, "gpu", lambda: "")
    assert VARIANTS["tensorrt-fp16"].obstacle() == "no NVIDIA GPU here: run the export where one is"


def test_float_variants_keep_close_to_torch(report: dict) -> None:
    rows = {(row["tower"], row["variant"]): row for row in report["variants"] if "missing" not in row}
    for (_, variant), row in rows.items():
        assert row["cosine_min"] >= VARIANTS[variant].limits.cosine_min
        assert row["invariance"]["batch"] >= VARIANTS[variant].limits.invariance
    assert rows["image", "torch-fp32"]["lost"] == dict.fromkeys(rows["image", "torch-fp32"]["lost"], 0)
    assert rows["image", "onnx-fp32"]["agreement"] >= 0.99


def test_what_is_published_is_the_fastest_that_passes(report: dict) -> None:
    for tower in ("image", "text"):
        rows = [row for row in report["variants"] if row["tower"] == tower and "missing" not in row]
        served = [row for row in rows if VARIANTS[row["variant"]].backend and not row["failures"]]
        fastest = min(served, key=lambda row: row["speed"]["latency_ms"]["1"])
        assert [row["variant"] for row in rows if row["published"]] == [fastest["variant"]]
        assert report["published"]["variants"][tower] == fastest["variant"]


def test_the_smallest_may_be_wanted(checkpoint: Path, own: Path, photos: Path) -> None:
    options = ["--variants", WANTED, "--eval", str(photos), "--max-loss", "20", "--for", "size"]
    assert export(checkpoint, own, *options, "--json", str(own / "report.json")) == 0
    report = json.loads((own / "report.json").read_text())
    sizes = {
        row["size_bytes"]: row["variant"] for row in report["variants"] if row.get("size_bytes") and row["tower"] == "image"
    }
    assert report["published"]["variants"]["image"] == sizes[min(sizes)]


def test_the_report_is_there_for_people(everything: Path) -> None:
    folder = everything / "artifacts" / "tiny"
    text = (folder / "report.md").read_text()
    assert all(f"| {variant} |" in text for variant in BUILT)
    assert "int8 calibrated on the training part of" in text
    for plot in ("speed-against-loss.png", "latency-by-batch.png"):
        assert f"({plot})" in text
        assert Image.open(folder / plot).size == (1430, 550)


def test_what_is_built_can_be_listed(everything: Path, capsys: pytest.CaptureFixture[str], report: dict) -> None:
    where = ["--artifacts", str(everything / "artifacts"), "--repository", str(everything / "model_repository")]
    assert cli.main(["--list", *where]) == 0
    lines = [line.split() for line in capsys.readouterr().out.splitlines() if line.strip().startswith("tiny")]
    assert [line[2] for line in lines] == [row["variant"] for row in report["variants"]]
    assert [line[2] for line in lines if line[-1] == "clip"] == list(report["published"]["variants"].values())


def test_nothing_is_listed_where_nothing_was_built(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert cli.main(["--list", "--artifacts", str(tmp_path)]) == 0
    assert "nothing was built" in capsys.readouterr().out


def test_precision_is_said_outright(everything: Path) -> None:
    expected = {"openvino-fp16": "f32", "openvino-int8": "f32"}
    if hardware.has_bf16():  # else openvino-bf16 isn't built
        expected |= {"openvino-int8": "bf16", "openvino-bf16": "bf16"}
    for name, precision in expected.items():
        path = everything / "artifacts" / "tiny" / name / "image" / "model.xml"
        model = openvino.Core().compile_model(path, "CPU", plugin_properties(VARIANTS[name].parameters))
        assert model.get_property("INFERENCE_PRECISION_HINT").to_string() == precision, name


def test_int8_tables_are_looked_up_before_they_become_floats(everything: Path) -> None:
    model = openvino.Core().read_model(everything / "artifacts" / "tiny" / "openvino-int8" / "text" / "model.xml")
    tables = [node.input_value(0) for node in model.get_ordered_ops() if node.get_type_name() == "Gather"]
    assert openvino.Type.i8 in {table.get_element_type() for table in tables}
    assert "Multiply" not in {table.get_node().get_type_name() for table in tables}


def test_the_published_config_says_it_too(checkpoint: Path, own: Path, photos: Path) -> None:
    chosen = ["--image-variant", "openvino-int8", "--text-variant", "openvino-fp16"]
    assert export(checkpoint, own, "--eval", str(photos), "--variants", WANTED, "--max-loss", "20", *chosen, "--force") == 0
    text = (own / "model_repository" / "clip_text_encoder" / "config.pbtxt").read_text()
    assert 'key: "INFERENCE_PRECISION_HINT"\n  value {\n    string_value: "f32"' in text


def test_a_measured_variant_is_not_for_publishing(checkpoint: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert export(checkpoint, tmp_path, "--image-variant", "torch-compile") == cli.BAD_INPUT
    assert "torch-compile is only measured" in capsys.readouterr().err


def test_a_variant_that_cannot_be_had_is_not_published(
    checkpoint: Path, own: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr(hardware, "gpu", lambda: "")
    assert export(checkpoint, own, *FLOATS, "--image-variant", "tensorrt-fp16") == cli.REFUSED
    assert "the image tower isn't published: tensorrt-fp16: no NVIDIA GPU here" in capsys.readouterr().err


@pytest.mark.long
def test_int8_goes_through_its_recipes(
    checkpoint: Path, exported: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    recipes = quantization.RECIPES[: amount(2, len(quantization.RECIPES))]
    monkeypatch.setattr(OpenVinoInt8, "recipes", recipes)
    shutil.copytree(exported / "artifacts", tmp_path / "artifacts")
    options = ["--variants", "openvino-int8", "--text-variant", "openvino-int8", "--min-cosine", "1.1"]
    assert export(checkpoint, tmp_path, *options) == cli.REFUSED
    report = json.loads((tmp_path / "artifacts" / "tiny" / "report.json").read_text())
    row = next(row for row in report["variants"] if row["variant"] == "openvino-int8" and row["tower"] == "text")
    assert [one["recipe"] for one in row["tries"]] == [recipe.name for recipe in recipes]
    assert all("below 1.1" in one["failures"][-1] for one in row["tries"])
    assert "SmoothQuant 0.95: cosine_mean" in capsys.readouterr().out
    assert export(checkpoint, tmp_path, *options[:-2]) == 0  # the best of them was kept, and is good enough now
    assert "building" not in capsys.readouterr().err


class TestRecipes:
    """Nodes that stay in float."""

    NAMES = (
        "patch_embedding/Conv_1",
        *(f"encoder.layers.{n}.{part}/MatMul_{n}" for n in range(12) for part in ("self_attn.q_proj", "mlp.fc1")),
        "head.blocks.0.fc/MatMul_9",
        "visual_projection/MatMul_5",
    )

    def test_all_is_quantised_by_default(self) -> None:
        assert quantization.kept_in_float(self.NAMES, Recipe("bold", 0.95)) == []

    def test_edges(self) -> None:
        kept = quantization.kept_in_float(self.NAMES, Recipe("careful", 0.6, edges=False))
        assert {name.split("/")[0] for name in kept} == {
            "patch_embedding",
            *(f"encoder.layers.{n}.{part}" for n in (0, 11) for part in ("self_attn.q_proj", "mlp.fc1")),
            "head.blocks.0.fc",
            "visual_projection",
        }

    def test_attention(self) -> None:
        kept = quantization.kept_in_float(self.NAMES, Recipe("timid", 0.6, edges=False, attention=False))
        left = [name.split("/")[0] for name in self.NAMES if name not in kept]
        assert left == [f"encoder.layers.{n}.mlp.fc1" for n in range(1, 11)]

    def test_real_nodes_are_called_after_their_modules(self, exported: Path) -> None:
        import onnx

        model = onnx.load(exported / "artifacts" / "tiny" / "onnx-fp32" / "image" / "model.onnx", load_external_data=False)
        names = [node.name for node in model.graph.node]
        assert len(set(names)) == len(names)
        kept = quantization.kept_in_float(names, Recipe("timid", 0.6, edges=False, attention=False))
        assert any("layers.0.mlp" in name for name in kept)
        assert any("self_attn" in name for name in kept)


class TestCalibration:
    """``--calibration`` and its defaults."""

    def calibrated(self, folder: Path | None, calibration: Path | None, spec: ModelSpec, tokenizer: str) -> str:
        inputs = items.Inputs(spec, tokenizer)
        return items.load(folder, calibration, bundled.PICTURES, inputs)[1].source

    @pytest.fixture
    def tokenizer(self, checkpoint: Path) -> str:
        return (checkpoint / "tokenizer.json").read_text()

    def test_a_part_of_a_large_folder(self, photos: Path, spec: ModelSpec, tokenizer: str) -> None:
        judged, calibration = items.load(photos, None, None, items.Inputs(spec, tokenizer))
        assert (len(judged.pixels), len(judged.tokens), len(calibration.pixels)) == (54, 108, 26)
        assert not {one.tobytes() for one in judged.pixels} & {one.tobytes() for one in calibration.pixels}
        assert calibration.source == f"the training part of {photos}"

    def test_the_folder_train(self, photos: Path, tmp_path: Path, spec: ModelSpec, tokenizer: str) -> None:
        for part, numbers in (("train", range(20)), ("test", range(20, 25))):
            for n in numbers:
                (tmp_path / part / "cat").mkdir(parents=True, exist_ok=True)
                shutil.copy(photos / f"{n}.jpg", tmp_path / part / "cat")
        judged, calibration = items.load(tmp_path, None, None, items.Inputs(spec, tokenizer))
        assert (len(judged.pixels), len(calibration.pixels)) == (5, 20)

    def test_a_small_folder_is_judged_whole(self, tmp_path: Path, spec: ModelSpec, tokenizer: str) -> None:
        for n, jpeg in enumerate(pictures.jpegs(3)):
            (tmp_path / f"{n}.jpg").write_bytes(jpeg)
        assert self.calibrated(tmp_path, None, spec, tokenizer) == "the bundled pictures"

    @pytest.mark.parametrize(
        ("files", "message"),
        [
            ({}, "no picture that can be read (0 skipped)"),
            ({f"{n}.jpg": b"broken" for n in range(20)}, "no picture that can be read (20 skipped, the first: 0.jpg"),
            ({"a.jpg": pictures.jpegs(1)[0], "b.jpg": b"broken"}, "has 1 picture that can be read (1 skipped), at least 16"),
        ],
        ids=["empty", "corrupt", "too small"],
    )
    def test_a_folder_of_no_use(
        self, files: dict, message: str, checkpoint: Path, own: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
    ) -> None:
        folder = tmp_path / "useless"
        folder.mkdir()
        for name, content in files.items():
            (folder / name).write_bytes(content)
        assert export(checkpoint, own, "--calibration", str(folder)) == cli.BAD_INPUT
        assert message in capsys.readouterr().err


@pytest.mark.long
def test_weights_may_lie_beside_the_graph(checkpoint: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(onnx_fp32, "LARGEST_FILE_BYTES", 1000)
    variants = [
        "--variants",
        "onnx-fp16,onnx-int8,openvino-fp16",
        "--image-variant",
        "onnx-int8",
        "--text-variant",
        "onnx-fp16",
    ]
    assert export(checkpoint, tmp_path, *variants) == 0
    for encoder in ("clip_image_encoder", "clip_text_encoder"):
        files = {path.name for path in (tmp_path / "model_repository" / encoder / "1").iterdir()}
        assert files == {"model.onnx", "model.onnx.data", "spec.json", "report.json"}


@pytest.mark.long
def test_a_full_disk_leaves_nothing_half_published(checkpoint: Path, tmp_path: Path) -> None:
    where = ["--artifacts", str(tmp_path / "artifacts"), "--repository", str(tmp_path / "model_repository")]
    command = [sys.executable, "-m", "clip_export.cli", "--quick", "--model", str(checkpoint), *where, *FLOATS]
    limited = ["bash", "-c", 'ulimit -f 200; exec "$@"', "bash", *command]
    ended = subprocess.run(limited, capture_output=True, text=True, timeout=240)
    assert ended.returncode == cli.BAD_INPUT, ended.stderr
    assert "File too large" in ended.stderr
    assert not (tmp_path / "model_repository").exists()
    assert export(checkpoint, tmp_path, "--quick", *FLOATS) == 0


def test_engines_are_built_for_what_a_server_sends(spec: ModelSpec) -> None:
    side = (spec.image_size, spec.image_size, 3)
    assert profile_shapes("image", spec) == ((1, *side), (8, *side), (32, *side))
    assert profile_shapes("text", spec) == ((1, 1), (8, 16), (32, spec.context_length))


def test_an_unknown_word_for_variants(checkpoint: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert export(checkpoint, tmp_path, "--variants", "al") == cli.BAD_INPUT
    assert "no variant 'al', expected one of: all, " in capsys.readouterr().err


def test_an_unreadable_folder_to_judge_on(checkpoint: Path, tmp_path: Path) -> None:
    with pytest.raises(InvalidInput, match=r"no folder .*nowhere: expected a folder of pictures"):
        labelled_pictures.read(tmp_path / "nowhere")
