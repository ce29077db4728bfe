"""One run: inputs, examples, training, a checkpoint in the parent's format with its lineage."""

from __future__ import annotations

import csv
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import torch

from clip_client.counting import counted
from clip_client.errors import InvalidInput
from clip_client.search import Search
from clip_client.token_files import token_in
from clip_export import families
from clip_export.checkpoints.find import find
from clip_export.checkpoints.lineage import HELD_OUT, LEAST_HELD_OUT, LINEAGE, PICTURES
from clip_export.learning import adapters, clicks, curve, examples, feedback_source, replay, weight_places
from clip_export.learning.click_graph import ClickGraph
from clip_export.learning.clicks import Clicks, Origin, Row
from clip_export.learning.examples import Doubles, Judged
from clip_export.learning.lesson import Lesson
from clip_export.learning.options import Options
from clip_export.learning.parent import Parent, embedded_by
from clip_export.learning.pictures import Pictures, fetched
from clip_export.learning.training import Training, embedded
from clip_export.learning.work_folder import WorkFolder, digest, write_json

CURVE, LEFT_OUT = "learning/curve.png", "learning/left_out.csv"
"""In the new checkpoint's folder: the learning curve; the rows that weren't learned from."""

_TOLD = (1, 2, 5, 10, 20, 50, 100)  # positions whose propensities the lineage tells

Say = Callable[[str], None]


@dataclass(frozen=True)
class Split:
    """Feedback of a run: rows to learn from, rows that are held out, and the probability of a look at each position."""

    usable: Clicks
    taught: Sequence[Row]
    held_out: Sequence[Row]
    curve: Doubles

    def books(self) -> dict[str, Any]:
        """Return numbers of rows: read = used + held out + left out."""
        left_out = dict(self.usable.reasons)
        read = len(self.usable.rows) + sum(left_out.values())
        return {"read": read, "used": len(self.taught), "held_out": len(self.held_out), "left_out": left_out}


@dataclass(frozen=True)
class Lessons:
    """Inputs of a run, ready for training.

    Attributes:
        options: of the command.
        parent: checkpoint to learn from.
        table: the feedback as it was read.
        pictures: of the collection.
        split: rows to learn from, and held-out ones.
        replayed: texts that keep their meaning.
        judged: held-out rows with their weights.
    """

    options: Options
    parent: Parent
    table: pa.Table
    pictures: Pictures
    split: Split
    replayed: replay.Replay
    judged: Sequence[Judged]


def learn(options: Options, say: Say) -> dict[str, Any]:
    """Learn as the options say; return the lineage of the new checkpoint.

    Raises:
        InvalidInput: if an input can't be used, or there is too little to learn from.
        ContractMismatch: if the collection is of another model.
        Unavailable: if the sidecar can't be reached.
    """
    parent = Parent.of(options.checkpoint)
    work = WorkFolder(options.output)
    with work.begun(_identity(options, parent)):
        lessons = _lessons(options, parent, work)
        say(_told(lessons.split, options))
        training = _training(lessons, work.state)
        training.run()
        adapters.settled(parent.towers.text)
        result = work.fresh_result()
        weight_places.write(parent.checkpoint, _changed(parent), result)
        _refuse_other(parent, result)
        lineage = _lineage(lessons, training)
        _add_files(result, lessons, training)
        write_json(result / LINEAGE, lineage)
        work.finish()
    return lineage


def _lessons(options: Options, parent: Parent, work: WorkFolder) -> Lessons:
    """Read the inputs, and divide the feedback."""
    table, pictures = _inputs(options, parent, work)
    split = _split(options, parent, table, pictures)
    judged = examples.judged(split.held_out, pictures, split.curve)
    return Lessons(options, parent, table, pictures, split, replay.texts(options.replay, pictures), judged)


def _identity(options: Options, parent: Parent) -> dict[str, Any]:
    """Return all that a result depends on, and that can be told before the inputs are read."""
    settings = _settings(options, parent) | {"collection": options.collection, "weights": parent.checkpoint.weights_sha256}
    return settings | {"--feedback": digest(options.feedback), "--replay": digest(options.replay)}


def _settings(options: Options, parent: Parent) -> dict[str, Any]:
    names = ("tower", "adapter", "position_correction", "held_out", "steps", "seed")
    return {name: getattr(options, name) for name in names} | {"rate": _rate(options, parent)}


def _rate(options: Options, parent: Parent) -> float:
    return options.rate or adapters.usual_rate(parent.towers.text)


def _inputs(options: Options, parent: Parent, work: WorkFolder) -> tuple[pa.Table, Pictures]:
    """Read feedback and pictures, or take them as the run began with them."""
    token = token_in(options.token_file) if options.token_file else None
    with Search(options.url, token=token) as search:
        table = feedback_source.kept(options.feedback, search, options.collection, work.feedback)
        if not work.pictures.exists():
            shown = {id for ids in table["shown"].to_pylist() for id in ids or () if id}
            found = fetched(search, options.collection, shown, parent.spec)
            new = work.pictures.with_suffix(".new")
            found.write(new, parent.spec.fingerprint)
            new.replace(work.pictures)
    return table, Pictures.read(work.pictures)


