"""multilingual-clip: MultilingualCLIP.forward."""

from __future__ import annotations

from collections.abc import Sequence
from functools import cached_property
from types import SimpleNamespace
from typing import Any, ClassVar

import torch
from safetensors.torch import load_file
from torch import nn

from clip_export.checkpoints.checkpoint import Checkpoint
from clip_export.libraries.base import Answer, Library
from clip_export.libraries.hugging_face import LOCAL, unmasked


class MultilingualClip(Library):
    """A text model of Multilingual-CLIP.

    Its constructor downloads the base model's weights, and its loader isn't called by transformers 5. So its ``forward``,
    which tokenises, pools and projects, is run on parts that transformers loads.

    Args:
        checkpoint: of the text tower.
        base: configuration of its base model, one of transformers'.
        length: most tokens of a text; its own tokenizing cuts nothing off.
    """

    distribution: ClassVar[str] = "multilingual-clip"
    uses: ClassVar[tuple[str, ...]] = ("torch", "transformers", "tokenizers")

    def __init__(self, checkpoint: Checkpoint, base: Any, length: int) -> None:
        self._checkpoint = checkpoint
        self._base = base
        self._length = length

    def texts(self, texts: Sequence[str]) -> list[Answer]:
        """Embed texts as its README shows it."""
        from multilingual_clip.pt_multilingual_clip import MultilingualCLIP

        with torch.inference_mode():
            embeddings = MultilingualCLIP.forward(self._parts, [*texts], self._tokens).numpy()
        tokens = unmasked(self._tokens([*texts], padding=True, return_tensors="np"))
        return [Answer(*both) for both in zip(tokens, embeddings, strict=True)]

    def _tokens(self, texts: list[str], **options: Any) -> Any:
        return self._tokenizer(texts, truncation=True, max_length=self._length, **options)

    @cached_property
    def _tokenizer(self) -> Any:
        from transformers import AutoTokenizer

        return AutoTokenizer.from_pretrained(self._checkpoint.folder, **LOCAL)

    @cached_property
    def _parts(self) -> SimpleNamespace:
        """Encoder and projection, under the names that its ``forward`` reads."""
        from transformers import AutoModel

        weights = {name: tensor for file in self._checkpoint.weight_files for name, tensor in load_file(file).items()}
        rows, columns = weights["LinearTransformation.weight"].shape
        linear = nn.Linear(columns, rows)
        encoder = AutoModel.from_config(self._base)  # type: ignore[no-untyped-call]
        for part, name in ((linear, "LinearTransformation."), (encoder, "transformer.")):
            own = {key.removeprefix(name): tensor for key, tensor in weights.items() if key.startswith(name)}
            part.load_state_dict(own, strict=part is linear)
        return SimpleNamespace(transformer=encoder.eval(), LinearTransformation=linear)
