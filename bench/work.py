"""What benches work on: a checkpoint, its variants, pictures, texts; and the options that say which."""

from __future__ import annotations

import argparse
import gzip
import json
import random
import subprocess
from collections.abc import Sequence
from pathlib import Path

import numpy as np
from PIL import Image

from serving import CLIPSERVE

ROOT = Path(__file__).parents[1]
ARTIFACTS = ROOT / "artifacts" / "bench"
DRAWINGS = ROOT / "examples" / "emoji" / "pictures"
WORDS = (ROOT / "search" / "clip_search" / "tuning_texts.txt").read_text(encoding="utf-8").split()
VOCABULARY = ROOT / "tests" / "data" / "bpe_simple_vocab_16e6.txt.gz"

PHOTO_SIZES = ((640, 480), (640, 425), (480, 640), (500, 375))
PHOTOS = 96


def parser(description: str | None) -> argparse.ArgumentParser:
    """Options of every bench."""
    made = argparse.ArgumentParser(description=description, formatter_class=argparse.RawDescriptionHelpFormatter)
    made.add_argument("--model", metavar="FOLDER|HUB_ID", help="checkpoint (default: a ViT-B/32 with random weights)")
    made.add_argument("--photos", type=Path, metavar="FOLDER", help="JPEG files (default: collages of the bundled drawings)")
    return made


def photos(folder: Path | None) -> list[Path]:
    """JPEG files: those of a folder, or collages at the sizes of photos, made once."""
    if folder is None:
        folder = ARTIFACTS / "collages"
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

    What is below the gate is published all the same: speed is what is measured.
    """
    repository = ARTIFACTS / f"{Path(model).name}-{'-'.join(variants)}"
    where = ["--artifacts", str(ARTIFACTS / "artifacts"), "--repository", str(repository)]
    judged_on = ["--eval", str(photos)] if photos else []
    command = [CLIPSERVE, "export", "--model", model, *where, *judged_on, "--variants", ",".join(variants), "--force", *flags]
    subprocess.run(command, check=True)
    return ARTIFACTS / "artifacts" / Path(model).name, repository


def _draw_collages(folder: Path) -> None:
    """Seeded collages of drawings on coloured noise, about as heavy to decode as photos."""
    folder.mkdir(parents=True)
    draw, drawings = np.random.default_rng(0), sorted(DRAWINGS.glob("*.webp"))
    for n in range(PHOTOS):
        width, height = PHOTO_SIZES[n % len(PHOTO_SIZES)]
        noise = Image.fromarray(draw.integers(0, 256, (height // 8, width // 8, 3), np.uint8)).resize((width, height))
        for _ in range(12):
            drawing = Image.open(drawings[draw.integers(len(drawings))]).convert("RGB").resize((160, 160))
            noise.paste(drawing, (int(draw.integers(width - 100)), int(draw.integers(height - 100))))
        noise.save(folder / f"{n:03}.jpg", quality=90)


def _make_vit_b_32(folder: Path) -> None:
    """Hugging Face's default CLIP configuration with seeded weights and CLIP's own byte pairs."""
    import torch
    from transformers import CLIPConfig, CLIPModel, CLIPTokenizer

    torch.manual_seed(0)
    CLIPModel(CLIPConfig()).save_pretrained(folder)
    codes = [*range(33, 127), *range(161, 173), *range(174, 256)]
    symbols = [chr(code) for code in codes] + [chr(256 + n) for n in range(256 - len(codes))]
    merges = gzip.decompress(VOCABULARY.read_bytes()).decode().split("\n")[1 : 49152 - 256 - 2 + 1]
    pieces = [*symbols, *(f"{one}</w>" for one in symbols), *("".join(merge.split()) for merge in merges)]
    vocabulary = {piece: n for n, piece in enumerate([*pieces, "<|startoftext|>", "<|endoftext|>"])}
    (folder / "vocab.json").write_text(json.dumps(vocabulary, ensure_ascii=False), encoding="utf-8")
    (folder / "merges.txt").write_text("#version: 0.2\n" + "\n".join(merges) + "\n", encoding="utf-8")
    tokenizer = CLIPTokenizer.from_pretrained(folder)
    tokenizer.model_max_length = 77
    tokenizer.save_pretrained(folder)
    mean, std = [0.48145466, 0.4578275, 0.40821073], [0.26862954, 0.26130258, 0.27577711]
    processor = {
        "size": {"shortest_edge": 224},
        "crop_size": {"height": 224, "width": 224},
        "image_mean": mean,
        "image_std": std,
    }
    kind = {"image_processor_type": "CLIPImageProcessor", "resample": 3, "rescale_factor": 1 / 255}
    steps = {f"do_{step}": True for step in ("convert_rgb", "resize", "center_crop", "rescale", "normalize")}
    (folder / "preprocessor_config.json").write_text(json.dumps(kind | processor | steps), encoding="utf-8")
