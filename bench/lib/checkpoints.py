"""Checkpoints under test: a ViT-B/32 with random weights or the user's, its variants, its towers in this process."""

import gzip
import json
import subprocess
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from torch import nn

from clip_client.spec import ModelSpec, Tower
from clip_client.tokens import Tokenizer
from clip_export import families
from clip_export.checkpoints.find import find
from clip_export.towers import Towers
from clip_export.variants import REFERENCE, named
from clip_export.variants.base import Artefact, Encoder
from lib.samples import ARTIFACTS, ROOT
from lib.serving import CLIPSERVE

VARIANT = "openvino-int8"  # variant that benches of a server publish: the fastest on CPUs without bfloat16
VOCABULARY = ROOT / "tests" / "data" / "bpe_simple_vocab_16e6.txt.gz"


def checkpoint(given: str | None) -> str:
    """Return the checkpoint given, or the folder of a ViT-B/32 with seeded random weights, which is made once.

    Random weights are as fast as trained ones.
    """
    folder = ARTIFACTS / "vit-b-32"
    if given is None and not (folder / "preprocessor_config.json").exists():
        _make_vit_b_32(folder)
    return given or str(folder)


def exported(model: str, photos: Path | None, variants: Sequence[str] = (VARIANT,), *flags: str) -> tuple[Path, Path]:
    """Export variants of a checkpoint, unless it was done before; return the folders of artifacts and model repository.

    int8 is calibrated with the photos. Variants below the gate are published too: benches measure speed.
    """
    slug = find(model, None).slug
    repository = ARTIFACTS / f"{slug}-{'-'.join(variants)}"
    folders = ["--artifacts", str(ARTIFACTS / "artifacts"), "--repository", str(repository)]
    calibration = ["--calibration", str(photos)] if photos else []
    command = [str(CLIPSERVE), "export", "--model", model, *folders, *calibration, "--variants", ",".join(variants), "--force"]
    subprocess.run([*command, *flags], check=True)
    return ARTIFACTS / "artifacts" / slug, repository


def encoder(artifacts: Path, variant: str, tower: Tower) -> Encoder:
    """Open an exported variant in this process; torch itself is :meth:`Loaded.encoder`."""
    return named(variant).load(Artefact(artifacts / variant / tower, tower, nn.Module))


@dataclass(frozen=True)
class Loaded:
    """Checkpoint in this process: its spec, its tokenizer, its towers in torch."""

    spec: ModelSpec
    tokenizer: Tokenizer
    towers: Towers

    def encoder(self, tower: Tower) -> Encoder:
        """Return the tower in torch, float32."""
        return REFERENCE.load(Artefact(Path(), tower, lambda: self.towers[tower]))


def loaded(model: str) -> Loaded:
    """Load a checkpoint."""
    files = find(model, None)
    family = families.of(files)
    spec = family.spec(files, "clip")
    return Loaded(spec, Tokenizer(files.tokenizer_json, spec), family.towers(files, spec))


def _make_vit_b_32(folder: Path) -> None:
    """Write Hugging Face's default CLIP configuration with seeded weights, CLIP's own byte pairs and preprocessing."""
    import torch
    from transformers import CLIPConfig, CLIPModel, CLIPTextConfig, CLIPTokenizer
    from transformers.models.clip.image_processing_pil_clip import CLIPImageProcessorPil

    torch.manual_seed(0)
    CLIPModel(CLIPConfig()).save_pretrained(folder)
    text = CLIPTextConfig()  # which is also part of the default CLIPConfig
    _write_vocabulary(folder, text.vocab_size)
    tokenizer = CLIPTokenizer.from_pretrained(folder)
    tokenizer.model_max_length = text.max_position_embeddings
    tokenizer.save_pretrained(folder)
    CLIPImageProcessorPil().save_pretrained(folder)


def _write_vocabulary(folder: Path, size: int) -> None:
    """Write CLIP's byte pairs as ``vocab.json`` and ``merges.txt``."""
    codes = [*range(33, 127), *range(161, 173), *range(174, 256)]
    symbols = [chr(code) for code in codes] + [chr(256 + n) for n in range(256 - len(codes))]
    count = size - 2 * len(symbols) - 2
    merges = gzip.decompress(VOCABULARY.read_bytes()).decode().split("\n")[1 : count + 1]
    pieces = [*symbols, *(f"{symbol}</w>" for symbol in symbols), *("".join(merge.split()) for merge in merges)]
    vocabulary = {piece: n for n, piece in enumerate([*pieces, "<|startoftext|>", "<|endoftext|>"])}
    (folder / "vocab.json").write_text(json.dumps(vocabulary, ensure_ascii=False), encoding="utf-8")
    (folder / "merges.txt").write_text("#version: 0.2\n" + "\n".join(merges) + "\n", encoding="utf-8")
