"""A text tower in many languages, trained to meet the texts of some CLIP, beside the image tower of that CLIP.

Two kinds are known: Multilingual-CLIP (``M-CLIP/XLM-Roberta-Large-Vit-B-32``) and models of sentence-transformers
(``sentence-transformers/clip-ViT-B-32-multilingual-v1``).
"""

from __future__ import annotations

import dataclasses
import hashlib
from collections.abc import Mapping
from typing import TYPE_CHECKING

from clip_client.errors import InvalidInput
from clip_client.spec import ModelSpec, Tower
from clip_export.checkpoint import Checkpoint, Paired, digest
from clip_export.families.base import Family
from clip_export.families.hugging_face import check_padding, end_token, parsed
from clip_export.families.text_models import text_model

if TYPE_CHECKING:
    from clip_export.libraries.base import Library
    from clip_export.towers import Towers


class Multilingual(Family):
    """The image tower of one checkpoint, of any family, and the text tower of another."""

    def __init__(self, image: Family) -> None:
        self._image = image

    def describe(self, checkpoint: Checkpoint, name: str) -> ModelSpec:
        """The image checkpoint's, with what the text checkpoint says of texts."""
        pair = _paired(checkpoint)
        image, text = self._image.spec(pair.image, name), text_model(pair.text)
        if text.embedding_size != image.embedding_size:
            raise InvalidInput(
                f"{pair.text.label} gives texts {text.embedding_size} dimensions, {pair.image.label} gives images "
                f"{image.embedding_size}: pass the text model that was trained for this image tower"
            )
        end = end_token(parsed(pair), pair.text.label)
        check_padding(pair.tokenizer, "masked", pair.text.label)
        _check_side(pair)
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
            tokenizer_sha256=hashlib.sha256(pair.tokenizer_json.encode()).hexdigest(),
        )

    def load(self, checkpoint: Checkpoint, spec: ModelSpec) -> Towers:
        """Load the one through its family, the other through transformers."""
        from clip_export.towers import MaskedTextTower, Towers

        pair = _paired(checkpoint)
        text = text_model(pair.text)
        tower = MaskedTextTower(text.encoder(), text.pool(), text.projection(), spec)
        return Towers(image=self._image.towers(pair.image, spec).image, text=tower.eval())

    def libraries(self, checkpoint: Checkpoint) -> Mapping[Tower, Library]:
        """The image checkpoint's library, and the text model's."""
        pair = _paired(checkpoint)
        return {"image": self._image.libraries(pair.image)["image"], "text": text_model(pair.text).library()}


def _check_side(pair: Paired) -> None:
    """Raise InvalidInput where a text's positions would depend on its batch, which these libraries make themselves."""
    if pair.tokenizer.padding_side != "right":
        raise InvalidInput(
            f"{pair.text.label}: the tokenizer pads texts at the start, the text tower was trained with padding at the end: "
            'set "padding_side": "right" in tokenizer_config.json'
        )


def _paired(checkpoint: Checkpoint) -> Paired:
    assert isinstance(checkpoint, Paired)  # noqa: S101  (families.of chose this family for it)
    return checkpoint
