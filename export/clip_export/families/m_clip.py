"""Multilingual-CLIP's text model."""

from __future__ import annotations

from functools import cached_property
from typing import Any

import torch
from safetensors.torch import load_file
from torch import nn

from clip_client.errors import InvalidInput, Unavailable
from clip_export.checkpoints.file_names import CONFIG
from clip_export.families.text_model import POOLER, TextModel, linear
from clip_export.families.weight_errors import lacking, not_loaded
from clip_export.libraries.base import Library
from clip_export.libraries.multilingual_clip import MultilingualClip
from clip_export.towers.pooling import Pool, mean


class MClip(TextModel):
    """Multilingual-CLIP (``model_type: M-CLIP``): XLM-RoBERTa, the mean, one linear layer.

    Its ``config.json`` only names the base model that gives the encoder its shape.
    """

    kind = "m-clip"

    @property
    def embedding_size(self) -> int:
        return int(self.checkpoint.tensor("LinearTransformation.weight").shape[0])

    @property
    def context_length(self) -> int:
        return self._length(self._base)

    def encoder(self) -> nn.Module:
        from transformers import AutoModel

        model: nn.Module = AutoModel.from_config(  # type: ignore[no-untyped-call]
            self._base, attn_implementation="eager", dtype=torch.float32
        )
        weights = {name: tensor for file in self.weight_files for name, tensor in load_file(file).items()}
        own = {name.removeprefix("transformer."): t for name, t in weights.items() if name.startswith("transformer.")}
        try:
            missing, _ = model.load_state_dict(own, strict=False)
        except RuntimeError as problem:
            raise not_loaded(self.checkpoint.label, problem, "M-CLIP") from problem
        if missing := [name for name in missing if not name.startswith(POOLER)]:
            raise InvalidInput(lacking(self.checkpoint.label, missing))
        return model

    def pool(self) -> Pool:
        return mean

    def projection(self) -> nn.Module:
        tensor = self.checkpoint.tensor
        return linear(tensor("LinearTransformation.weight"), tensor("LinearTransformation.bias"))

    def library(self) -> Library:
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
                f"{CONFIG} into {beside}"
            ) from problem
