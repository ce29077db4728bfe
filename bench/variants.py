"""Photos to embeddings as notebooks do it, one after the other through torch or OpenVINO, and through Triton.

python bench/variants.py                                          # a ViT-B/32 with random weights, collages
python bench/variants.py --model openai/clip-vit-base-patch32 --photos FOLDER
"""

from __future__ import annotations

import argparse
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import torch
from PIL import Image
from transformers import AutoImageProcessor, AutoModel

from clip_client import Clip, ModelSpec
from clip_client.preprocess import preprocess
from clip_export.evaluation.retrieval import Embeddings, agreement
from clip_export.variants.base import Encoder
from measuring import Timings, Work, in_turns
from plotting import bars
from results import Result, Table, publish
from serving import served
from work import COLLAGES, checkpoint, encoder, exported, parser, photos, setting

TORCH, OURS, SERVED = "transformers + torch, one by one", "clipserve through Triton, INT8, one call", "openvino-int8"
ENGINES = {"OpenVINO FP16, one by one": "openvino-fp16", "OpenVINO INT8, one by one": SERVED}


def main() -> None:
    """Export, serve, take turns, compare."""
    options = parsed()
    model, files = checkpoint(options.model), photos(options.photos)[: options.count]
    published = ("--image-variant", SERVED, "--text-variant", SERVED)
    artifacts, repository = exported(model, options.photos, [*ENGINES.values()], *published)
    with served(repository) as server, Clip(server.address) as clip:
        encoders = {name: encoder(artifacts, variant, "image") for name, variant in ENGINES.items()}
        loops: dict[str, Work] = {name: engine_loop(encode, clip.spec, files) for name, encode in encoders.items()}
        torch_loop = TorchLoop(model, files)
        ways: dict[str, Work] = {TORCH: torch_loop, **loops, OURS: lambda: clip.embed_image(files)}
        timings = in_turns(ways, options.rounds, "variants")
        embeddings = {name: np.asarray(work()) for name, work in ways.items()}
    publish(result(timings, embeddings, torch_loop.processor_name, setting(options)))


def parsed() -> argparse.Namespace:
    """The options."""
    made = parser(__doc__)
    made.add_argument("--count", type=int, default=83, help="photos in one turn (default: %(default)s)")
    made.add_argument("--rounds", type=int, default=7, help="turns of each (default: %(default)s)")
    return made.parse_args()


class TorchLoop:
    """The loop of the notebooks: a photo is opened, processed and embedded before the next."""

    def __init__(self, model: str, files: Sequence[Path]) -> None:
        self._model, self._processor = AutoModel.from_pretrained(model).eval(), AutoImageProcessor.from_pretrained(model)
        self._files = files
        self.processor_name = type(self._processor).__name__

    def __call__(self) -> Embeddings:
        """float32 [N, D], unit length."""
        return np.concatenate([self._embedded(file) for file in self._files])

    def _embedded(self, file: Path) -> Embeddings:
        inputs = self._processor(images=Image.open(file).convert("RGB"), return_tensors="pt")
        with torch.inference_mode():
            return torch.nn.functional.normalize(self._model.get_image_features(**inputs).pooler_output).numpy()


def engine_loop(encode: Encoder, spec: ModelSpec, files: Sequence[Path]) -> Work:
    """The same with our preprocessing and an engine in this process."""
    return lambda: np.concatenate([encode(preprocess(file.read_bytes(), spec)[None]) for file in files])


def result(
    timings: Mapping[str, Timings], embeddings: Mapping[str, Embeddings], processor: str, where: dict[str, Any]
) -> Result:
    """Milliseconds of a photo, how many times as fast as torch, and how near to its embeddings."""
    count = embeddings[TORCH].shape[0]
    ms = {name: 1000 * timing.median_s / count for name, timing in timings.items()}
    rows = [(name, ms[name], 1000 / ms[name], ms[TORCH] / ms[name], *nearness(embeddings, name)) for name in timings]
    columns = ("way", "ms a photo", "photos/s", "times as fast", "cosine, mean", "worst", "neighbours kept")
    notes = (
        f"{count} photos from JPEG file to embedding: {where['model']}, {where['photos']}. End to end, clipserve is "
        f"{ms[TORCH] / ms[OURS]:.1f} times as fast as the loop that notebooks have.",
        f"The first loop is transformers' own (`{processor}`, `get_image_features`); the OpenVINO loops have our exact "
        "preprocessing. FP16 is how weights are stored; they are computed with in FP32. INT8 was calibrated with "
        f"{'the same photos' if where['photos'] != COLLAGES else 'the bundled drawings'}. Cosines are to torch's embeddings; "
        "*neighbours kept* is the share of each photo's ten nearest others that torch finds too.",
    )
    plot = bars(
        "variants", list(ms), {"ms a photo": list(ms.values())}, "milliseconds a photo, decoding included; less is better"
    )
    return Result("variants", "Variants, end to end", notes, [Table(columns, rows)], where, [plot])


def nearness(embeddings: Mapping[str, Embeddings], name: str) -> tuple[float, float, float]:
    """(mean cosine, worst cosine, neighbours kept), to torch."""
    cosines = (embeddings[name].astype(np.float64) * embeddings[TORCH]).sum(axis=1)
    return float(cosines.mean()), float(cosines.min()), agreement(embeddings[name], embeddings[TORCH])


if __name__ == "__main__":
    main()
