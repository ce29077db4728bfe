"""An image tower alone is exported and served; every text of it is an error that says why."""

from __future__ import annotations

import json
from collections.abc import Callable, Iterator
from functools import partial
from pathlib import Path
from typing import Any

import checkpoints
import pytest
import torch
import transformers
from conftest import FLOATS
from dual_encoders import CLIP_PIXELS, SQUASHED
from other_checkpoints import VISION
from servers import Server, running
from test_checkpoint import describe, edit
from test_families import SMALL_IMAGES

import pictures
from clip_client import Clip, InvalidInput, ModelSpec
from clip_export import cli, families
from clip_export.builds.judge import Artifacts
from clip_export.checkpoints.checkpoint import Checkpoint, ImagesOnly
from clip_export.checkpoints.find import find
from clip_export.oracle import record
from clip_export.oracle.comparison import Compared

pytestmark = pytest.mark.long

NO_TEXTS = "the model has an image tower alone"
IMAGES = [*pictures.jpegs(4), *pictures.awkward().values()]


def _saved(model: Any, folder: Path, processor: str, **settings: Any) -> Path:
    model.save_pretrained(folder)
    (folder / "preprocessor_config.json").write_text(json.dumps({"image_processor_type": processor, **settings}))
    return folder


def projected(folder: Path) -> Path:
    """Like a CLIPVisionModelWithProjection on the hub, for diffusion models."""
    model = transformers.CLIPVisionModelWithProjection(transformers.CLIPVisionConfig(**VISION, projection_dim=48))
    return _saved(model, folder, "CLIPImageProcessor", **CLIP_PIXELS)


def siglip(folder: Path) -> Path:
    """A SiglipVisionModel."""
    model = transformers.SiglipVisionModel(transformers.SiglipVisionConfig(**VISION))
    return _saved(model, folder, "SiglipImageProcessor", **SQUASHED)


def dinov2(folder: Path) -> Path:
    """Like facebook/dinov2-base: its configuration tells another size than its processor."""
    model = transformers.Dinov2Model(transformers.Dinov2Config(**{**VISION, "image_size": 112}))
    return _saved(model, folder, "BitImageProcessor", **CLIP_PIXELS)


def resnet(folder: Path) -> Path:
    """Like microsoft/resnet-50, whose pooled output has four axes."""
    config = transformers.ResNetConfig(embedding_size=8, hidden_sizes=[8, 16], depths=[1, 1])
    return _saved(transformers.ResNetModel(config), folder, "ConvNextImageProcessor", size={"shortest_edge": 64})


def clip(folder: Path) -> Path:
    """A whole CLIP."""
    return checkpoints.make(folder, **SMALL_IMAGES)


MAKERS = [projected, siglip, dinov2, resnet, clip]


