"""A CLIP's image tower beside a text tower of another checkpoint that was trained to match it, often in many languages.

Two kinds are known: Multilingual-CLIP (``M-CLIP/XLM-Roberta-Large-Vit-B-32``) and models of sentence-transformers
(``sentence-transformers/clip-ViT-B-32-multilingual-v1``).
"""

from __future__ import annotations

import dataclasses
import hashlib
from collections.abc import Mapping

from clip_client.errors import InvalidInput
from clip_client.spec import ModelSpec, Tower
from clip_export.checkpoints.checkpoint import Checkpoint, Paired
from clip_export.checkpoints.file_names import MODULES
from clip_export.checkpoints.weight_digest import digest, digested
from clip_export.families.base import Family
from clip_export.families.hugging_face import check_padding, check_padding_side, end_token, parsed
from clip_export.families.m_clip import MClip
from clip_export.families.sentence_transformer import SentenceTransformer
from clip_export.families.text_model import TextModel
from clip_export.libraries.base import Library
from clip_export.towers import Towers
from clip_export.towers.text_towers import MaskedTextTower


class Multilingual(Family):
    """The image tower of one checkpoint, of any family, and the text tower of another."""

    def __init__(self, image: Family) -> None:
        self._image = image

    def describe(self, checkpoint: Checkpoint, name: str) -> ModelSpec:
        """Describe the image checkpoint, with the text checkpoint's fields for texts."""
        pair = _paired(checkpoint)
        image, text = self._image.spec(pair.image, name), text_model(pair.text)
        if text.embedding_size != image.embedding_size:
            raise InvalidInput(
                f"{pair.text.label} gives texts {text.embedding_size} dimensions, {pair.image.label} gives images "
                f"{image.embedding_size}: pass the text model that was trained for this image tower"
            )
        end = end_token(parsed(pair), pair.text.label)
        check_padding(pair.tokenizer, "masked", pair.text.label)
        check_padding_side(pair.text)
        pad = pair.tokenizer.pad_token
        return dataclasses.replace(
            image,
            checkpoint=pair.label,
            revision=pair.revision,
            family=f"{image.family}+{text.kind}",
            context_length=text.context_length,
            padding="masked",
            pad_token=end if pad is None else pad,
            end_token=end,
            weights_sha256=hashlib.sha256(f"{image.weights_sha256} {digest(text.weight_files)}".encode()).hexdigest(),
            tokenizer_sha256=pair.tokenizer_sha256,
        )

    def load(self, checkpoint: Checkpoint, spec: ModelSpec) -> Towers:
        """Load the image tower through its family, the text tower through transformers."""
        pair = _paired(checkpoint)
        text = text_model(pair.text)
        tower = MaskedTextTower(text.encoder(), text.pool(), text.projection(), spec)
        return Towers(image=self._image.towers(pair.image, spec).image, text=tower.eval())

    def unsound(self, checkpoint: Checkpoint) -> Mapping[str, str]:
        """Return the flaws of both checkpoints' weights, those of dense layers too."""
        pair = _paired(checkpoint)
        return {**pair.image.unsound_weights, **digested(text_model(pair.text).weight_files).unsound}

    def libraries(self, checkpoint: Checkpoint) -> Mapping[Tower, Library]:
        """Return the image checkpoint's library, and the text model's."""
        pair = _paired(checkpoint)
        return {"image": self._image.libraries(pair.image)["image"], "text": text_model(pair.text).library()}


def text_model(checkpoint: Checkpoint) -> TextModel:
    """Return the text model in a checkpoint's folder.

    Raises:
        InvalidInput: if it is of neither kind.
    """
    if (checkpoint.folder / MODULES).exists():
        return SentenceTransformer(checkpoint)
    if str(checkpoint.config.get("model_type")).lower() == "m-clip":
        return MClip(checkpoint)
    raise InvalidInput(
        f"--text-model {checkpoint.label} is a {checkpoint.config.get('model_type')!r} checkpoint: expected M-CLIP, or a model "
        f"of sentence-transformers (a folder with {MODULES})"
    )


def _paired(checkpoint: Checkpoint) -> Paired:
    assert isinstance(checkpoint, Paired)  # noqa: S101  (families.of chose this family for it)
    return checkpoint
