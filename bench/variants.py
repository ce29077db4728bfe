"""Photos to embeddings as notebooks do it, one after the other through torch or OpenVINO, and through Triton.

python bench/variants.py                                          # a ViT-B/32 with random weights, collages
python bench/variants.py --model openai/clip-vit-base-patch32 --photos FOLDER
"""

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np

from clip_client import Clip, ModelSpec
from clip_client.preprocess import preprocess
from clip_export.evaluation.retrieval import Embeddings, agreement
from clip_export.variants.base import Encoder
from lib.checkpoints import VARIANT, checkpoint, encoder, exported
from lib.options import TURNS, parsed, setting
from lib.plotting import bars
from lib.results import Result, plot_path, publish
from lib.samples import COLLAGES, photos
from lib.serving import served
from lib.tables import Table
from lib.torch_loop import LOOP, TorchLoop
from lib.turns import Timings, Work, in_turns

OURS = "clipserve through Triton, INT8, one call"
ENGINES = {"OpenVINO FP16, one by one": "openvino-fp16", "OpenVINO INT8, one by one": VARIANT}


def main() -> None:
    """Export, serve, take turns, compare."""
    options = parsed(__doc__, {"--rounds": (7, TURNS), "--count": (83, "photos in one turn")})
    model, files = checkpoint(options.model), photos(options.photos)[: options.count]
    published = ("--image-variant", VARIANT, "--text-variant", VARIANT)
    artifacts, repository = exported(model, options.photos, [*ENGINES.values()], *published)
    with served(repository) as server, Clip(server.address) as clip:
        encoders = {name: encoder(artifacts, variant, "image") for name, variant in ENGINES.items()}
        loops: dict[str, Work] = {name: engine_loop(encode, clip.spec, files) for name, encode in encoders.items()}
        torch_loop = TorchLoop(model, files)
        ways: dict[str, Work] = {LOOP: torch_loop, **loops, OURS: lambda: clip.embed_image(files)}
        timings = in_turns(ways, options.rounds, "variants")
        embeddings = {name: np.asarray(work()) for name, work in ways.items()}
    publish(result(timings, embeddings, torch_loop.processor_name, setting(options)))


def engine_loop(encode: Encoder, spec: ModelSpec, files: Sequence[Path]) -> Work:
    """Return the same loop with our preprocessing and an engine in this process."""
    return lambda: np.concatenate([encode(preprocess(file.read_bytes(), spec)[None]) for file in files])


def result(
    timings: Mapping[str, Timings], embeddings: Mapping[str, Embeddings], processor: str, conditions: dict[str, Any]
) -> Result:
    """Return milliseconds a photo, the speed-up over torch, and the nearness to its embeddings."""
    count = embeddings[LOOP].shape[0]
    ms = {name: 1000 * timing.median_s / count for name, timing in timings.items()}
    rows = [(name, ms[name], 1000 / ms[name], ms[LOOP] / ms[name], *nearness(embeddings, name)) for name in timings]
    columns = ("way", "ms a photo", "photos/s", "times as fast", "cosine, mean", "worst", "neighbours kept")
    calibration = "the same photos" if conditions["photos"] != COLLAGES else "the bundled drawings"
    notes = (
        f"{count} photos from JPEG file to embedding: {conditions['model']}, {conditions['photos']}. End to end, clipserve is "
        f"{ms[LOOP] / ms[OURS]:.1f} times as fast as the loop of notebooks.",
        f"The first loop is transformers' own (`{processor}`, `get_image_features`); the OpenVINO loops have our exact "
        "preprocessing. FP16 weights are computed with in FP32. INT8 was calibrated with "
        f"{calibration}. Cosines are to torch's embeddings; "
        "*neighbours kept* is the share of each photo's 10 nearest neighbours in torch's embeddings that it keeps.",
    )
    axis = "milliseconds a photo, decoding included; less is better"
    plot = bars(plot_path("variants"), list(ms), {"ms a photo": list(ms.values())}, axis)
    return Result("variants", "Variants, end to end", notes, [Table(columns, rows)], conditions, [plot])


def nearness(embeddings: Mapping[str, Embeddings], name: str) -> tuple[float, float, float]:
    """Return (mean cosine, worst cosine, neighbours kept), to torch."""
    cosines = (embeddings[name].astype(np.float64) * embeddings[LOOP]).sum(axis=1)
    return float(cosines.mean()), float(cosines.min()), agreement(embeddings[name], embeddings[LOOP])


if __name__ == "__main__":
    main()
