"""An export builds once, judges honestly, and publishes all or nothing."""

from __future__ import annotations

import json
import re
import shutil
import sys
import time
from pathlib import Path

import numpy as np
import onnx
import onnxruntime
import openvino
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from conftest import FLOATS, NOTICE
from filelock import FileLock
from servers import running

import pictures
from clip_client import Clip, ModelSpec, bundled, engines, model_exchange
from clip_client.preprocess import preprocess, void_pixels
from clip_client.tokens import void_token
from clip_export import cli
from clip_export.builds import build_key
from clip_export.publish import publish
from clip_export.variants import VARIANTS
from clip_export.variants.base import Artefact, Encoder

MODELS = [f"clip_{model}" for tower in ("image", "text") for model in (tower, f"{tower}_encoder")]


@pytest.fixture
def own(exported: Path, tmp_path: Path) -> Path:
    """A copy of what was exported, to be changed."""
    return Path(shutil.copytree(exported, tmp_path / "own"))


def export(checkpoint: Path, folder: Path, *options: str) -> int:
    where = ["--artifacts", str(folder / "artifacts"), "--repository", str(folder / "model_repository")]
    return cli.main(["--model", str(checkpoint), *where, *FLOATS, *options])


def quick(checkpoint: Path, folder: Path, variants: str) -> int:
    where = ["--artifacts", str(folder / "artifacts"), "--repository", str(folder / "model_repository")]
    return cli.main(["--model", str(checkpoint), *where, "--quick", "--variants", variants])


def load(variant: str, folder: Path) -> Encoder:
    return VARIANTS[variant].load(Artefact(folder, folder.name, lambda: pytest.fail("no torch is needed")))


def ruin(folder: Path) -> None:
    """Add noise to the text tower's ONNX file, and forget that it was judged."""
    tower = folder / "artifacts" / "tiny" / "onnx-fp32" / "text"
    model = onnx.load(tower / "model.onnx")
    weights = max(model.graph.initializer, key=lambda tensor: np.prod(tensor.dims))
    noisy = onnx.numpy_helper.to_array(weights) + np.random.default_rng(0).normal(0, 0.02, tuple(weights.dims))
    weights.CopyFrom(onnx.numpy_helper.from_array(noisy.astype(np.float32), weights.name))
    (tower / "model.onnx").unlink()  # the repository's copy is a link to it
    onnx.save(model, tower / "model.onnx")
    report = json.loads((tower / "report.json").read_text())
    del report["evaluation"]
    (tower / "report.json").write_text(json.dumps(report))


def snapshot(repository: Path) -> dict[str, bytes]:
    return {str(path.relative_to(repository)): path.read_bytes() for path in repository.rglob("*") if path.is_file()}


def test_six_models_are_published(repository: Path) -> None:
    expected = {*MODELS, "clip_image_preprocess", "clip_text_tokenize"}
    assert {path.name for path in repository.iterdir()} == expected
    assert all((repository / model / "config.pbtxt").is_file() for model in expected)
    assert all(ModelSpec.load(repository / model / "1" / "spec.json").name == "clip" for model in expected)


def test_a_spec_and_a_report_lie_beside_every_artefact(exported: Path, spec: ModelSpec) -> None:
    for variant in ("onnx-fp32", "openvino-fp16"):
        for tower in ("image", "text"):
            folder = exported / "artifacts" / "tiny" / variant / tower
            assert ModelSpec.load(folder / "spec.json") == spec
            assert json.loads((folder / "report.json").read_text())["variant"] == variant


def test_fast_preprocessing_is_judged_told_and_served(checkpoint: Path, own: Path, spec: ModelSpec, tmp_path: Path) -> None:
    for n in range(8):
        folder = tmp_path / "photos" / "ab"[n % 2]
        folder.mkdir(parents=True, exist_ok=True)
        (folder / f"{n}.jpg").write_bytes(pictures.encoded(pictures.picture(900, 700, seed=n)))
    options = ["--eval", str(tmp_path / "photos"), "--json", str(tmp_path / "report.json"), "--force"]
    assert export(checkpoint, own, *options, "--preprocessing", "fast") == 0
    assert json.loads((tmp_path / "report.json").read_text())["published"]["preprocessing"] == "fast"
    assert "fast preprocessing: cosine " in (own / "artifacts" / "tiny" / "report.md").read_text()
    photo = (tmp_path / "photos" / "a" / "0.jpg").read_bytes()
    encode = load("onnx-fp32", own / "artifacts" / "tiny" / "onnx-fp32" / "image")
    exact, fast = (encode(preprocess(photo, spec, preprocessing=how)[None])[0] for how in ("exact", "fast"))
    with running(own / "model_repository") as server, Clip(server.address) as clip:
        served = clip.embed_image(photo)
    assert np.abs(served - fast).max() < np.abs(served - exact).max() / 10


