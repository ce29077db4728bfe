"""What each variant finds: pictures by one, two and three labels, captions by picture, pictures by picture.

python bench/retrieval.py                                                       # the bundled checkpoint and pictures
python bench/retrieval.py --model openai/clip-vit-base-patch32 --photos FOLDER  # which has captions, as for the export
"""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

from tqdm import tqdm

from clip_export.evaluation.gate import embed
from clip_export.evaluation.retrieval import ranks
from clip_export.variants import REFERENCE, named
from clip_export.variants.base import Encoder
from plotting import bars
from results import Result, Table, publish
from tasks import Inputs, Task, read
from work import DRAWINGS, Loaded, encoder, exported, loaded, parser, setting

EMOJI = DRAWINGS.parent / "emoji-clip"
VARIANTS = ("torch-fp32", "onnx-fp32", "openvino-fp16", "openvino-bf16", "openvino-int8", "onnx-int8")
KS, SEED = (1, 10), 0

Scores = Mapping[str, Mapping[int, float]]
"""Recall by task and k."""


def main() -> None:
    """Export, embed with each variant, score."""
    options = parser(__doc__).parse_args()
    folder, model = options.photos or DRAWINGS, options.model or str(EMOJI)
    artifacts, _ = exported(model, None, VARIANTS, "--eval", str(folder))
    checkpoint = loaded(model)
    inputs, tasks = read(folder, checkpoint, SEED)
    obstacles = {name: reason for name in VARIANTS if (reason := named(name).obstacle())}
    found: dict[str, Scores] = {}
    for name in tqdm([name for name in VARIANTS if name not in obstacles], desc="variants", unit=""):
        found[name] = scored(name, artifacts, checkpoint, inputs, tasks)
    publish(result(found, obstacles, tasks, setting(options, "emoji-clip", "the bundled drawings") | {"seed": SEED}))


def scored(name: str, artifacts: Path, checkpoint: Loaded, inputs: Mapping[str, Inputs], tasks: Mapping[str, Task]) -> Scores:
    """Embed everything with both towers of a variant; recalls of each task."""
    embeddings = {}
    for what, each in inputs.items():
        tower = "image" if each.ndim == 4 else "text"
        encode: Encoder = checkpoint.encoder(tower) if name == REFERENCE.name else encoder(artifacts, name, tower)
        embeddings[what] = embed(encode, each)
    found = {what: ranks(embeddings[task.queries], embeddings[task.items], task.wanted) for what, task in tasks.items()}
    return {what: {k: float((rank < k).mean()) for k in KS} for what, rank in found.items()}


def result(
    found: Mapping[str, Scores], obstacles: Mapping[str, str], tasks: Mapping[str, Task], where: dict[str, Any]
) -> Result:
    """A table for each k, and the loss to torch as a plot."""
    queries = ", ".join(f"{name}: {task.wanted.shape[0]:,} among {task.wanted.shape[1]:,}" for name, task in tasks.items())
    lost = {task: max(100 * (found[REFERENCE.name][task][1] - each[task][1]) for each in found.values()) for task in tasks}
    worst = max(lost, key=lambda task: lost[task])
    notes = (
        f"Share of queries that find what they should at the first place, and among the first {KS[1]}, each variant with both "
        f"of its towers: {where['model']}, {where['photos']}. Queries: {queries}. The most that any loses to torch at the "
        f"first place are {lost[worst]:.1f} points ({worst}).",
        "Labels are keywords, or captions where a folder has only those, joined by spaces; every picture that carries all of "
        "them is right. *image → image* looks for the bundled drawings with another set's drawings of the same things; in "
        "other folders for a picture with its own middle.",
        *(f"{name} can't run here: {reason}." for name, reason in obstacles.items()),
    )
    rows = {k: [(name, *(each[task][k] for task in tasks)) for name, each in found.items()] for k in KS}
    tables = [Table((f"found among the first {k}" if k > 1 else "found first", *tasks), rows[k]) for k in KS]
    series = {name: [each[task][1] for task in tasks] for name, each in found.items()}
    plot = bars("retrieval", [*tasks], series, "share of queries that find it first")
    return Result("retrieval", "Retrieval by variant", notes, tables, where, [plot])


if __name__ == "__main__":
    main()
