"""Held-out clicks as `clipserve learn` writes them, and checkpoints that were learned: both made here, without learning."""

from __future__ import annotations

import json
import shutil
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import torch
from safetensors.torch import load_file, save_file
from transformers import CLIPModel, CLIPTokenizer

from clip_client import embedded_files
from clip_export.checkpoints.lineage import HELD_OUT, LINEAGE, PICTURES

THINGS = ("cat", "dog", "tree", "car", "sun", "moon", "cup", "hat", "sea", "fish")
TEXTS = [f"{how} {thing}" for how in ("red", "two", "old", "no", "my", "wet") for thing in THINGS]
"""Queries."""

SHOWN = 10


def learned(parent: Path, folder: Path, fingerprint: str, tower: str = "text", **lineage: Any) -> Path:
    """A copy of a checkpoint with other weights in the tower (or in both), and its lineage."""
    shutil.copytree(parent, folder)
    weights = load_file(folder / "model.safetensors")
    parts = ("text_model.", "text_projection") if tower == "text" else ("text_model.", "text_projection", "vision_model.")
    torch.manual_seed(1)
    for name, tensor in weights.items():
        if name.startswith(parts) and tensor.is_floating_point() and tensor.ndim == 2:
            tensor += 0.02 * torch.randn_like(tensor)
    save_file(weights, folder / "model.safetensors", {"format": "pt"})
    parents = {"label": parent.name, "fingerprint": fingerprint}
    (folder / LINEAGE).write_text(json.dumps({"parent": parents, "tower": tower, **lineage}))
    return folder


def embedded(checkpoint: Path, texts: Sequence[str]) -> np.ndarray:
    """Vectors of texts by transformers, float32 [N, D]."""
    model, tokenizer = CLIPModel.from_pretrained(checkpoint).eval(), CLIPTokenizer.from_pretrained(checkpoint)
    with torch.inference_mode():
        tokens = tokenizer(list(texts), padding=True, return_tensors="pt")
        vectors = model.text_projection(model.text_model(**tokens).pooler_output)
    return torch.nn.functional.normalize(vectors, dim=-1).numpy()


def pictures(count: int, size: int, seed: int = 0) -> np.ndarray:
    """Vectors of pictures that nobody has seen, float32 [N, D]."""
    vectors = np.random.default_rng(seed).normal(size=(count, size))
    return (vectors / np.linalg.norm(vectors, axis=1, keepdims=True)).astype(np.float32)


def row(text: str, shown: Sequence[str], chosen: Sequence[int], **fields: Any) -> dict[str, Any]:
    """A row of a feedback export, weighted."""
    plain = {"query_id": text, "text": text, "sources": [None] * len(shown), "marked_wrong": [], "model": "", "space": ""}
    return {**plain, "shown": [*shown], "chosen": [*chosen], "weights": [1.0] * len(chosen), **fields}


def write(path: Path, rows: Sequence[dict[str, Any]]) -> Path:
    """Write rows as a file of clicks."""
    path.parent.mkdir(parents=True, exist_ok=True)
    columns = {name: [row[name] for row in rows] for name in rows[0]}
    positions = pa.list_(pa.int32())
    types = {"chosen": positions, "marked_wrong": positions, "sources": pa.list_(pa.string())}
    pq.write_table(pa.table({name: pa.array(column, types.get(name)) for name, column in columns.items()}), path)
    return path


def write_pictures(path: Path, vectors: np.ndarray, fingerprint: str = "") -> Path:
    """Write vectors whose ids are their numbers."""
    rows = pa.FixedSizeListArray.from_arrays(pa.array(vectors.ravel()), vectors.shape[1])
    table = pa.table({"id": [str(n) for n in range(len(vectors))], "embedding": rows})
    pq.write_table(table.replace_schema_metadata({embedded_files.FINGERPRINT: fingerprint.encode()}), path)
    return path


def held_out(folder: Path, parent: Path, liked_by: Path | None, fingerprint: str) -> Path:
    """Write clicks into a learned checkpoint: on what another checkpoint puts first of ten, or at random."""
    random = np.random.default_rng(0)
    before = embedded(parent, TEXTS)
    vectors = pictures(200, before.shape[1])
    liked = embedded(liked_by, TEXTS) if liked_by else None
    rows = []
    for n, text in enumerate(TEXTS):
        shown = np.argsort(-vectors @ before[n])[:SHOWN]
        chosen = int(np.argmax(vectors[shown] @ liked[n])) if liked is not None else int(random.integers(SHOWN))
        rows.append(row(text, [str(id) for id in shown], [chosen]))
    write(folder / HELD_OUT, rows)
    write_pictures((folder / HELD_OUT).with_name(PICTURES), vectors, fingerprint)
    return folder / HELD_OUT
