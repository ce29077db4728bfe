"""transformers' TIPS v2, whose tokenizer ends texts with nothing."""

from __future__ import annotations

import dataclasses

import numpy as np

from clip_export.libraries.base import Answer
from clip_export.libraries.hugging_face import Transformers


class TipsV2Library(Transformers):
    """A TIPS v2 of transformers."""

    def _batch(self, texts: list[str]) -> list[Answer]:
        """Embed texts; what is given to the model gets the end that ours has.

        Raises:
            ValueError: for a text without tokens, whose mean over nothing is a vector of zeros.
        """
        if not all(self._tokenizer(text)["input_ids"] for text in texts):
            raise ValueError("a text without tokens has no embedding")
        end = self._tokenizer.pad_token_id
        return [dataclasses.replace(answer, given=np.append(answer.given, end)) for answer in super()._batch(texts)]
