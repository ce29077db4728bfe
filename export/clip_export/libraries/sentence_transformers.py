"""sentence-transformers: SentenceTransformer.encode."""

from __future__ import annotations

from collections.abc import Sequence
from functools import cached_property
from pathlib import Path
from typing import Any, ClassVar

from clip_export.libraries.base import Answer, Library
from clip_export.libraries.hugging_face import LOCAL, unmasked, without_progress


class SentenceTransformers(Library):
    """A text model of sentence-transformers."""

    distribution: ClassVar[str] = "sentence-transformers"
    uses: ClassVar[tuple[str, ...]] = ("torch", "transformers", "tokenizers")

    def __init__(self, folder: Path) -> None:
        self._folder = folder

    def texts(self, texts: Sequence[str]) -> list[Answer]:
        """Embed texts as its README shows it."""
        embeddings = self._model.encode([*texts], convert_to_numpy=True, show_progress_bar=False)
        tokens = unmasked(self._model.preprocess([*texts]))
        return [Answer(*both) for both in zip(tokens, embeddings, strict=True)]

    @cached_property
    def _model(self) -> Any:
        from sentence_transformers import SentenceTransformer

        without_progress()
        return SentenceTransformer(
            str(self._folder), device="cpu", model_kwargs={"use_safetensors": True, "dtype": "float32"}, **LOCAL
        )
