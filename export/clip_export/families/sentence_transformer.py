"""Text models in the folders of sentence-transformers."""

from __future__ import annotations

from collections.abc import Iterator
from functools import cached_property
from pathlib import Path
from typing import Any

from safetensors.torch import load_file
from torch import nn

from clip_client.errors import InvalidInput
from clip_export.checkpoints.checkpoint import Checkpoint
from clip_export.checkpoints.file_names import CONFIG, WEIGHTS
from clip_export.checkpoints.text_modules import ModularCheckpoint
from clip_export.families.hugging_face import model_of
from clip_export.families.text_model import POOLER, TextModel, linear
from clip_export.libraries.base import Library
from clip_export.libraries.sentence_transformers import SentenceTransformers
from clip_export.towers.pooling import Pool, first, mean
from clip_export.towers.unit_length import Unit

_BEHIND = ("Dense", "Normalize", "Dropout")
"""Modules that may follow the pooling, in any order."""

_SETTINGS = tuple(
    f"sentence_{kind}_config.json" for kind in ("bert", "roberta", "distilbert", "camembert", "albert", "xlm-roberta", "xlnet")
)
"""Files of its first module's settings; the first that holds any counts."""

_ARGUMENTS = (
    *("model_args", "model_kwargs", "tokenizer_args", "processor_kwargs", "config_args", "config_kwargs"),
    *("processing_kwargs", "query_expansion"),
)
"""Settings that change calls of another library and aren't followed here."""

_MODALITY = {"method": "forward", "method_output_name": "last_hidden_state"}


