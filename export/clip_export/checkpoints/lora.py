"""LoRA adapters as peft saves them: their settings, and the weights of a base with them."""

from __future__ import annotations

import re
from collections import defaultdict
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor

from clip_client.errors import InvalidInput

_PREFIX = "base_model.model."
_WRAPPERS = (".base_layer", ".modules_to_save.default", ".modules_to_save")
"""Parts that peft puts into the names of tensors of the base."""

_PAIR = re.compile(
    r"(?P<module>.+)\.(?P<part>lora_(?:embedding_)?[AB]|lora_magnitude_vector)(?:\.default)?(?:\.(?P<kind>weight|bias))?"
)

_FOLLOWED = frozenset(
    {
        *("peft_type", "task_type", "auto_mapping", "base_model_name_or_path", "revision", "inference_mode", "peft_version"),
        *("r", "lora_alpha", "rank_pattern", "alpha_pattern", "use_rslora", "use_dora", "init_lora_weights"),
        *("target_modules", "exclude_modules", "layers_to_transform", "layers_pattern", "modules_to_save", "bias"),
        *("lora_dropout", "megatron_core", "lora_bias", "eva_config", "qalora_group_size"),
    }
)
"""Settings that are followed, or that say where an adapter was trained and nothing about its result."""

_PLAIN_STARTS = (True, False, None, "gaussian", "orthogonal", "eva")
"""Ways to begin a training that leave the base's weights as they are."""


_TOWERS = {"VisionModel": "vision_model.", "TextModel": "text_model."}
"""Parts of the names of tensors by parts of the names of transformers' classes of one tower."""