@pytest.fixture(scope="module")
def made(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """One checkpoint of each kind."""
    folder = tmp_path_factory.mktemp("image_only")
    torch.manual_seed(0)
    for make in MAKERS:
        make(folder / make.__name__)
    return folder


def compared(model: Path, folder: Path) -> tuple[ModelSpec, dict[str, Compared]]:
    """The oracle's verdict on an image tower alone."""
    found = ImagesOnly.of(find(str(model), None))
    family = families.of(found)
    spec = family.spec(found, "clip")
    folder.mkdir()
    artifacts = Artifacts(folder, spec, partial(family.towers, found, spec), print)
    return spec, record.compared(found, family, artifacts, None)


@pytest.mark.parametrize(("make", "width"), [(projected, 48), (siglip, 64), (dinov2, 64), (resnet, 16), (clip, 512)])
def test_an_image_tower_is_that_of_its_library(make: Callable[..., Path], width: int, made: Path, tmp_path: Path) -> None:
    spec, verdicts = compared(made / make.__name__, tmp_path / "artifacts")
    assert spec.embedding_size == width
    image = verdicts["image"]
    assert (image.missing, image.differences, image.notes) == ("", (), ())
    assert image.cosine_min > 0.99999
    assert verdicts["text"].missing == "there is no text tower (--image-only)"


@pytest.fixture(scope="module")
def served(made: Path) -> Iterator[Server]:
    """DINOv2, exported as users do and served."""
    where = ["--artifacts", str(made / "artifacts"), "--repository", str(made / "repository")]
    assert cli.main(["--model", str(made / "dinov2"), "--image-only", *where, *FLOATS]) == 0
    with running(made / "repository") as server:
        yield server


def test_pictures_are_embedded_as_the_library_does(made: Path, served: Server) -> None:
    folder = made / "dinov2"
    processor = transformers.AutoImageProcessor.from_pretrained(folder, backend="pil")
    from references import pictures as opened
    from references import unit

    pixels = processor(images=opened(IMAGES), return_tensors="pt")
    with torch.inference_mode():
        expected = unit(transformers.AutoModel.from_pretrained(folder).eval()(**pixels).pooler_output)
    with Clip(served.address) as client:
        assert (client.embed_image(IMAGES) * expected).sum(axis=1).min() >= 0.9999


def test_a_text_is_an_error_that_says_why(served: Server) -> None:
    with Clip(served.address, timeout_s=20) as client:
        with pytest.raises(InvalidInput, match=NO_TEXTS):
            client.embed_text("a cat")
        assert client.embed_text(["a cat", ""], on_error="none") == [None, None]
        assert len(client.embed_image(IMAGES[0])) == 64


def test_texts_and_their_absence_are_told_apart(made: Path, capsys: pytest.CaptureFixture[str]) -> None:
    arguments = ["--model", str(made / "dinov2"), "--image-only", "--text-model", str(made / "clip")]
    assert cli.main(arguments) == cli.BAD_INPUT
    assert "--image-only leaves texts out, --text-model is for texts" in capsys.readouterr().err


@pytest.mark.parametrize("make", [projected, siglip, dinov2])
def test_an_image_tower_without_the_option_is_told_of_it(make: Callable[..., Path], made: Path) -> None:
    with pytest.raises(InvalidInput, match="is an image tower alone: pass --image-only"):
        describe(made / make.__name__)


def test_a_model_without_an_embedding_of_a_picture(tmp_path: Path) -> None:
    from other_checkpoints import sentence_transformer

    text = sentence_transformer(tmp_path / "text")
    (text / "preprocessor_config.json").write_text(json.dumps({"image_processor_type": "ViTImageProcessor", **SQUASHED}))
    found = ImagesOnly.of(Checkpoint(text, "text", ""))
    with pytest.raises(InvalidInput, match="gives no embedding of a picture of 64 x 64 pixels"):
        families.of(found).spec(found, "clip")


def test_a_classifier_without_a_pooler(tmp_path: Path) -> None:
    """Like google/vit-base-patch16-224."""
    model = transformers.ViTForImageClassification(transformers.ViTConfig(**VISION))
    found = ImagesOnly.of(find(str(_saved(model, tmp_path / "vit", "ViTImageProcessor", **SQUASHED)), None))
    family = families.of(found)
    with pytest.raises(InvalidInput, match=r"was trained without its pooler, .* expected a vision model with a pooled output"):
        family.towers(found, family.spec(found, "clip"))


def test_pictures_of_another_size_than_the_towers(tmp_path: Path) -> None:
    folder = siglip(tmp_path / "siglip")
    edit(folder / "preprocessor_config.json", size={"height": 96, "width": 96})
    found = ImagesOnly.of(find(str(folder), None))
    with pytest.raises(InvalidInput, match="gives no embedding of a picture of 96 x 96 pixels"):
        families.of(found).spec(found, "clip")


def test_whole_and_image_only_have_folders_and_fingerprints_of_their_own(made: Path) -> None:
    whole = find(str(made / "clip"), None)
    alone = ImagesOnly.of(whole)
    specs = [families.of(checkpoint).spec(checkpoint, "clip") for checkpoint in (whole, alone)]
    assert whole.slug != alone.slug
    assert specs[0].fingerprint != specs[1].fingerprint
    assert specs[0].weights_sha256 == specs[1].weights_sha256
