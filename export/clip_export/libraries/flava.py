"""transformers' FLAVA: get_image_features and get_text_features, which project all positions."""

from __future__ import annotations

import dataclasses
from collections.abc import Sequence

from clip_export.libraries.base import Answer
from clip_export.libraries.hugging_face import Transformers


class FlavaLibrary(Transformers):
    """A FLAVA of transformers, at the first position, which ``FlavaForPreTraining`` compares pictures and texts by."""

    def pictures(self, files: Sequence[bytes]) -> list[Answer]:
        """Embed pictures."""
        return [_at_first(answer) for answer in super().pictures(files)]

    def texts(self, texts: Sequence[str]) -> list[Answer]:
        """Embed texts."""
        return [_at_first(answer) for answer in super().texts(texts)]


def _at_first(answer: Answer) -> Answer:
    return dataclasses.replace(answer, embedding=answer.embedding[0])
