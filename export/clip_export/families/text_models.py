"""Text encoders in many languages: how each kind is stored, pooled and projected."""

from __future__ import annotations

from abc import ABC, abstractmethod
from functools import cached_property
from pathlib import Path
from typing import TYPE_CHECKING, Any

from clip_client.errors import InvalidInput, Unavailable
from clip_export.checkpoint import Checkpoint
from clip_export.families.hugging_face import context_length

if TYPE_CHECKING:
    from torch import nn

    from clip_export.libraries.base import Library
    from clip_export.reading import Pool

POOLER = "pooler."  # of a bare BERT; none of these models reads it


def text_model(checkpoint: Checkpoint) -> TextModel:
    """The text model in a checkpoint's folder.

    Raises:
        InvalidInput: it is none of those known.
    """
    if (checkpoint.folder / "modules.json").exists():
        from clip_export.families.sentence_transformer import SentenceTransformer

        return SentenceTransformer(checkpoint)
    if str(checkpoint.config.get("model_type")).lower() == "m-clip":
        return MClip(checkpoint)
    raise InvalidInput(
        f"--text-model {checkpoint.label} is a {checkpoint.config.get('model_type')!r} checkpoint: expected M-CLIP, or a model "
        "of sentence-transformers (a folder with modules.json)"
    )


class TextModel(ABC):
    """A text encoder of transformers, a way to pool, and a projection.

    Attributes:
        kind: which of the two.
    """

    kind: str

    def __init__(self, checkpoint: Checkpoint) -> None:
        self.checkpoint = checkpoint

    @property
    def weight_files(self) -> list[Path]:
        """All of them."""
        return self.checkpoint.weight_files

    @property
    @abstractmethod
    def embedding_size(self) -> int:
        """D, behind the projection."""

    @property
    @abstractmethod
    def context_length(self) -> int:
        """Most tokens of a text."""

    @abstractmethod
    def encoder(self) -> nn.Module:
        """Load the encoder."""

    @abstractmethod
    def pool(self) -> Pool:
        """How hidden states become one vector."""

    @abstractmethod
    def projection(self) -> nn.Module:
        """Load the projection: [N, W] -> [N, D]."""

    @abstractmethod
    def library(self) -> Library:
        """Return the library that the model comes from."""

    def _length(self, config: Any, limit: float | None = None) -> int:
        """Most tokens that the encoder and its tokenizer (or another limit) allow; RoBERTa counts positions from behind its
        padding token."""
        reserved = config.pad_token_id + 1 if "roberta" in config.model_type else 0
        return context_length(config.max_position_embeddings - reserved, self.checkpoint, limit)


class MClip(TextModel):
    """Multilingual-CLIP (``model_type: M-CLIP``): XLM-RoBERTa, the mean, one linear layer.

    Its ``config.json`` only names the model that the encoder's shape is taken from.
    """

    kind = "m-clip"

    @property
    def embedding_size(self) -> int:
        return int(self.checkpoint.tensor("LinearTransformation.weight").shape[0])

    @property
    def context_length(self) -> int:
        return self._length(self._base)

    def encoder(self) -> nn.Module:
        import torch
        from safetensors.torch import load_file
        from transformers import AutoModel

        model: nn.Module = AutoModel.from_config(  # type: ignore[no-untyped-call]
            self._base, attn_implementation="eager", dtype=torch.float32
        )
        weights = {name: tensor for file in self.weight_files for name, tensor in load_file(file).items()}
        own = {name.removeprefix("transformer."): t for name, t in weights.items() if name.startswith("transformer.")}
        try:
            missing, _ = model.load_state_dict(own, strict=False)
        except RuntimeError as problem:
            raise InvalidInput(f"{self.checkpoint.label}: the weights don't load as M-CLIP: {problem}") from problem
        if missing := [name for name in missing if not name.startswith(POOLER)]:
            raise InvalidInput(f"{self.checkpoint.label}: the weights lack {len(missing)} tensors, the first is {missing[0]}")
        return model

    def pool(self) -> Pool:
        from clip_export.towers import mean

        return mean

    def projection(self) -> nn.Module:
        tensor = self.checkpoint.tensor
        return linear(tensor("LinearTransformation.weight"), tensor("LinearTransformation.bias"))

    def library(self) -> Library:
        from clip_export.libraries.multilingual_clip import MultilingualClip

        return MultilingualClip(self.checkpoint, self._base, self.context_length)

    @cached_property
    def _base(self) -> Any:
        from transformers import AutoConfig

        base = str(self.checkpoint.config.get("modelBase", "xlm-roberta-large"))
        beside = self.checkpoint.folder / base
        try:
            return AutoConfig.from_pretrained(beside if beside.is_dir() else base, trust_remote_code=False)
        except (OSError, ValueError) as problem:
            raise Unavailable(
                f"{self.checkpoint.label}: the configuration of its base model {base} can't be fetched: put that model's "
                f"config.json into {beside}"
            ) from problem


def linear(weight: Any, bias: Any) -> nn.Module:
    """Make a linear layer of its weights, the bias None where it has none."""
    from torch import nn

    layer = nn.Linear(weight.shape[1], weight.shape[0], bias=bias is not None)
    layer.load_state_dict({"weight": weight} if bias is None else {"weight": weight, "bias": bias})
    return layer