class SentenceTransformer(TextModel):
    """A folder of sentence-transformers: an encoder, pooling by mean or first token, and dense layers behind it."""

    kind = "sentence-transformers"

    def __init__(self, checkpoint: Checkpoint) -> None:
        whole = ModularCheckpoint(checkpoint.folder, checkpoint.label, checkpoint.revision)
        super().__init__(whole.encoder)
        self._whole, self._modules = whole, whole.modules
        kinds = [module.kind for module in self._modules]
        unknown = sorted({*kinds[2:]} - {*_BEHIND}) if kinds[:2] == ["Transformer", "Pooling"] else kinds
        if unknown or not kinds:
            raise InvalidInput(
                f"{checkpoint.label}: modules.json has {', '.join(unknown) or 'nothing'}, expected Transformer, Pooling, "
                "Dense and Normalize only"
            )
        self._refuse_settings()
        self._refuse_prompt()

    @property
    def weight_files(self) -> list[Path]:
        dense = [self._whole.folder / path / WEIGHTS for path, _ in self._dense()]
        if missing := [file for file in dense if not file.exists()]:
            raise InvalidInput(
                f"{self.checkpoint.label} has no {missing[0]}: pickled weights, which can run code, aren't loaded"
            )
        return [*self.checkpoint.weight_files, *dense]

    @property
    def embedding_size(self) -> int:
        layers = [settings["out_features"] for _, settings in self._dense()]
        return int(layers[-1] if layers else self._config.hidden_size)

    @property
    def context_length(self) -> int:
        return self._length(self._config, self._first.get("max_seq_length"))

    def encoder(self) -> nn.Module:
        import transformers

        model: nn.Module = model_of(transformers.AutoModel, self.checkpoint, "sentence-transformers", unread=POOLER)
        return model

    def pool(self) -> Pool:
        settings = self._whole.json(f"{self._modules[1].path}/{CONFIG}", "expected the pooling's settings")
        known = {"mean": mean, "cls": first}
        modes = _pooling_modes(settings)
        if len(modes) != 1 or modes[0] not in known:
            raise InvalidInput(
                f"{self.checkpoint.label} pools by {', '.join(map(str, modes)) or 'nothing'}, expected one of "
                f"{', '.join(known)}"
            )
        return known[modes[0]]

    def projection(self) -> nn.Module:
        return nn.Sequential(*self._layers())

    def library(self) -> Library:
        return SentenceTransformers(self._whole.folder)

    def _refuse_settings(self) -> None:
        """Raise InvalidInput for steps of the library before its tokenizer, or instead of it."""
        if self._first.get("do_lower_case"):
            raise InvalidInput(
                f"{self.checkpoint.label} lower-cases texts before its tokenizer does anything, expected a tokenizer.json that "
                'does so: add a Lowercase normalizer to it, and set "do_lower_case": false in sentence_bert_config.json'
            )
        if other := [name for name in _ARGUMENTS if self._first.get(name)]:
            raise InvalidInput(
                f"{self.checkpoint.label}: sentence_bert_config.json has {', '.join(other)}, which isn't followed: leave it out"
            )
        task, modality = self._first.get("transformer_task"), self._first.get("modality_config")
        if task not in (None, "feature-extraction") or (modality is not None and modality.get("text") != _MODALITY):
            raise InvalidInput(
                f"{self.checkpoint.label}: sentence_bert_config.json has the transformer_task {task} and the modality_config "
                f"{modality}, expected feature-extraction from texts, {_MODALITY}"
            )

    def _refuse_prompt(self) -> None:
        """Raise InvalidInput for a prompt that the library puts before every text."""
        settings = self._settings("config_sentence_transformers.json", self._whole)
        name = settings.get("default_prompt_name")
        if name is not None and (prompt := (settings.get("prompts") or {}).get(name)):
            raise InvalidInput(
                f"{self.checkpoint.label}: config_sentence_transformers.json puts the prompt {prompt!r} before every text, "
                'which isn\'t followed: set "default_prompt_name" to null, and put it there yourself'
            )

    def _layers(self) -> Iterator[nn.Module]:
        dense = iter(self._dense())
        for module in self._modules[2:]:
            if module.kind == "Dense":
                yield from self._dense_layers(*next(dense))
            elif module.kind == "Normalize":
                yield Unit()

    def _dense_layers(self, path: str, settings: dict[str, Any]) -> Iterator[nn.Module]:
        activations = {"Identity": nn.Identity, "Tanh": nn.Tanh}
        weights = load_file(self._whole.folder / path / WEIGHTS)
        name = str(settings.get("activation_function", "torch.nn.modules.activation.Tanh"))
        if not name.startswith("torch.nn.") or name.rpartition(".")[2] not in activations:
            raise InvalidInput(f"{self.checkpoint.label}: a dense layer has the activation {name}, expected Identity or Tanh")
        names = {settings.get(key) or "sentence_embedding" for key in ("module_input_name", "module_output_name")}
        if settings.get("use_residual") or names != {"sentence_embedding"}:
            raise InvalidInput(
                f"{self.checkpoint.label}: a dense layer has the settings {settings}, expected one of a sentence"
            )
        yield linear(weights["linear.weight"], weights.get("linear.bias"))
        yield activations[name.rpartition(".")[2]]()

    def _dense(self) -> list[tuple[str, dict[str, Any]]]:
        """Return folder and settings of each dense layer."""
        paths = [module.path for module in self._modules if module.kind == "Dense"]
        return [(path, self._whole.json(f"{path}/{CONFIG}", "expected its settings")) for path in paths]

    @cached_property
    def _first(self) -> dict[str, Any]:
        """The settings of the encoder's module."""
        return next(filter(None, map(self._settings, _SETTINGS)), {})

    @cached_property
    def _config(self) -> Any:
        from transformers import AutoConfig

        _ = self.checkpoint.config  # refuses what no library could load
        return AutoConfig.from_pretrained(self.checkpoint.folder, local_files_only=True, trust_remote_code=False)

    def _settings(self, name: str, checkpoint: Checkpoint | None = None) -> dict[str, Any]:
        place = checkpoint or self.checkpoint
        return place.json(name, "") if (place.folder / name).exists() else {}


def _pooling_modes(settings: dict[str, Any]) -> list[Any]:
    """Return the names of the pooling modes, by default the mean; before sentence-transformers 5.4 each was a switch."""
    if "pooling_mode" in settings:
        modes = settings["pooling_mode"]
        return modes if isinstance(modes, list) else [modes]
    names = {"cls_token": "cls", "mean_tokens": "mean", "max_tokens": "max"}
    on = [key.removeprefix("pooling_mode_") for key, value in settings.items() if key.startswith("pooling_mode_") and value]
    return [names.get(mode, mode) for mode in on] or ["mean"]
