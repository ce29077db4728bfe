"""open_clip's own model configs, one at a time: made small, written as a checkpoint, compared with open_clip itself.

As a script it prints a line for each name given, or for all: ``python tests/lib/open_clip_configs.py [NAME …]``.
"""

from __future__ import annotations

import contextlib
import sys
import tempfile
import time
from collections.abc import Iterator
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any

import open_clips
import small_tokenizers
from transformers import M2M100Config, MT5Config, RobertaConfig, XLMRobertaConfig

from clip_client.errors import ClipError
from clip_client.spec import TOWERS, Tower
from clip_export import families
from clip_export.checkpoints import open_clip
from clip_export.oracle import comparison, items
from clip_export.variants import REFERENCE
from clip_export.variants.base import Artefact, Encoder

WIDTH, LAYERS = 64, 2
_NARROW = {"embed_dim": 2 * WIDTH, "num_heads": 2, "depth": LAYERS}

SHAPES: dict[str, dict[str, Any]] = {
    "convnext": {"depths": (1, 1, 1, 1), "dims": (32, 64, 96, 2 * WIDTH)},
    "swin": {"depths": (1, 1, 1, 1)},
    "fastvit_mci3": {"layers": (1, 1, 1, 1, 1)},
    "fastvit_mci4": {"layers": (1, 1, 1, 1, 1)},
    "fastvit": {"layers": (1, 1, 1, 1)},
    "vitamin": {"depth": LAYERS},
    "vit_base_mci": {"depth": LAYERS},
    "vit_relpos": {"depth": LAYERS},
    "": _NARROW,
}
"""Arguments that make timm's models of a beginning small."""

PICTURES = ("a JPEG", "an upright JPEG", "an RGBA PNG", "a picture of 1 x 40", "a picture of one pixel")


@dataclass(frozen=True)
class Result:
    """Result of one config.

    Attributes:
        name: open_clip's.
        verdict: exact, refused, or wrong.
        why: of what isn't exact.
        cosines: the worst item by tower.
        seconds: it took.
    """

    name: str
    verdict: str
    why: str
    cosines: dict[Tower, float]
    seconds: float

    def __str__(self) -> str:
        figures = " ".join(f"{tower} {cosine:.7f}" for tower, cosine in self.cosines.items())
        return f"{self.verdict:8} {self.name:42} {figures:34} {self.seconds:5.1f} s {self.why}".rstrip()


def tried(name: str, folder: Path) -> Result:
    """Compare a config, made small below a folder, with open_clip itself."""
    begin = time.monotonic()
    verdict, why, cosines = "exact", "", {}
    with small_timm():
        write(name, folder)
        try:
            verdicts = _compared(folder)
            cosines = {tower: verdicts[tower].cosine_min for tower in TOWERS}
            why = "; ".join(verdicts[tower].problem(tower) or verdicts[tower].missing for tower in TOWERS).strip("; ")
            verdict = "wrong" if why else "exact"
        except ClipError as problem:
            verdict, why = "refused", str(problem)
    return Result(name, verdict, why, cosines, time.monotonic() - begin)


def write(name: str, folder: Path) -> None:
    """Write a folder as open_clip pushes it to the hub, with random weights and a small vocabulary of the config's kind."""
    library = open_clips.library()
    config = library.get_model_config(name)
    config["vision_cfg"] |= _shallow_image(config["vision_cfg"])
    if config["vision_cfg"].get("timm_proj") == "none":  # the image tower's own width
        config["embed_dim"] = 2 * WIDTH
    config["text_cfg"] |= _shallow_text(config["text_cfg"], folder)
    if "multimodal_cfg" in config:
        config["multimodal_cfg"] |= {"layers": 1, "width": WIDTH, "heads": 2}
    tags = library.list_pretrained_tags_by_model(name)
    known = library.get_pretrained_cfg(name, tags[0]) if tags else {}
    kept = {key: known[key] for key in ("mean", "std", "interpolation", "resize_mode") if key in known}
    open_clips.save(folder, config, **kept)


@contextlib.contextmanager
def small_timm() -> Iterator[None]:
    """Make timm's models with few and narrow layers."""
    open_clips.library()
    import timm

    create = timm.create_model

    def small(name: str, **options: Any) -> Any:
        return create(name, **options, **next(shape for start, shape in SHAPES.items() if name.startswith(start)))

    timm.create_model = small
    try:
        yield
    finally:
        timm.create_model = create


def _compared(folder: Path) -> dict[Tower, comparison.Compared]:
    checkpoint = open_clip.in_folder(folder, "it", "")
    family = families.of(checkpoint)
    spec = family.spec(checkpoint, "clip")
    every = items.collect(None, spec, checkpoint.tokenizer_json)
    some = items.Items({name: every.pictures[name] for name in PICTURES}, every.texts)
    towers = family.towers(checkpoint, spec)

    def encoder(tower: Tower) -> Encoder:
        return REFERENCE.load(Artefact(folder, tower, partial(towers.__getitem__, tower)))

    ours = comparison.Ours(spec, checkpoint.tokenizer_json, encoder)
    return comparison.compare(family.libraries(checkpoint), some, ours.given(some), ours, spec)


def _shallow_image(vision: dict[str, Any]) -> dict[str, Any]:
    if "timm_model_name" in vision:
        return {}
    if isinstance(vision["layers"], list):
        return {"layers": [1, 1, 1, 1], "width": 16}
    return {"layers": LAYERS, "width": 2 * vision.get("head_width", 64)}


def _shallow_text(text: dict[str, Any], folder: Path) -> dict[str, Any]:
    small: dict[str, Any] = {}
    if tokenizer := text.get("hf_tokenizer_name"):
        size = small_tokenizers.write(tokenizer, folder)
        small = {"vocab_size": size, "hf_tokenizer_name": "its own"}
    if model := text.get("hf_model_name"):
        _shape(model, size).save_pretrained(folder / "shape")
        return {"hf_model_name": str(folder / "shape"), "hf_tokenizer_name": "its own"}
    return {**small, "layers": LAYERS, "width": 2 * text["width"] // text["heads"], "heads": 2}


def _shape(model: str, vocabulary: int) -> Any:
    """Return a small configuration of the kind of a text model."""
    common = {"vocab_size": vocabulary}
    small = {"hidden_size": WIDTH, "intermediate_size": 128, "num_hidden_layers": LAYERS, "num_attention_heads": 4}
    parts = {"layers": LAYERS, "attention_heads": 4, "ffn_dim": 128}
    if "nllb" in model:
        both = {f"{part}_{name}": value for part in ("encoder", "decoder") for name, value in parts.items()}
        return M2M100Config(d_model=WIDTH, activation_function="relu", scale_embedding=True, **both, **common)
    if "mt5" in model:
        return MT5Config(d_model=WIDTH, d_kv=16, d_ff=128, num_layers=LAYERS, num_heads=4, **common)
    kind = XLMRobertaConfig if "xlm" in model else RobertaConfig
    return kind(**small, **common, max_position_embeddings=130, type_vocab_size=1)


def main(names: list[str]) -> None:
    """Print a line for each config."""
    for name in names or open_clips.library().list_models():
        with tempfile.TemporaryDirectory() as folder:
            print(tried(name, Path(folder) / "checkpoint"), flush=True)


if __name__ == "__main__":
    main(sys.argv[1:])
