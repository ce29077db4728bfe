"""The bundled checkpoint keeps what its card promises, in torch and through a real Triton."""

from __future__ import annotations

import json
import shutil
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytest
from PIL import Image
from servers import Server, running

from clip_client import Clip
from clip_export import cli
from clip_export.evaluation import items, labelled_pictures, retrieval
from clip_export.evaluation.items import Evaluation
from clip_export.variants.openvino_int8 import OpenVinoInt8
from clip_export.variants.quantization import RECIPES

pytestmark = pytest.mark.long

EXAMPLE = Path(__file__).parents[1] / "examples" / "emoji"
sys.path.insert(0, str(EXAMPLE))

from evaluate import Towers, keyword_task, load_collection, score  # noqa: E402


@pytest.fixture(scope="module")
def figures() -> dict:
    """Figures that the evaluation script prints."""
    command = [sys.executable, EXAMPLE / "evaluate.py", "--json"]
    return json.loads(subprocess.run(command, capture_output=True, text=True, check=True, timeout=300).stdout)


@pytest.fixture(scope="module")
def emoji(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The bundled checkpoint published twice: in float as ``clip``, in int8 as ``int8``; with the report of the latter."""
    folder = tmp_path_factory.mktemp("emoji")
    where = ["--artifacts", str(folder / "artifacts"), "--repository", str(folder / "repository")]
    assert cli.main([*where, "--variants", "onnx-fp32", *chosen("onnx-fp32")]) == 0
    report = ["--json", str(folder / "int8.json")]
    int8 = ["--name", "int8", "--variants", "onnx-int8,openvino-int8", *chosen("openvino-int8")]
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(items, "_CALIBRATION_ITEMS", 256)  # as users have it: the figures are promised
        assert cli.main([*where, *int8, *report]) == 0
    return folder


def chosen(variant: str) -> list[str]:
    """Options that publish one variant for both towers."""
    return ["--image-variant", variant, "--text-variant", variant]


@pytest.fixture(scope="module")
def emoji_server(emoji: Path) -> Iterator[Server]:
    """A server of both."""
    with running(emoji / "repository") as server:
        yield server


@pytest.fixture(scope="module")
def report(emoji: Path) -> dict:
    """Report of the export of int8."""
    return json.loads((emoji / "int8.json").read_text())


def test_it_finds_what_it_never_saw(figures: dict) -> None:
    assert figures["text_to_image"]["r@1"] >= 0.80
    assert figures["text_to_image"]["r@5"] >= 0.90
    assert figures["image_to_image"]["r@1"] >= 0.80
    assert figures["keywords"]["r@10"] >= 0.28


def test_the_card_has_these_figures(figures: dict) -> None:
    card = json.loads((EXAMPLE / "figures.json").read_text())
    assert {task: set(values) for task, values in card.items()} == {task: set(values) for task, values in figures.items()}
    for task, values in card.items():
        assert values == pytest.approx(figures[task], abs=2e-3)


@pytest.mark.slow
def test_birthday_cake_shows_the_cake_first() -> None:
    towers, collection = Towers(EXAMPLE / "emoji-clip"), load_collection()
    cosines = towers.embed_images(collection.pictures) @ towers.embed_texts(["birthday cake"])[0]
    assert collection.captions[cosines.argmax()] == "birthday cake"


@pytest.mark.slow
def test_birthday_cake_shows_the_cake_first_in_int8_too(emoji_server: Server) -> None:
    collection = load_collection()
    with Clip(emoji_server.address, name="int8") as clip:
        cosines = clip.embed_image(collection.pictures) @ clip.embed_text("birthday cake")
    assert collection.captions[cosines.argmax()] == "birthday cake"


@pytest.mark.slow
def test_triton_gives_the_same_figures(figures: dict, emoji_server: Server) -> None:
    collection = load_collection()
    with Clip(emoji_server.address) as clip:
        served = score(
            collection,
            pictures=clip.embed_image(collection.pictures),
            captions=clip.embed_text(collection.captions),
            queries=clip.embed_image(collection.queries),
            keywords=clip.embed_text(keyword_task(collection).texts),
        )
    for task, values in figures.items():
        for name, value in values.items():
            assert served[task][name] == pytest.approx(value, abs=5e-4), (task, name)


@pytest.mark.slow
def test_int8_keeps_within_a_point_of_torch(report: dict) -> None:
    rows = [row for row in report["variants"] if row["variant"].endswith("-int8")]
    assert {(row["tower"], row["variant"]) for row in rows} == {
        (tower, variant) for tower in ("image", "text") for variant in ("onnx-int8", "openvino-int8")
    }
    for row in rows:
        assert row["failures"] == []
        assert max(row["lost"].values()) <= 1


@pytest.mark.slow
def test_served_int8_finds_what_the_report_says(report: dict, emoji_server: Server) -> None:
    judged, _ = labelled_pictures.split(labelled_pictures.read(EXAMPLE / "pictures"), EXAMPLE / "pictures")
    with Clip(emoji_server.address, name="int8") as clip:
        image = clip.embed_image([one.file for one in judged])
        text = clip.embed_text([one.captions[0] for one in judged])
    every = np.arange(len(judged))
    evaluation = Evaluation("", image, image, text, every, np.empty(0, np.int64))
    for name, value in retrieval.scores(image, text, evaluation).items():
        assert report["published"]["retrieval"][name] == pytest.approx(value, abs=5e-4), name


@pytest.mark.slow
def test_a_ruined_int8_is_refused(
    emoji: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    """Calibrated on pictures that are all but black, it cuts off whatever is brighter."""
    monkeypatch.setattr(OpenVinoInt8, "recipes", RECIPES[:1])
    for n in range(16):
        Image.new("RGB", (64, 64), (n, 0, 0)).save(tmp_path / f"{n}.png")
    before = sorted(path.name for path in (emoji / "repository").iterdir())
    artifacts = shutil.copytree(emoji / "artifacts", tmp_path / "artifacts")  # the float ones stay as they are
    where = ["--artifacts", str(artifacts), "--repository", str(emoji / "repository")]
    ruined = ["--name", "ruined", "--variants", "openvino-int8", "--calibration", str(tmp_path)]
    assert cli.main([*where, *ruined, *chosen("openvino-int8")]) == cli.REFUSED
    assert "openvino-int8 of the image tower isn't published: " in capsys.readouterr().err
    assert sorted(path.name for path in (emoji / "repository").iterdir()) == before