def test_the_onnx_graph_keeps_the_contract(exported: Path, spec: ModelSpec) -> None:
    model = onnx.load(exported / "artifacts" / "tiny" / "onnx-fp32" / "text" / "model.onnx")
    onnx.checker.check_model(model)
    assert next(entry.version for entry in model.opset_import if entry.domain == "") >= 17
    (tokens,), (embedding,) = model.graph.input, model.graph.output
    assert (tokens.name, tokens.type.tensor_type.elem_type) == ("tokens", onnx.TensorProto.INT32)
    assert [bool(dim.dim_param) for dim in tokens.type.tensor_type.shape.dim] == [True, True]
    assert (embedding.name, embedding.type.tensor_type.elem_type) == ("embedding", onnx.TensorProto.FLOAT)
    assert embedding.type.tensor_type.shape.dim[1].dim_value == spec.embedding_size


@pytest.mark.parametrize("variant", ["onnx-fp32", "openvino-fp16"])
def test_void_rows_are_zeros_and_leave_their_neighbours_alone(variant: str, exported: Path, spec: ModelSpec) -> None:
    folder = exported / "artifacts" / "tiny" / variant
    pixels = np.random.default_rng(0).integers(0, 256, (3, spec.image_size, spec.image_size, 3), np.uint8)
    pixels[1], black = void_pixels(spec.image_size), np.zeros_like(pixels[:1])
    tokens = np.full((3, 16), spec.end_token, np.int32)
    tokens[1] = void_token(spec)
    for tower, batch in (("image", pixels), ("text", tokens)):
        encode = load(variant, folder / tower)
        embeddings, alone = encode(batch), encode(batch[[0]])
        assert not embeddings[1].any()
        np.testing.assert_allclose(np.linalg.norm(embeddings[[0, 2]], axis=1), 1, atol=1e-3)
        np.testing.assert_allclose(embeddings[0], alone[0], atol=2e-2)
    assert load(variant, folder / "image")(black).any()


def test_openvino_outputs_are_named(exported: Path) -> None:
    model = openvino.Core().read_model(exported / "artifacts" / "tiny" / "openvino-fp16" / "image" / "model.xml")
    assert (model.inputs[0].get_any_name(), model.outputs[0].get_any_name()) == ("pixels", "embedding")
    weights = [op for op in model.get_ops() if op.get_type_name() == "Constant" and op.get_element_type() == openvino.Type.f16]
    assert len(weights) > 10


def test_a_second_run_builds_nothing(checkpoint: Path, own: Path, capsys: pytest.CaptureFixture[str]) -> None:
    before = snapshot(own / "model_repository")
    start = time.monotonic()
    assert export(checkpoint, own) == 0
    assert time.monotonic() - start < 10
    assert "building" not in capsys.readouterr().err
    assert snapshot(own / "model_repository") == before


