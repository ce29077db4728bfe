"""Checkpoints of every family and of many shapes, exported side by side and served by one Triton, agree with their library."""

from __future__ import annotations

import pickle
from collections.abc import Callable, Iterator
from functools import cache, partial
from pathlib import Path
from typing import Any

import checkpoints
import numpy as np
import open_clips
import other_checkpoints
import pytest
import references
from amount import ALL, LONG
from other_checkpoints import padded
from servers import Server, running

import pictures
from clip_client import Clip, ModelSpec
from clip_client.spec import SPEC_FILE, TOWERS, Tower
from clip_export import families
from clip_export.builds.judge import Artifacts
from clip_export.builds.verdicts import Judged
from clip_export.checkpoints.find import find
from clip_export.evaluation import items
from clip_export.options import parsed
from clip_export.publish.publish import publish
from clip_export.variants import named

SMALL_IMAGES = {
    "vision": {"patch_size": 16, "image_size": 64, "num_hidden_layers": 1},
    "processor": {"size": {"shortest_edge": 64}, "crop_size": {"height": 64, "width": 64}},
}
SHAPES: dict[str, dict[str, Any]] = {
    "b16": {
        "vision": {"patch_size": 16, "num_hidden_layers": 1},
        "text": {"eos_token_id": 2},
        "merges": checkpoints.ALL_MERGES,
    },
    "h14": {
        "vision": {"patch_size": 14, "image_size": 56, "hidden_act": "gelu", "num_hidden_layers": 1},
        "text": {"hidden_act": "gelu"},
        "processor": {"size": {"shortest_edge": 56}, "crop_size": {"height": 56, "width": 56}},
        "projection": 1024,
        "pad_token": "!",
    },
    "l14_336": {
        "vision": {"patch_size": 14, "image_size": 336, "num_hidden_layers": 1},
        "projection": 768,
        "processor": {
            "size": {"shortest_edge": 336},
            "crop_size": {"height": 336, "width": 336},
            "image_mean": [0.5, 0.4, 0.3],
            "image_std": [0.5, 0.6, 0.7],
            "resample": 2,
        },
    },
    "squash": {
        "vision": {"patch_size": 8, "image_size": 64},
        "text": {"max_position_embeddings": 24, "eos_token_id": 2},
        "processor": {"size": {"height": 64, "width": 64}, "do_center_crop": False, "resample": 1},
        "pad_token": "!",
    },
}


def alone(make: Callable[..., Path], **shape: Any) -> Callable[[Path], list[str]]:
    """Make one checkpoint in a folder; what selects it on the command line."""
    return lambda folder: ["--model", str(make(folder, **shape))]


def pair(make_text: Callable[[Path], Path]) -> Callable[[Path], list[str]]:
    """Make a CLIP, and a text model beside it."""
    return lambda folder: [
        *("--model", str(checkpoints.make(folder / "image", **SMALL_IMAGES))),
        *("--text-model", str(make_text(folder / "text"))),
    ]


KINDS: dict[str, tuple[Callable[[Path], list[str]], Callable[..., references.Pair]]] = {
    **{name: (alone(checkpoints.make, **shape), references.clip) for name, shape in SHAPES.items()},
    "siglip": (alone(other_checkpoints.siglip), references.siglip),
    "siglip2": (alone(other_checkpoints.siglip2), references.siglip),
    "chinese_clip": (alone(other_checkpoints.chinese_clip), references.chinese_clip),
    "padded_clip_eos_2": (
        alone(partial(padded, checkpoints.make, 77), text={"eos_token_id": 2}, **SMALL_IMAGES),
        references.clip,
    ),
    "padded_clip": (alone(partial(padded, checkpoints.make, 77), **SMALL_IMAGES), references.clip),
    "padded_siglip2": (alone(partial(padded, other_checkpoints.siglip2, 64)), references.siglip),
    "padded_chinese_clip": (alone(partial(padded, other_checkpoints.chinese_clip, 52)), references.chinese_clip),
    "sentence_transformer": (pair(other_checkpoints.sentence_transformer), references.sentence_transformer),
    "m_clip": (pair(other_checkpoints.m_clip), references.m_clip),
    "open_clip_resnet": (open_clips.resnet, open_clips.embed),
    "open_clip_mobile": (open_clips.mobile, open_clips.embed),
    "open_clip_siglip": (open_clips.siglip, open_clips.embed),
    "open_clip_multilingual": (open_clips.multilingual, open_clips.embed),
}
"""Functions that make a checkpoint and embed with its own library, by family."""
PADDED = ("padded_clip", "padded_siglip2", "padded_chinese_clip")
"""Kinds like their neighbours, for the longer run."""
USUAL = ("siglip", "sentence_transformer", "open_clip_resnet")
"""One kind of each way to a checkpoint, for every change; CLIP itself, which is small there, has all the other tests."""
WANTED = [name for name in KINDS if ALL or (name in USUAL if not LONG else name not in PADDED)]
NAMES = [
    pytest.param(name, marks=[] if name in USUAL else pytest.mark.slow if name in PADDED else pytest.mark.long)
    for name in KINDS
]