@dataclass(frozen=True)
class Lora:
    """An adapter: settings of ``adapter_config.json`` and tensors of ``adapter_model.safetensors``.

    Attributes:
        label: the adapter's name, for messages.
        settings: as peft saves them.
        tensors: by name.
    """

    label: str
    settings: Mapping[str, Any]
    tensors: Mapping[str, Tensor]

    def check(self) -> None:
        """Raise InvalidInput for settings that change the result in a way that isn't followed here."""
        kind = self.settings.get("peft_type")
        if kind != "LORA":
            raise InvalidInput(f"{self.label} is an adapter of type {kind}, expected LORA: {_MERGE}")
        start = self.settings.get("init_lora_weights", True)
        if start not in _PLAIN_STARTS:
            raise InvalidInput(f"{self.label} was begun with init_lora_weights {start!r}, which changes the base: {_MERGE}")
        if other := sorted(name for name, value in self.settings.items() if value and name not in _FOLLOWED):
            raise InvalidInput(
                f"{self.label} has {', '.join(other)} in its adapter_config.json, which isn't followed: {_MERGE}"
            )

    def merged(self, base: Mapping[str, Tensor]) -> dict[str, Tensor]:
        """Return all weights of the base in float32, with the adapter's in place of those that it changes.

        Raises:
            InvalidInput: if a tensor of the adapter has no place in the base, or another shape.
        """
        weights = {name: tensor.float() for name, tensor in base.items()}
        pairs: dict[str, dict[str, Tensor]] = defaultdict(dict)
        for name, tensor in sorted(self.tensors.items()):
            plain = name.removeprefix(_PREFIX)
            if pair := _PAIR.fullmatch(plain):
                part = pair["part"] + (".bias" if pair["kind"] == "bias" else "")
                pairs[_unwrapped(pair["module"])][part] = tensor.float()
            else:
                place = self._place(_unwrapped(plain), weights)
                weights[place] = self._fitting(place, tensor.float(), weights[place])
        for module, parts in pairs.items():
            self._add(module, parts, weights)
        return weights

    def _add(self, module: str, parts: Mapping[str, Tensor], weights: dict[str, Tensor]) -> None:
        """Merge one module's matrices, as ``LoraLayer.merge`` of peft does."""
        place = self._place(f"{module}.weight", weights)
        weight, scale = weights[place], self._scale(module, parts)
        delta = scale * self._fitting(place, self._product(module, parts, weight), weight)
        changed = weight + delta
        if (magnitude := parts.get("lora_magnitude_vector")) is not None:
            changed = _rescaled(changed, magnitude)
        weights[place] = changed
        if (bias := parts.get("lora_B.bias")) is not None:
            place = self._place(f"{module}.bias", weights)
            weights[place] = weights[place] + scale * self._fitting(place, bias, weights[place])

    def _product(self, module: str, parts: Mapping[str, Tensor], weight: Tensor) -> Tensor:
        """Return the change of a linear layer [O, I], an embedding [V, W] or a convolution [O, I, H, W], not scaled."""
        names = ("lora_embedding_A", "lora_embedding_B") if "lora_embedding_A" in parts else ("lora_A", "lora_B")
        if unknown := ({*names} - parts.keys()) | (parts.keys() - {*names, "lora_magnitude_vector", "lora_B.bias"}):
            raise InvalidInput(f"{self.label}: {module} has {', '.join(sorted(parts))}, amiss is {', '.join(sorted(unknown))}")
        down, up = parts[names[0]], parts[names[1]]
        if "lora_embedding_A" in parts and "lora_magnitude_vector" in parts:
            raise InvalidInput(f"{self.label} has DoRA on the embedding {module}, which isn't followed: {_MERGE}")
        if "lora_embedding_A" in parts:
            return (up @ down).T
        if weight.dim() == 4:  # up is a convolution of 1 x 1
            return torch.einsum("or,rihw->oihw", up[:, :, 0, 0], down)
        return up @ down

    def _scale(self, module: str, parts: Mapping[str, Tensor]) -> float:
        """Return the factor on the product of a module's matrices."""
        rank = self._of_module(module, "rank_pattern", "r", 8)
        alpha = self._of_module(module, "alpha_pattern", "lora_alpha", 8)
        down = parts.get("lora_A", parts.get("lora_embedding_A"))
        if down is not None and len(down) != rank:
            raise InvalidInput(f"{self.label}: {module} has the rank {len(down)}, adapter_config.json says {rank}")
        return float(alpha / rank**0.5 if self.settings.get("use_rslora") else alpha / rank)

    def _of_module(self, module: str, pattern: str, name: str, default: int) -> Any:
        """Return a setting of one module: that of the first pattern that its name ends with, else that of all."""
        patterns = self.settings.get(pattern) or {}
        key = next((key for key in patterns if re.fullmatch(rf"(.*\.)?({key})", module)), None)
        return self.settings.get(name, default) if key is None else patterns[key]

    def _place(self, name: str, weights: Mapping[str, Tensor]) -> str:
        """Return the name of a tensor in the base's files, which may hold the model that was trained inside of another."""
        if name in weights:
            return name
        inside = [place for place in weights if place.endswith(f".{name}")]
        trained = str((self.settings.get("auto_mapping") or {}).get("base_model_class"))
        tower = next((part for kind, part in _TOWERS.items() if kind in trained), "")
        own = [place for place in inside if tower in place] if tower else inside
        if len(own) != 1:
            raise InvalidInput(
                f"{self.label} changes {name}, which the base holds {len(inside)} times: expected an adapter of this base, "
                "trained on transformers' own model of it"
            )
        return own[0]

    def _fitting(self, place: str, tensor: Tensor, weight: Tensor) -> Tensor:
        """Return a tensor for a place in the base.

        Raises:
            InvalidInput: if it has another shape.
        """
        if tensor.shape != weight.shape:
            raise InvalidInput(
                f"{self.label} has the shape {[*tensor.shape]} for {place}, the base {[*weight.shape]}: is it the base that "
                "the adapter was trained on?"
            )
        return tensor


_MERGE = "merge it where it was trained, merge_and_unload() and save_pretrained(FOLDER) of peft, and pass that folder"


def _unwrapped(name: str) -> str:
    for part in _WRAPPERS:
        name = name.replace(f"{part}.", ".").removesuffix(part)
    return name


def _rescaled(changed: Tensor, magnitude: Tensor) -> Tensor:
    """Give each output of a layer the length that DoRA has learnt for it."""
    rows = (-1, *[1] * (changed.dim() - 1))
    rescaled: Tensor = changed * (magnitude.flatten() / changed.flatten(1).norm(dim=1)).reshape(rows)
    return rescaled