def _split(options: Options, parent: Parent, table: pa.Table, pictures: Pictures) -> Split:
    """Divide the rows by their query, and estimate propensities from those that are learned from."""
    about = parent.about()
    usable = clicks.usable(table, Origin(about["fingerprint"], about["space"]), pictures.numbers)
    kept = [clicks.is_held_out(row.topic, options.held_out, options.seed) for row in usable.rows]
    taught = [row for row, held in zip(usable.rows, kept, strict=True) if not held]
    held_out = [row for row, held in zip(usable.rows, kept, strict=True) if held]
    try:
        examples.refuse_too_few(taught, held_out)
    except InvalidInput as problem:
        told = "".join(f"; {count} left out: {reason}" for reason, count in usable.reasons.items())
        raise InvalidInput(f"{problem} ({counted(table.num_rows, 'row')} read{told})") from problem
    curve = np.ones(1)
    if options.position_correction:
        curve = examples.propensities_of(taught, pictures, partial(embedded, parent.embed))
    return Split(usable, taught, held_out, curve)


def _told(split: Split, options: Options) -> str:
    """Return the books in a line, with a remark on held-out queries if they won't do for a judge."""
    books = split.books()
    reasons = "".join(f"; {count} left out: {reason}" for reason, count in split.usable.reasons.items())
    queries = len({row.topic for row in split.held_out if row.chosen})
    line = f"{counted(books['read'], 'row')} read, {books['used']} to learn from, {books['held_out']} held out{reasons}"
    if queries >= LEAST_HELD_OUT:
        return line
    return (
        f"{line}\nonly {counted(queries, 'held-out query', 'held-out queries')}: clipserve export --baseline needs "
        f"{LEAST_HELD_OUT} to judge; collect more feedback, or raise --held-out from {options.held_out:g}"
    )


def _training(lessons: Lessons, state: Path) -> Training:
    """Set up the training of the text tower."""
    options, parent, replayed = lessons.options, lessons.parent, lessons.replayed
    anchors = torch.from_numpy(embedded(parent.embed, replayed.texts).copy())
    taught = examples.examples(lessons.split.taught, lessons.pictures, lessons.split.curve)
    vectors = torch.from_numpy(lessons.pictures.vectors)
    lesson = Lesson(taught, replayed, ClickGraph.of(taught, replayed, len(vectors)), anchors, vectors, options.seed)
    parameters = adapters.trainable(parent.towers.text, options.adapter, options.seed)
    return Training(parent.embed, parameters, lesson, lessons.judged, options.steps, _rate(options, parent), state)


def _changed(parent: Parent) -> dict[str, torch.Tensor]:
    """Return the text tower's weights by their names in the files."""
    return {parent.places[name]: value.detach() for name, value in parent.towers.text.named_parameters()}


def _refuse_other(parent: Parent, folder: Path) -> None:
    """Read the written checkpoint again, and refuse it if it embeds otherwise than the tower that was trained."""
    again = find(str(folder), None)
    family = families.of(again)
    towers = family.towers(again, family.spec(again, parent.spec.name))
    texts = ["a", "two words", "a longer text, with a comma"]
    with torch.inference_mode():
        written, trained = embedded_by(towers.text, parent.tokenizer, texts), parent.embed(texts)
    stored = towers.image.state_dict()
    same = all(torch.equal(value, stored[name]) for name, value in parent.towers.image.state_dict().items())
    if not same or float((written * trained).sum(1).min()) < 1 - 1e-3:
        raise InvalidInput(
            f"{parent.spec.checkpoint}: what was written embeds otherwise than what was learned: tune this checkpoint with its "
            "own library"
        )


def _lineage(lessons: Lessons, training: Training) -> dict[str, Any]:
    """Return what the new checkpoint comes from."""
    options, split = lessons.options, lessons.split
    looked_at = {str(k): round(float(split.curve[k - 1]), 4) for k in _TOLD if k <= len(split.curve)}
    queries = {name: len({row.topic for row in rows}) for name, rows in (("used", split.taught), ("held_out", split.held_out))}
    gains = {"before": training.points[0].held_out, "after": training.points[-1].held_out} if lessons.judged else {}
    choices, meant = sum(len(row.chosen) for row in split.taught), sum(example.meant for example in training.lesson.examples)
    return {
        "parent": lessons.parent.about(),
        "tower": options.tower,
        "collection": options.collection,
        "rows": split.books(),
        "queries": queries,
        "settings": _settings(options, lessons.parent),
        "replay": {"source": lessons.replayed.source, "texts": len(lessons.replayed.texts)},
        "propensities": looked_at,
        "stray_choices": round(1 - meant / choices, 4),
        "held_out_gain": gains,
    }


def _add_files(folder: Path, lessons: Lessons, training: Training) -> None:
    """Write held-out rows with their weights, the pictures' vectors, the books and the learning curve."""
    (folder / HELD_OUT).parent.mkdir()
    judged, spec = lessons.judged, lessons.parent.spec
    rows = lessons.table.take(pa.array([row.row.number for row in judged], pa.int64()))
    chosen = pa.array([list(row.chosen) for row in judged], pa.list_(pa.int32()))
    weights = pa.array([list(row.weights) for row in judged], pa.list_(pa.float64()))
    rows = rows.set_column(rows.column_names.index("chosen"), "chosen", chosen).append_column("weights", weights)
    pq.write_table(rows, folder / HELD_OUT)
    lessons.pictures.write((folder / HELD_OUT).with_name(PICTURES), spec.fingerprint)
    with (folder / LEFT_OUT).open("w", newline="", encoding="utf-8") as file:
        writer = csv.writer(file)
        writer.writerow(["row", "query_id", "reason"])
        writer.writerows([row.number, row.query_id, row.reason] for row in lessons.split.usable.left_out)
    curve.save(training.points, f"{spec.checkpoint}, {training.steps} steps", folder / CURVE)