IMAGES = [*pictures.jpegs(6), *pictures.awkward().values()]
TEXTS = [
    "",
    "a photo of a cat",
    "A Photo of a CAT",
    "LOUD & <|endoftext|> odd [SEP] [PAD] end",
    "🎂 naïve Ångström cafe\u0301 ﬁ",
    "一只猫的照片，杰尼龟",
    'it\'s (a) "quoted", hyphen-ated: text!',
    "ten words " * 5,
    "many words " * 200,
]


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tmp_path_factory.mktemp("families")


@pytest.fixture(scope="module")
def exported(folder: Path) -> Callable[[str], dict[Tower, Judged]]:
    """Export a kind into one repository for all, once: onnx-fp32 of both towers, without the time that timing them takes."""
    open_clips.library()
    return cache(lambda name: export(name, KINDS[name][0](folder / name), folder))


def export(name: str, arguments: list[str], folder: Path) -> dict[Tower, Judged]:
    options = parsed([*arguments, "--name", name])
    found = find(options.model, options.revision, options.text_model)
    family = families.of(found)
    spec = family.spec(found, options.name)
    judged_on = items.load(None, None, None, items.Inputs(spec, found.tokenizer_json))
    artifacts = Artifacts(folder / "artifacts" / name, spec, partial(family.towers, found, spec), print)
    judge = artifacts.judge(*judged_on, options.allowed)
    rows = {tower: judge.judged(named("onnx-fp32"), tower) for tower in TOWERS}
    publish(rows, spec, found.tokenizer_json, "exact", folder / "repository")
    pickle.dumps(partial(family.towers, found, spec))  # for the processes that time variants
    return rows


@pytest.mark.parametrize("name", NAMES)
def test_the_gate_lets_every_kind_pass(name: str, exported: Callable[[str], dict[Tower, Judged]]) -> None:
    rows = exported(name)
    for row in rows.values():
        assert row.failures == []
        assert row.scores.cosine_min >= 0.9999
        assert row.scores.invariance.batch >= 0.9999
    spec = ModelSpec.load(rows["text"].artefact.folder / SPEC_FILE)
    padding = rows["text"].scores.invariance.padding
    assert padding is None if spec.padding == "full" else padding >= 0.9999


@pytest.fixture(scope="module")
def all_served(folder: Path, exported: Callable[[str], dict[Tower, Judged]]) -> Iterator[Server]:
    for name in WANTED:
        exported(name)
    with running(folder / "repository") as server:
        yield server


@pytest.mark.parametrize("name", NAMES)
def test_embeddings_are_those_of_the_library(name: str, folder: Path, all_served: Server) -> None:
    with Clip(all_served.address, name=name) as clip:
        ours = clip.embed_image(IMAGES), clip.embed_text(TEXTS)
    _, embed = KINDS[name]
    for embeddings, expected in zip(ours, embed(folder / name, IMAGES, TEXTS), strict=True):
        np.testing.assert_allclose(np.linalg.norm(embeddings, axis=1), 1, atol=1e-5)
        assert (embeddings * expected).sum(axis=1).min() >= 0.9999


@pytest.mark.parametrize("name", NAMES)
def test_neither_batch_nor_padding_matters(name: str, all_served: Server) -> None:
    with Clip(all_served.address, name=name) as clip:
        together = clip.embed_text(TEXTS), clip.embed_image(IMAGES[:4])
        alone = [clip.embed_text(text) for text in TEXTS], [clip.embed_image(image) for image in IMAGES[:4]]
    for embeddings, singles in zip(together, alone, strict=True):
        np.testing.assert_allclose(embeddings, np.stack(singles), atol=2e-5)


@pytest.mark.parametrize("name", NAMES)
def test_a_bad_item_leaves_its_neighbours_alone(name: str, all_served: Server) -> None:
    with Clip(all_served.address, name=name) as clip:
        good = clip.embed_text("a cat")
        rows = clip.embed_text(["a cat", b"caf\xe9", "a cat"], on_error="none")
        assert rows[1] is None
        np.testing.assert_allclose([rows[0], rows[2]], [good, good], atol=1e-6)


@pytest.mark.parametrize(
    ("name", "probabilities"),
    [
        ("siglip", references.siglip_probabilities),
        pytest.param("siglip2", references.siglip_probabilities, marks=pytest.mark.long),
        pytest.param("open_clip_siglip", open_clips.probabilities, marks=pytest.mark.long),
    ],
)
def test_probabilities_are_those_of_the_library(
    name: str, probabilities: Callable[..., np.ndarray], folder: Path, all_served: Server
) -> None:
    with Clip(all_served.address, name=name) as clip:
        ours = clip.compare(IMAGES, TEXTS).probabilities
    np.testing.assert_allclose(ours, probabilities(folder / name, IMAGES, TEXTS), atol=1e-4)


def test_one_checkpoint_refuses_the_name_of_none(all_served: Server) -> None:
    with Clip(all_served.address, name="nobody") as clip, pytest.raises(ValueError, match="serves no model nobody_image"):
        clip.embed_text("x")
