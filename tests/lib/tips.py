"""A small TIPS v2, beside its library where torchvision can be imported: ``python tips.py FOLDER``.

Its image processor exists for torchvision alone, which the other tests' transformers doesn't find (see ``open_clips``).
"""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path
from typing import Any

import torch

SIZE = 56


def verdicts(folder: Path) -> dict[str, Any]:
    """Run this file: the fields of the oracle's verdict on each tower, and the cosines of ONNX to torch."""
    import open_clips

    open_clips.library()
    packages = Path(sys.prefix) / f"open-clip-{open_clips.REQUIREMENTS[0].partition('==')[2]}"
    paths = os.pathsep.join([*filter(None, sys.path), str(packages)])
    environment = {**os.environ, "PYTHONPATH": paths}
    run = subprocess.run(
        [sys.executable, __file__, str(folder)], check=True, env=environment, stdout=subprocess.PIPE, text=True
    )
    return dict(json.loads(run.stdout.splitlines()[-1]))


def make(folder: Path) -> Path:
    """Like google/tipsv2-b14 as transformers saves it: no end token, lower case, two class tokens."""
    import transformers
    from other_checkpoints import CORPUS
    from tokenizers import Tokenizer, normalizers, pre_tokenizers, trainers
    from tokenizers.models import BPE

    learnt = Tokenizer(BPE(byte_fallback=True, fuse_unk=True))
    learnt.normalizer = normalizers.Lowercase()
    learnt.pre_tokenizer = pre_tokenizers.Metaspace(replacement="▁", prepend_scheme="always")
    special = ["<pad>", "<unk>", *(f"<0x{byte:02X}>" for byte in range(256))]
    learnt.train_from_iterator(CORPUS, trainers.BpeTrainer(vocab_size=420, special_tokens=special))
    learned = json.loads(learnt.to_str())["model"]
    merges = [tuple(pair) for pair in learned["merges"]]
    tokenizer = transformers.Tipsv2Tokenizer(vocab=learned["vocab"], merges=merges, model_max_length=64)
    tokenizer.save_pretrained(folder)
    narrow = {"hidden_size": 32, "num_hidden_layers": 2, "num_attention_heads": 4}
    config = transformers.Tipsv2Config(
        text_config={**narrow, "intermediate_size": 64, "vocab_size": len(tokenizer)},
        vision_config={**narrow, "image_size": SIZE, "patch_size": 14},
    )
    torch.manual_seed(0)
    transformers.Tipsv2Model(config).save_pretrained(folder)
    size = {"height": SIZE, "width": SIZE}
    (folder / "preprocessor_config.json").write_text(json.dumps({"image_processor_type": "Tipsv2ImageProcessor", "size": size}))
    return folder


def _onnx(folder: Path) -> float:
    """Return the least cosine of a text in ONNX to torch, alone and beside a longer one."""
    import numpy as np

    from clip_export import families
    from clip_export.checkpoints.find import find
    from clip_export.variants.base import Artefact, Source
    from clip_export.variants.onnx_fp32 import OnnxFp32

    checkpoint = find(str(folder), None)
    family = families.of(checkpoint)
    spec = family.spec(checkpoint, "clip")
    module = family.towers(checkpoint, spec).text
    nothing: Any = None
    (built := folder / "onnx").mkdir()
    OnnxFp32().build(Source("text", spec, lambda: module, nothing, nothing, nothing), built)
    encode = OnnxFp32().load(Artefact(built, "text", nothing))
    end, pad = spec.end_token, spec.pad_token
    rows = np.array([[300, 301, end, pad, pad], [300, 301, 302, 303, end]], np.int32)
    with torch.inference_mode():
        expected = module(torch.from_numpy(rows)).numpy()
    alone = np.concatenate([encode(rows[:1, :3]), encode(rows[1:])])
    return float(min((alone * expected).sum(axis=1).min(), (encode(rows) * expected).sum(axis=1).min()))


def _main(folder: Path) -> None:
    for operator in ("nms", "qnms"):  # torchvision's wheel beside a torch for CPUs, as in open_clips
        torch.library.define(f"torchvision::{operator}", "(Tensor dets, Tensor scores, float iou_threshold) -> Tensor")
    from dataclasses import asdict

    from test_oracle import compared

    make(folder / "tips")
    towers = {tower: asdict(verdict) for tower, verdict in compared(["--model", str(folder / "tips")], folder / "made").items()}
    print(json.dumps({**towers, "onnx": _onnx(folder / "tips")}))


if __name__ == "__main__":
    _main(Path(sys.argv[1]))
