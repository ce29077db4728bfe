"""Text encoders in many languages: how each kind is stored, pooled and projected."""

from __future__ import annotations

import math
from abc import ABC, abstractmethod
from collections.abc import Iterator
from functools import cached_property
from pathlib import Path
from typing import TYPE_CHECKING, Any

from clip_client.errors import InvalidInput, Unavailable
from clip_export.checkpoint import Checkpoint
from clip_export.families.hugging_face import context_length, model_of

if TYPE_CHECKING:
    from torch import nn

    from clip_export.reading import Pool

_POOLER = "pooler."  # of a bare BERT; none of these models reads it


def text_model(checkpoint: Checkpoint) -> TextModel:
    """The text model in a checkpoint's folder.

    Raises:
        InvalidInput: it is none of those known.
    """
    if (checkpoint.folder / "modules.json").exists():
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

    def _positions(self, config: Any) -> int:
        """What the encoder and its tokenizer allow; RoBERTa counts positions from behind its padding token."""
        reserved = config.pad_token_id + 1 if "roberta" in config.model_type else 0
        return context_length(config.max_position_embeddings - reserved, self.checkpoint)


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
        return self._positions(self._base)

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
        if missing := [name for name in missing if not name.startswith(_POOLER)]:
            raise InvalidInput(f"{self.checkpoint.label}: the weights lack {len(missing)} tensors, the first is {missing[0]}")
        return model

    def pool(self) -> Pool:
        from clip_export.towers import mean

        return mean

    def projection(self) -> nn.Module:
        tensor = self.checkpoint.tensor
        return _linear(tensor("LinearTransformation.weight"), tensor("LinearTransformation.bias"))

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


class SentenceTransformer(TextModel):
    """A folder of sentence-transformers: an encoder, pooling by mean or first token, and dense layers behind it."""

    kind = "sentence-transformers"

    def __init__(self, checkpoint: Checkpoint) -> None:
        super().__init__(checkpoint)
        modules = checkpoint.json("modules.json", "expected a model of sentence-transformers", list)
        self._folders: dict[str, list[str]] = {}
        for module in modules:
            self._folders.setdefault(str(module["type"]).rpartition(".")[2], []).append(str(module["path"]))
        if unknown := self._folders.keys() - {"Transformer", "Pooling", "Dense", "Normalize"}:
            raise InvalidInput(
                f"{checkpoint.label}: modules.json has {', '.join(sorted(unknown))}, expected Transformer, Pooling, Dense "
                "and Normalize only"
            )
        if self._folders.get("Transformer") != [""]:
            raise InvalidInput(f"{checkpoint.label}: modules.json has its Transformer in a folder, expected it at the top")

        if self._settings("sentence_bert_config.json").get("do_lower_case"):
            raise InvalidInput(
                f"{checkpoint.label} lower-cases texts before its tokenizer does anything, expected a tokenizer.json that does "
                'so: add a Lowercase normalizer to it, and set "do_lower_case": false in sentence_bert_config.json'
            )

    @property
    def weight_files(self) -> list[Path]:
        dense = [self.checkpoint.folder / path / "model.safetensors" for path in self._folders.get("Dense", [])]
        if missing := [file for file in dense if not file.exists()]:
            raise InvalidInput(
                f"{self.checkpoint.label} has no {missing[0]}: pickled weights, which can run code, aren't loaded"
            )
        return [*self.checkpoint.weight_files, *dense]

    @property
    def embedding_size(self) -> int:
        layers = [settings["out_features"] for settings in self._dense()]
        return int(layers[-1] if layers else self._config.hidden_size)

    @property
    def context_length(self) -> int:
        limit = self._settings("sentence_bert_config.json").get("max_seq_length")
        return int(min(limit or math.inf, self._positions(self._config)))

    def encoder(self) -> nn.Module:
        import transformers

        model: nn.Module = model_of(transformers.AutoModel, self.checkpoint, "sentence-transformers", unread=_POOLER)
        return model

    def pool(self) -> Pool:
        from clip_export.towers import first, mean

        settings = self.checkpoint.json(f"{self._folders['Pooling'][0]}/config.json", "expected the pooling's settings")
        modes = {mode for mode, on in settings.items() if mode.startswith("pooling_mode_") and on is True}
        known = {"pooling_mode_mean_tokens": mean, "pooling_mode_cls_token": first}
        if len(modes) != 1 or not modes <= known.keys():
            raise InvalidInput(
                f"{self.checkpoint.label} pools by {', '.join(sorted(modes)) or 'nothing'}, expected one of {', '.join(known)}"
            )
        return known[modes.pop()]

    def projection(self) -> nn.Module:
        from torch import nn

        return nn.Sequential(*self._layers())

    def _layers(self) -> Iterator[nn.Module]:
        from safetensors.torch import load_file
        from torch import nn

        activations = {"Identity": nn.Identity, "Tanh": nn.Tanh}
        for path, settings in zip(self._folders.get("Dense", []), self._dense(), strict=True):
            weights = load_file(self.checkpoint.folder / path / "model.safetensors")
            name = str(settings.get("activation_function", "Tanh")).rpartition(".")[2]
            if name not in activations:
                raise InvalidInput(
                    f"{self.checkpoint.label}: a dense layer has the activation {name}, expected Identity or Tanh"
                )
            yield _linear(weights["linear.weight"], weights.get("linear.bias"))
            yield activations[name]()

    def _dense(self) -> list[dict[str, Any]]:
        return [self.checkpoint.json(f"{path}/config.json", "expected its settings") for path in self._folders.get("Dense", [])]

    @cached_property
    def _config(self) -> Any:
        from transformers import AutoConfig

        _ = self.checkpoint.config  # refuses what no library could load
        return AutoConfig.from_pretrained(self.checkpoint.folder, local_files_only=True, trust_remote_code=False)

    def _settings(self, name: str) -> dict[str, Any]:
        return self.checkpoint.json(name, "") if (self.checkpoint.folder / name).exists() else {}


def _linear(weight: Any, bias: Any) -> nn.Module:
    from torch import nn

    layer = nn.Linear(weight.shape[1], weight.shape[0], bias=bias is not None)
    layer.load_state_dict({"weight": weight} if bias is None else {"weight": weight, "bias": bias})
    return layer
