"""Retrieval by variant: pictures by one, two and three labels, captions by picture, pictures by picture.

python bench/retrieval.py                                                       # the bundled checkpoint and pictures
python bench/retrieval.py --model openai/clip-vit-base-patch32 --photos FOLDER  # which has captions, as for the export
"""

from collections.abc import Mapping
from pathlib import Path
from typing import Any

from clip_client.progress_bars import ProgressBar

from clip_export.evaluation.gate import embed
from clip_export.evaluation.retrieval import ranks
from clip_export.variants import REFERENCE, named
from clip_export.variants.base import Encoder
from lib.checkpoints import Loaded, encoder, exported, loaded
from lib.options import parsed, setting
from lib.plotting import bars
from lib.results import Result, plot_path, publish
from lib.retrieval_tasks import Inputs, Task, read
from lib.samples import DRAWINGS
from lib.tables import Table

EMOJI = DRAWINGS.parent / "emoji-clip"
VARIANTS = ("torch-fp32", "onnx-fp32", "openvino-fp16", "openvino-bf16", "openvino-int8", "onnx-int8")
KS, SEED = (1, 10), 0

Scores = Mapping[str, Mapping[int, float]]  # recall by task and k


def main() -> None:
    """Export, embed with each variant, score."""
    options = parsed(__doc__)
    folder, model = options.photos or DRAWINGS, options.model or str(EMOJI)
    artifacts, _ = exported(model, None, VARIANTS, "--eval", str(folder))
    checkpoint = loaded(model)
    inputs, tasks = read(folder, checkpoint, SEED)
    obstacles = {name: reason for name in VARIANTS if (reason := named(name).obstacle())}
    scores: dict[str, Scores] = {}
    for name in ProgressBar([name for name in VARIANTS if name not in obstacles], desc="variants", unit=""):
        scores[name] = scored(name, artifacts, checkpoint, inputs, tasks)
    publish(result(scores, obstacles, tasks, setting(options, "emoji-clip", "the bundled drawings") | {"seed": SEED}))


def scored(name: str, artifacts: Path, checkpoint: Loaded, inputs: Mapping[str, Inputs], tasks: Mapping[str, Task]) -> Scores:
    """Embed all inputs with both towers of a variant; return the recalls of each task."""
    embeddings = {}
    for name_of_input, each in inputs.items():
        tower = "image" if each.ndim == 4 else "text"
        encode: Encoder = checkpoint.encoder(tower) if name == REFERENCE.name else encoder(artifacts, name, tower)
        embeddings[name_of_input] = embed(encode, each)
    by_task = {task: ranks(embeddings[each.queries], embeddings[each.items], each.relevant) for task, each in tasks.items()}
    return {task: {k: float((rank < k).mean()) for k in KS} for task, rank in by_task.items()}


def result(
    scores: Mapping[str, Scores], obstacles: Mapping[str, str], tasks: Mapping[str, Task], conditions: dict[str, Any]
) -> Result:
    """Return a table for each k, and a plot of the recall at the first place."""
    queries = ", ".join(f"{name}: {task.relevant.shape[0]:,} among {task.relevant.shape[1]:,}" for name, task in tasks.items())
    lost = {task: max(100 * (scores[REFERENCE.name][task][1] - each[task][1]) for each in scores.values()) for task in tasks}
    worst = max(lost, key=lambda task: lost[task])
    notes = (
        f"Share of queries with a right hit at the first place, and among the first {KS[1]}, each variant with both of its "
        f"towers: {conditions['model']}, {conditions['photos']}. Queries: {queries}. The largest loss to torch at the first "
        f"place is {lost[worst]:.1f} points ({worst}).",
        "Labels are keywords, or captions where a folder has only those, joined by spaces; every picture with all of them is "
        "right. *image → image* looks for the bundled drawings with another set's drawings of the same things; in "
        "other folders for a picture with its own middle.",
        *(f"{name} can't run here: {reason}." for name, reason in obstacles.items()),
    )
    rows = {k: [(name, *(each[task][k] for task in tasks)) for name, each in scores.items()] for k in KS}
    tables = [Table((f"found among the first {k}" if k > 1 else "found first", *tasks), rows[k]) for k in KS]
    series = {name: [each[task][1] for task in tasks] for name, each in scores.items()}
    plot = bars(plot_path("retrieval"), [*tasks], series, "share of queries that find it first")
    return Result("retrieval", "Retrieval by variant", notes, tables, conditions, [plot])


if __name__ == "__main__":
    main()