def test_a_quick_export_publishes_the_first_that_passes_and_times_nothing(
    checkpoint: Path, own: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    (own / "artifacts" / "tiny" / "speed.json").unlink(missing_ok=True)
    assert quick(checkpoint, own, "openvino-fp16,onnx-fp32") == 0
    report = json.loads((own / "artifacts" / "tiny" / "report.json").read_text())
    rows = [(row["tower"], row["variant"], row["published"], row["speed"]) for row in report["variants"]]
    assert rows == [(tower, "openvino-fp16", True, None) for tower in ("image", "text")]
    told = capsys.readouterr()
    assert "timing" not in told.err
    assert "not timed: --quick" in told.out
    assert not (own / "artifacts" / "tiny" / "speed.json").exists()


@pytest.mark.long
def test_what_is_built_for_another_alone_is_not_judged(checkpoint: Path, own: Path, capsys: pytest.CaptureFixture[str]) -> None:
    shutil.rmtree(own / "artifacts" / "tiny" / "onnx-fp32")
    shutil.rmtree(own / "artifacts" / "tiny" / "openvino-fp16")
    assert quick(checkpoint, own, "openvino-fp16,onnx-fp32") == 0
    told = capsys.readouterr().err
    assert "building onnx-fp32, text tower" in told
    assert "embedding with openvino-fp16, text tower" in told
    assert "embedding with onnx-fp32" not in told


def test_a_quick_export_goes_on_to_the_next_variant(checkpoint: Path, own: Path) -> None:
    ruin(own)
    assert quick(checkpoint, own, "onnx-fp32,openvino-fp16") == 0
    rows = json.loads((own / "artifacts" / "tiny" / "report.json").read_text())["variants"]
    assert [row["variant"] for row in rows if row["published"]] == ["onnx-fp32", "openvino-fp16"]
    assert [row["variant"] for row in rows if row["failures"]] == ["onnx-fp32"]


def test_steps_are_numbered_up_to_the_last_with_the_time_they_began(
    checkpoint: Path, own: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    shutil.rmtree(own / "artifacts" / "tiny" / "onnx-fp32" / "text")
    assert export(checkpoint, own, "--variants", "onnx-fp32") == 0
    steps = re.findall(r"^step (\d+) of (\d+), \d+ s: (.+)$", capsys.readouterr().err, re.M)
    assert {total for _, total, _ in steps} == {"10"}
    assert [phrase for number, _, phrase in steps if number in ("1", "10")] == ["reading the checkpoint", "publishing"]
    assert ("7", "10", "building onnx-fp32, text tower") in steps
    numbers = [int(number) for number, _, _ in steps]
    assert numbers == sorted(numbers)


def test_another_variant_of_one_tower(checkpoint: Path, own: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert export(checkpoint, own, "--text-variant", "openvino-fp16") == 0
    encoders = own / "model_repository"
    assert (encoders / "clip_image_encoder" / "1" / "model.onnx").exists()
    assert sorted(path.name for path in (encoders / "clip_text_encoder" / "1").glob("model.*")) == ["model.bin", "model.xml"]
    assert 'backend: "openvino"' in (encoders / "clip_text_encoder" / "config.pbtxt").read_text()
    rows = [line.split()[0] for line in capsys.readouterr().out.splitlines() if line.rstrip().endswith("published")]
    assert rows == ["onnx-fp32", "openvino-fp16"]


def test_a_second_name_goes_beside_the_first(checkpoint: Path, own: Path, capsys: pytest.CaptureFixture[str]) -> None:
    before = snapshot(own / "model_repository")
    notice = ["--notice", "\x1b[31mMade for\n\tdrawings."]
    assert export(checkpoint, own, "--name", "siglip", "--variants", "onnx-fp32", *notice) == 0
    printed = capsys.readouterr()
    assert "notice: [31mMade for drawings. Another model: clipserve export --model " in printed.err.replace("\n", " ")
    assert "only cosines to PyTorch were judged" in printed.out
    tables = [line for line in printed.out.splitlines() if line.startswith(("variant", "torch-fp32", "onnx-fp32", " ─", "─"))]
    assert tables
    assert max(map(len, tables)) <= 80
    named, first = (
        ModelSpec.load(own / "model_repository" / f"{name}_text" / "1" / "spec.json") for name in ("siglip", "clip")
    )
    assert (named.notice, first.notice, named.fingerprint) == ("[31mMade for drawings.", NOTICE, first.fingerprint)
    after = snapshot(own / "model_repository")
    assert {key: after[key] for key in before} == before
    assert {path.split("/")[0] for path in after.keys() - before.keys()} == {
        *(model.replace("clip", "siglip") for model in MODELS),
        "siglip_image_preprocess",
        "siglip_text_tokenize",
    }


def test_a_ruined_variant_is_refused(checkpoint: Path, own: Path, capsys: pytest.CaptureFixture[str]) -> None:
    ruin(own)
    before = snapshot(own / "model_repository")
    report = own / "report.json"
    assert export(checkpoint, own, "--json", str(report)) == cli.REFUSED
    assert snapshot(own / "model_repository") == before
    printed = capsys.readouterr()
    assert "below the gate: cosine_min" in printed.out
    assert "onnx-fp32 of the text tower isn't published: cosine_min" in printed.err
    rows = {(row["tower"], row["variant"]): row for row in json.loads(report.read_text())["variants"]}
    assert [failure.split()[0] for failure in rows["text", "onnx-fp32"]["failures"]] == ["cosine_min", "cosine_mean"]
    assert not any(row["published"] for row in rows.values())


def test_a_ruined_variant_is_published_by_force(checkpoint: Path, own: Path) -> None:
    ruin(own)
    before = snapshot(own / "model_repository")
    assert export(checkpoint, own, "--force") == 0
    after = snapshot(own / "model_repository")
    changed = {path for path in before if before[path] != after[path]}
    assert changed == {"clip_text_encoder/1/model.onnx", "clip_text_encoder/1/report.json"}


def test_a_failed_exchange_is_undone(own: Path, checkpoint: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    before = snapshot(own / "model_repository")
    rename, calls = model_exchange.os.rename, []

    def fail_late(source: Path, target: Path) -> None:
        calls.append(target)
        if len(calls) == 6:
            raise OSError(28, "No space left on device")
        rename(source, target)

    monkeypatch.setattr(model_exchange.os, "rename", fail_late)
    assert export(checkpoint, own, "--text-variant", "openvino-fp16") == cli.BAD_INPUT
    assert snapshot(own / "model_repository") == before


def test_what_a_killed_exchange_took_out_is_put_back(own: Path) -> None:
    repository = own / "model_repository"
    before = snapshot(repository)
    taken = own / ".model_repository-staging-dead" / "old"
    taken.mkdir(parents=True)
    (repository / "clip_text").rename(taken / "clip_text")
    with publish._staging(repository):
        assert snapshot(repository) == before
    assert not taken.exists()


def test_an_interrupted_exchange_is_undone(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    staging, repository = tmp_path / "staging", tmp_path / "repository"
    staging.mkdir()
    new = model_exchange.folder_of_new(staging)
    for name in "abc":
        (new / name).mkdir()
    (repository / "b" / "kept").mkdir(parents=True)
    rename, calls = model_exchange.os.rename, []

    def interrupt(source: Path, target: Path) -> None:
        calls.append(target)
        if len(calls) == 4:
            raise KeyboardInterrupt
        rename(source, target)

    monkeypatch.setattr(model_exchange.os, "rename", interrupt)
    with pytest.raises(KeyboardInterrupt):
        model_exchange.exchange(staging, repository)
    assert [str(path.relative_to(repository)) for path in sorted(repository.rglob("*"))] == ["b", "b/kept"]


def test_a_damaged_report_is_written_anew(own: Path, checkpoint: Path) -> None:
    (own / "artifacts" / "tiny" / "onnx-fp32" / "text" / "report.json").write_text('{"variant": "on')
    assert export(checkpoint, own, "--variants", "onnx-fp32") == 0


@pytest.mark.long
def test_what_older_builders_made_is_made_again(
    own: Path, checkpoint: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    assert export(checkpoint, own, "--variants", "onnx-fp32") == 0
    assert "building onnx-fp32" not in capsys.readouterr().err
    changed = build_key.builders_digest() + ", with a line changed"
    monkeypatch.setattr(build_key, "builders_digest", lambda: changed)
    assert export(checkpoint, own, "--variants", "onnx-fp32") == 0
    assert "building onnx-fp32" in capsys.readouterr().err


def test_all_that_builds_is_told_from_what_is_older() -> None:
    here, files = Path(cli.__file__).parent, {*build_key.builder_files()}
    needed = {Path(sys.modules[kind.__module__].__file__) for one in VARIANTS.values() for kind in type(one).__mro__[:-2]}
    assert {file for file in needed if here in file.parents} <= files
    assert {*Path(engines.__file__).parent.glob("*.py")} < files
    assert all(list(here.glob(pattern)) for pattern in build_key.BUILDERS)


def test_a_report_without_a_folder_is_refused_at_once(own: Path, checkpoint: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert export(checkpoint, own, "--json", "/no/such/folder/x.json") == cli.BAD_INPUT
    assert "there is no folder /no/such/folder" in capsys.readouterr().err


def test_what_a_killed_export_left_is_cleared(own: Path, checkpoint: Path) -> None:
    abandoned = own / ".model_repository-staging-dead" / "new"
    abandoned.mkdir(parents=True)
    assert export(checkpoint, own) == 0
    assert not abandoned.exists()


def test_two_exports_of_one_checkpoint_do_not_meet(own: Path, checkpoint: Path, capsys: pytest.CaptureFixture[str]) -> None:
    with FileLock(own / "artifacts" / "tiny" / ".lock"):
        assert export(checkpoint, own) == cli.BAD_INPUT
    assert "another export works in" in capsys.readouterr().err


def test_a_repository_that_cannot_be_written(own: Path, checkpoint: Path, capsys: pytest.CaptureFixture[str]) -> None:
    shutil.rmtree(own / "model_repository")
    (own / "model_repository").write_text("a file")
    assert export(checkpoint, own) == cli.BAD_INPUT
    assert "can't be written" in capsys.readouterr().err


def test_without_a_checkpoint_one_must_be_named(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr(bundled, "CHECKPOINT", tmp_path / "none")
    assert cli.main([]) == cli.BAD_INPUT
    assert "pass --model FOLDER|HUB_ID" in capsys.readouterr().err


def test_unknown_variants_are_named(checkpoint: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert export(checkpoint, tmp_path, "--variants", "openvino-fp61") == cli.BAD_INPUT
    assert "no variant 'openvino-fp61', expected one of: openvino-fp16, openvino-bf16" in capsys.readouterr().err


class TestEvaluationFolder:
    """``--eval``: pictures and captions of the user's own."""

    @pytest.fixture
    def photos(self, tmp_path: Path) -> Path:
        folder = tmp_path / "photos"
        folder.mkdir()
        for n, jpeg in enumerate(pictures.jpegs(3)):
            (folder / f"{n}.jpg").write_bytes(jpeg)
        return folder

    def test_captions_are_used(self, photos: Path, own: Path, checkpoint: Path, capsys: pytest.CaptureFixture[str]) -> None:
        captions = [{"file": f"{n}.jpg", "captions": [f"picture {n}", f"number {n}"]} for n in range(3)]
        (photos / "captions.json").write_text(json.dumps(captions))
        assert export(checkpoint, own, "--variants", "onnx-fp32", "--eval", str(photos)) == 0
        assert "3 pictures, 6 texts" in capsys.readouterr().out

    def test_captions_in_parquet_are_used(
        self, photos: Path, own: Path, checkpoint: Path, capsys: pytest.CaptureFixture[str]
    ) -> None:
        rows = {"file_name": ["0.jpg", "2.jpg"], "caption": ["one", "two"]}
        pq.write_table(pa.table(rows), photos / "captions.parquet")
        assert export(checkpoint, own, "--variants", "onnx-fp32", "--eval", str(photos)) == 0
        assert "2 pictures, 2 texts" in capsys.readouterr().out

    def test_a_corrupt_picture_is_skipped_by_name(
        self, photos: Path, own: Path, checkpoint: Path, capsys: pytest.CaptureFixture[str]
    ) -> None:
        (photos / "3.jpg").write_bytes(b"broken")
        assert export(checkpoint, own, "--variants", "onnx-fp32", "--eval", str(photos)) == 0
        assert "skipped 3.jpg: not a picture" in capsys.readouterr().err

    @pytest.mark.parametrize(
        ("files", "message"),
        [
            ({}, "no picture that can be read (0 skipped)"),
            ({"a.jpg": b"broken"}, "no picture that can be read (1 skipped, the first: a.jpg"),
            (
                {"captions.json": b'[{"file": "b.jpg", "captions": ["x"]}]'},
                "name 1 file that isn't there, b.jpg",
            ),
            ({"captions.json": b'{"b.jpg": "x"}'}, "name 1 file that isn't there, b.jpg"),
            ({"captions.json": b'{"captions": "x"}'}, 'expected [{"file"'),
            ({"captions.parquet": b"PAR1"}, "expected the columns file_name and caption"),
        ],
        ids=["empty", "corrupt", "missing", "missing by name", "other form", "no parquet"],
    )
    def test_a_folder_of_no_use(
        self, files: dict, message: str, own: Path, checkpoint: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
    ) -> None:
        folder = tmp_path / "useless"
        folder.mkdir()
        for name, content in files.items():
            (folder / name).write_bytes(content)
        assert export(checkpoint, own, "--eval", str(folder)) == cli.BAD_INPUT
        assert message in capsys.readouterr().err


def test_onnx_runs_without_clipserve(exported: Path, spec: ModelSpec) -> None:
    session = onnxruntime.InferenceSession(exported / "artifacts" / "tiny" / "onnx-fp32" / "image" / "model.onnx")
    pixels = np.zeros((5, spec.image_size, spec.image_size, 3), np.uint8)
    assert session.run(["embedding"], {"pixels": pixels})[0].shape == (5, spec.embedding_size)
