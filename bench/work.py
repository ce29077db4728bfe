"""What benches work on: a checkpoint, its variants, pictures, texts; and the options that say which."""

from __future__ import annotations

import argparse
import gzip
import json
import random
import subprocess
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from PIL import Image
from torch import nn

from clip_client.spec import ModelSpec, Tower
from clip_client.tokens import Tokenizer
from clip_export import families
from clip_export.checkpoints.find import find
from clip_export.towers import Towers
from clip_export.variants import REFERENCE, named
from clip_export.variants.base import Artefact, Encoder
from serving import CLIPSERVE

ROOT = Path(__file__).parents[1]
ARTIFACTS = ROOT / "artifacts" / "bench"
DRAWINGS = ROOT / "examples" / "emoji" / "pictures"
WORDS = (ROOT / "search" / "clip_search" / "tuning_texts.txt").read_text(encoding="utf-8").split()
VOCABULARY = ROOT / "tests" / "data" / "bpe_simple_vocab_16e6.txt.gz"

COLLAGES = "collages"
PHOTO_SIZES = ((640, 480), (640, 425), (480, 640), (500, 375))
PHOTOS = 96


def parser(description: str | None) -> argparse.ArgumentParser:
    """Options of every bench."""
    made = argparse.ArgumentParser(description=description, formatter_class=argparse.RawDescriptionHelpFormatter)
    made.add_argument("--model", metavar="FOLDER|HUB_ID", help="checkpoint (default: a ViT-B/32 with random weights)")
    made.add_argument("--photos", type=Path, metavar="FOLDER", help="JPEG files (default: collages of the bundled drawings)")
    return made


def setting(options: argparse.Namespace, model: str = "ViT-B/32 with random weights", photos: str = COLLAGES) -> dict[str, Any]:
    """What a run depended on, for its result: its options, with words for those that weren't given; folders by their name."""
    checkpoint = find(options.model, None).label if options.model else model
    named = {name: value.name if isinstance(value, Path) else value for name, value in vars(options).items()}
    return named | {"model": checkpoint, "photos": options.photos.name if options.photos else photos}


def photos(folder: Path | None) -> list[Path]:
    """JPEG files: those of a folder, or collages at the sizes of photos, made once."""
    if folder is None:
        folder = ARTIFACTS / COLLAGES
        if not folder.exists():
            _draw_collages(folder)
    found = sorted([*folder.glob("*.jpg"), *folder.glob("*.jpeg")])
    if not found:
        raise SystemExit(f"no JPEG files in {folder}: pass another --photos")
    return found


def texts(count: int, seed: int = 0, words: int = 8) -> list[str]:
    """Texts of so many words, all different."""
    draw = random.Random(seed)
    return [f"{' '.join(draw.choice(WORDS) for _ in range(words - 1))} {n}" for n in range(count)]


def checkpoint(given: str | None) -> str:
    """The checkpoint given, or a ViT-B/32 of seeded random weights, which is as fast as a trained one, made once."""
    folder = ARTIFACTS / "vit-b-32"
    if given is None and not (folder / "preprocessor_config.json").exists():
        _make_vit_b_32(folder)
    return given or str(folder)


def exported(model: str, photos: Path | None, variants: Sequence[str], *flags: str) -> tuple[Path, Path]:
    """Folders with artifacts and with a model repository of the checkpoint; built the first time.

    int8 is calibrated with the photos. What is below the gate is published all the same: speed is what is measured.
    """
    slug = find(model, None).slug
    repository = ARTIFACTS / f"{slug}-{'-'.join(variants)}"
    where = ["--artifacts", str(ARTIFACTS / "artifacts"), "--repository", str(repository)]
    calibrated = ["--calibration", str(photos)] if photos else []
    command = [CLIPSERVE, "export", "--model", model, *where, *calibrated, "--variants", ",".join(variants), "--force", *flags]
    subprocess.run(command, check=True)
    return ARTIFACTS / "artifacts" / slug, repository


def encoder(artifacts: Path, variant: str, tower: Tower) -> Encoder:
    """Open in this process what :func:`exported` built; torch itself is :class:`Loaded`'s."""
    return named(variant).load(Artefact(artifacts / variant / tower, tower, nn.Module))


@dataclass(frozen=True)
class Loaded:
    """A checkpoint in this process: what it is, its tokenizer, its towers in torch."""

    spec: ModelSpec
    tokenizer: Tokenizer
    towers: Towers

    def encoder(self, tower: Tower) -> Encoder:
        """The tower in torch, float32."""
        return REFERENCE.load(Artefact(Path(), tower, lambda: self.towers[tower]))


def loaded(model: str) -> Loaded:
    """Load a checkpoint."""
    found = find(model, None)
    family = families.of(found)
    spec = family.spec(found, "clip")
    return Loaded(spec, Tokenizer(found.tokenizer_json, spec), family.towers(found, spec))


def collage(draw: np.random.Generator, size: tuple[int, int]) -> Image.Image:
    """Drawings on coloured noise, about as heavy to decode as a photo of that (width, height)."""
    width, height = size
    blocks = draw.integers(0, 256, (height // 8, width // 8, 3), np.uint8)
    picture, drawings = Image.fromarray(blocks).resize(size), sorted(DRAWINGS.glob("*.webp"))
    for _ in range(12):
        drawing = Image.open(drawings[draw.integers(len(drawings))]).convert("RGB").resize((160, 160))
        picture.paste(drawing, (int(draw.integers(width - 100)), int(draw.integers(height - 100))))
    return picture


def _draw_collages(folder: Path) -> None:
    draw = np.random.default_rng(0)
    folder.mkdir(parents=True)
    for n in range(PHOTOS):
        collage(draw, PHOTO_SIZES[n % len(PHOTO_SIZES)]).save(folder / f"{n:03}.jpg", quality=90)


def _make_vit_b_32(folder: Path) -> None:
    """Hugging Face's default CLIP configuration with seeded weights, CLIP's own byte pairs and preprocessing."""
    import torch
    from transformers import CLIPConfig, CLIPModel, CLIPTokenizer
    from transformers.models.clip.image_processing_pil_clip import CLIPImageProcessorPil

    torch.manual_seed(0)
    config = CLIPConfig()
    CLIPModel(config).save_pretrained(folder)
    codes = [*range(33, 127), *range(161, 173), *range(174, 256)]
    symbols = [chr(code) for code in codes] + [chr(256 + n) for n in range(256 - len(codes))]
    count = config.text_config.vocab_size - 2 * len(symbols) - 2
    merges = gzip.decompress(VOCABULARY.read_bytes()).decode().split("\n")[1 : count + 1]
    pieces = [*symbols, *(f"{one}</w>" for one in symbols), *("".join(merge.split()) for merge in merges)]
    vocabulary = {piece: n for n, piece in enumerate([*pieces, "<|startoftext|>", "<|endoftext|>"])}
    (folder / "vocab.json").write_text(json.dumps(vocabulary, ensure_ascii=False), encoding="utf-8")
    (folder / "merges.txt").write_text("#version: 0.2\n" + "\n".join(merges) + "\n", encoding="utf-8")
    tokenizer = CLIPTokenizer.from_pretrained(folder)
    tokenizer.model_max_length = config.text_config.max_position_embeddings
    tokenizer.save_pretrained(folder)
    CLIPImageProcessorPil().save_pretrained(folder)
