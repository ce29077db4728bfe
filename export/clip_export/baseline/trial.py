"""Trial of a changed checkpoint beside its parent: the checks before anything is built, then the figures."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from clip_client.errors import InvalidInput
from clip_client.spec import TOWERS, ModelSpec, Tower
from clip_export import json_record, memory
from clip_export.artifact_files import BASELINE
from clip_export.baseline import candidates, checks, figures
from clip_export.baseline.candidates import Candidates
from clip_export.baseline.clicks import Clicks
from clip_export.baseline.clicks import read as read_clicks
from clip_export.baseline.figures import Figure, Seen
from clip_export.baseline.models import Model
from clip_export.baseline.parent import Parent
from clip_export.checkpoints.lineage import PICTURES, Lineage
from clip_export.evaluation import gate, items
from clip_export.evaluation.gate import Allowed
from clip_export.evaluation.items import Evaluation, Inputs
from clip_export.evaluation.retrieval import Embeddings
from clip_export.progress import Progress

_SAME = 1e-4  # of a number of a unit vector, from two engines in float32; another model's are a hundred times farther


@dataclass(frozen=True)
class Comparison:
    """Result of a trial.

    Attributes:
        parent: spec of the baseline.
        reference: variant that ran the baseline.
        lineage: of the checkpoint, if it has one.
        clicks: rows that were judged, and the books.
        figures: of the clicks, then of the general set.
        notes: facts about the pictures' vectors and the clicks.
    """

    parent: ModelSpec
    reference: str
    lineage: Lineage | None
    clicks: Clicks
    figures: Sequence[Figure]
    notes: Sequence[str]

    @property
    def objections(self) -> list[str]:
        """Reasons not to publish; empty for none."""
        return [figure.objection for figure in self.figures if figure.objection]


@dataclass(frozen=True)
class Sources:
    """Places of what both models are judged on.

    Attributes:
        clicks: file of held-out clicks.
        pictures: folder of the pictures that were shown; None where their vectors lie beside the clicks.
        general: the labelled folder.
    """

    clicks: Path
    pictures: Path | None
    general: Path


@dataclass(frozen=True)
class Trial:
    """A checkpoint and its parent, ready to be judged.

    Attributes:
        this: the checkpoint.
        parent: its parent.
        lineage: of the checkpoint, if it has one.
        sources: of clicks and pictures.
        clicks: those that can be judged.
        stored: vectors of their pictures, for both models; None where each embeds the pictures itself.
        same_pictures: both models make the same vectors of pictures.
    """

    this: Model
    parent: Parent
    lineage: Lineage | None
    sources: Sources
    clicks: Clicks
    stored: Candidates | None
    same_pictures: bool

    @classmethod
    def prepared(cls, this: Model, parent: Parent, lineage: Lineage | None, sources: Sources) -> Trial:
        """Read the clicks, and check all that can be checked before anything is built.

        Raises:
            InvalidInput: a parent of another family, other vectors of pictures than promised, too few clicks, or files that
                can't be used.
        """
        checks.kin(this, parent.model)
        clicks = read_clicks(sources.clicks, parent.model.spec.fingerprint)
        checks.clicks(clicks)
        same = checks.same_pictures(this, parent.model, lineage)
        stored = None
        if sources.pictures:
            clicks = clicks.of(candidates.files(sources.pictures, sorted(clicks.shown)))
        elif same:
            place = sources.clicks.with_name(PICTURES)
            stored = candidates.stored(place)
            checks.vectors(stored, place, parent.model.spec)
            clicks = clicks.of(stored.positions)
        else:
            raise InvalidInput(
                f"{this.spec.checkpoint} has another image tower than the baseline {parent.model.spec.checkpoint}, so "
                f"the vectors beside {sources.clicks} aren't its own: pass --click-pictures FOLDER, which has the pictures"
            )
        checks.clicks(clicks)
        return cls(this, parent, lineage, sources, clicks, stored, same)

    def judged(
        self, evaluation: Evaluation, reference: Mapping[Tower, Embeddings], folder: Path, allowed: Allowed, progress: Progress
    ) -> Comparison:
        """Compare the two models.

        Args:
            evaluation: the general set.
            reference: the checkpoint's embeddings of it by torch.
            folder: of the checkpoint's artefacts; those of the baseline's embeddings are kept there.
            allowed: losses.
            progress: gets a phrase for each piece of the work.

        Raises:
            InvalidInput: if the pictures' vectors aren't the same though the image towers are.
        """
        parents = self._general(evaluation, folder / BASELINE, progress)
        notes = [self._about_pictures(parents["image"], reference["image"]), *self._about_clicks()]
        progress("judging held-out clicks beside the baseline")
        clicks, before, after = self._seen()
        theirs, ours = ((embeddings["image"], embeddings["text"]) for embeddings in (parents, reference))
        scores = [*figures.of_clicks(clicks, before, after), *figures.of_general(evaluation, theirs, ours, allowed)]
        return Comparison(self.parent.model.spec, self.parent.reference, self.lineage, clicks, scores, notes)

    def _general(self, evaluation: Evaluation, place: Path, progress: Progress) -> dict[Tower, Embeddings]:
        """Embed the general set with the parent, or take the embeddings of an earlier run."""
        model = self.parent.model
        if any(model.differing(self.this, tower) for tower in TOWERS):
            own = items.evaluation(self.sources.general, Inputs(model.spec, model.tokenizer_json))
            checks.same_queries(own, evaluation)
            evaluation = own
        embeddings: dict[Tower, Embeddings] = {}
        for tower in TOWERS:
            key = f"{model.spec.fingerprint}/{self.parent.reference}/{evaluation.digest(tower)}"
            record, kept = place / f"{tower}.json", place / f"{tower}.npy"
            if json_record.read(record).get("key") != key or not kept.exists():
                progress(f"embedding with the baseline, {tower} tower")
                encode = model.encoder(tower)
                place.mkdir(parents=True, exist_ok=True)
                np.save(kept, gate.embed(encode, evaluation.inputs(tower)))
                del encode
                memory.give_back()
                json_record.write(record, {"key": key})
            embeddings[tower] = np.load(kept)
        return embeddings

    def _about_pictures(self, theirs: Embeddings, ours: Embeddings) -> str:
        """Return a line on the pictures' vectors; refuse those that differ though they were said to be the same."""
        if not self.same_pictures:
            return "Pictures have other vectors than the baseline's: a collection must be embedded anew"
        off = float(np.abs(theirs - ours).max()) if theirs.shape == ours.shape else np.inf
        if not off <= _SAME:
            raise InvalidInput(
                f"the image towers of {self.this.spec.checkpoint} and the baseline have the same weights, but their vectors of "
                f"a picture of --eval differ by {off:.2g}: compare the settings in both config.json"
            )
        how = "to the bit" if not off else f"within {off:.1g}, float32's rounding"
        return (
            f"Pictures keep the baseline's vectors: the image tower is the same to the bit, {len(ours)} of {len(ours)} vectors "
            f"{how}; collections stay as they are"
        )

    def _about_clicks(self) -> list[str]:
        """Return lines on the clicks."""
        parent = self.parent.model.spec
        corrected = (
            "Each choice counts the inverse of the probability that its place was looked at, as clipserve learn estimated it"
            if self.clicks.weighted
            else f"Clicks aren't corrected for their place: they favour the order of {parent.checkpoint}, which showed them"
        )
        if self.lineage and self.lineage.fingerprint != parent.fingerprint:
            return [
                corrected,
                f"The checkpoint was learned from another one than this baseline (fingerprint {parent.fingerprint})",
            ]
        return [corrected]

    def _seen(self) -> tuple[Clicks, Seen, Seen]:
        """Embed the clicks' texts, and their pictures where no vectors are stored, with both models."""
        clicks, models = self.clicks, (self.parent.model, self.this)
        if self.stored:
            vectors = [self.stored, self.stored]
        else:
            places = candidates.files(self.sources.pictures or Path(), sorted(clicks.shown))
            first = candidates.embedded(places, self.parent.model)
            vectors = [first, first if self.same_pictures else candidates.embedded(places, self.this)]
            clicks = clicks.of(first.positions.keys() & vectors[1].positions.keys())
            checks.clicks(clicks)
        texts = sorted({row.text for row in clicks.rows})
        before, after = (
            Seen(dict(zip(texts, model.texts(texts), strict=True)), pictures)
            for model, pictures in zip(models, vectors, strict=True)
        )
        return clicks, before, after
