"""Base of the families that are dual encoders of transformers."""

from __future__ import annotations

import copy
import math
from abc import abstractmethod
from collections.abc import Mapping
from typing import Any, ClassVar

import tokenizers
import torch
from torch import nn

from clip_client.errors import InvalidInput
from clip_client.spec import TOWERS, Activation, ModelSpec, Padding, Tower
from clip_export.checkpoints import image_processor
from clip_export.checkpoints.checkpoint import Checkpoint
from clip_export.checkpoints.tokenizer import TextTokenizer
from clip_export.families.base import Family
from clip_export.families.weight_errors import not_loaded, refuse_mismatch
from clip_export.libraries.base import Library
from clip_export.libraries.hugging_face import Transformers
from clip_export.towers import Towers
from clip_export.towers.image_tower import ImageTower, PooledProjection
from clip_export.towers.pooled_layer import read_one
from clip_export.towers.pooling import first
from clip_export.towers.text_towers import TextTower


class HuggingFace(Family):
    """A ``model_type`` of transformers with one image and one text tower.

    Attributes:
        model_type: as in ``config.json``.
        title: its name in messages.
        classes: transformers' names of its configuration and its model.
        padding: see ModelSpec.
        activation: see ModelSpec.
    """

    model_type: ClassVar[str]
    title: ClassVar[str]
    classes: ClassVar[tuple[str, str]]
    padding: ClassVar[Padding]
    activation: ClassVar[Activation]

    def embedding_size(self, config: dict[str, Any]) -> int:
        """Return D, from the whole configuration: the width of the projection."""
        return int(config["projection_dim"])

    def image_encoder(self, model: Any) -> nn.Module:
        """Return a loaded model's encoder of normalised pixels [N, 3, S, S] -> [N, D], pooled at its class token."""
        read_one(model.vision_model.encoder, first)
        return PooledProjection(model.vision_model, model.visual_projection)

    def image_tower(self, model: Any, spec: ModelSpec) -> ImageTower:
        """Return the part of a loaded model that turns pixels into embeddings."""
        return ImageTower(self.image_encoder(model), spec)

    @abstractmethod
    def text_tower(self, model: Any, spec: ModelSpec) -> TextTower:
        """Return the part of a loaded model that turns tokens into embeddings."""

    def describe(self, checkpoint: Checkpoint, name: str) -> ModelSpec:
        """Describe a checkpoint from its configs."""
        config = self.config(checkpoint).to_dict()
        text = config["text_config"]
        end_token, pad_token = self._special_tokens(checkpoint, text)
        return ModelSpec(
            name=name,
            checkpoint=checkpoint.label,
            revision=checkpoint.revision,
            family=self.spec_family(checkpoint),
            **self.image_fields(checkpoint, config),
            context_length=self.context(text, checkpoint),
            padding=self.padding,
            pad_token=pad_token,
            end_token=end_token,
            embedding_size=self.embedding_size(config),
            logit_scale=self.logit_scale(checkpoint),
            logit_bias=self.logit_bias(checkpoint),
            activation=self.activation,
            weights_sha256=checkpoint.weights_sha256,
            tokenizer_sha256=checkpoint.tokenizer_sha256,
        )

    def spec_family(self, checkpoint: Checkpoint) -> str:
        """Return the spec's family, which differs where the same weights give other embeddings."""
        return self.model_type

    def context(self, text: dict[str, Any], checkpoint: Checkpoint) -> int:
        """Return the most tokens of a text, from the text tower's configuration."""
        return context_length(self.positions(text), checkpoint)

    def image_side(self, config: dict[str, Any]) -> int | None:
        """Return the side of the pictures that the image tower takes, in pixels; None if it takes other sizes too."""
        return side(config["vision_config"]["image_size"])

    def positions(self, text: dict[str, Any]) -> int:
        """Return the most tokens that the text tower takes, from its configuration."""
        return int(text["max_position_embeddings"])

    def logit_scale(self, checkpoint: Checkpoint) -> float:
        """Return the factor on cosines, which is stored as its logarithm."""
        return math.exp(float(checkpoint.tensor("logit_scale")))

    def logit_bias(self, checkpoint: Checkpoint) -> float:
        """Return the bias that is added to scaled cosines."""
        return 0.0

    def check_padding(self, checkpoint: Checkpoint) -> None:
        """Raise InvalidInput where padding would affect the library's embeddings otherwise than ours."""
        check_padding(checkpoint.tokenizer, self.padding, checkpoint.label)

    def check_end(self, end_token: int, text: dict[str, Any], checkpoint: Checkpoint) -> None:
        """Raise InvalidInput where the tokenizer and the text tower's configuration disagree on the end token."""

    def load(self, checkpoint: Checkpoint, spec: ModelSpec) -> Towers:
        """Load through transformers."""
        import transformers

        model_class = getattr(transformers, self.classes[1])
        model = model_of(model_class, checkpoint, self.title, config=self.config(checkpoint))
        return Towers(image=self.image_tower(model, spec).eval(), text=self.text_tower(model, spec).eval())

    def libraries(self, checkpoint: Checkpoint) -> Mapping[Tower, Library]:
        """Return transformers for both towers."""
        return dict.fromkeys(TOWERS, self.library(checkpoint))

    def library(self, checkpoint: Checkpoint) -> Library:
        """Return transformers for the checkpoint, with nothing loaded yet."""
        return Transformers(checkpoint.folder, padded=self.padding == "full")

    def config(self, checkpoint: Checkpoint) -> Any:
        """Return ``config.json`` as transformers reads it, with the defaults that it leaves out when it saves."""
        import transformers

        try:
            return getattr(transformers, self.classes[0]).from_dict(copy.deepcopy(checkpoint.config))
        except Exception as problem:  # validators of several libraries are at work in there
            raise InvalidInput(f"{checkpoint.label}: config.json isn't one of {self.title}: {problem}") from problem

    def image_fields(self, checkpoint: Checkpoint, config: dict[str, Any]) -> dict[str, Any]:
        """Return the spec's fields of the image processor, which has to give what the image tower takes."""
        image, image_size = image_processor.image_fields(checkpoint.processor, checkpoint.label), self.image_side(config)
        if image_size is not None and image["image_size"] != image_size:
            raise InvalidInput(
                f"{checkpoint.label}: the processor gives {image['image_size']} pixels a side, "
                f"the image tower takes {image_size}: save the processor that belongs to the weights"
            )
        return image

    def _special_tokens(self, checkpoint: Checkpoint, text: dict[str, Any]) -> tuple[int, int]:
        """Return (end, pad)."""
        end = end_token(parsed(checkpoint), checkpoint.label)
        self.check_end(end, text, checkpoint)
        self.check_padding(checkpoint)
        pad = checkpoint.tokenizer.pad_token
        if pad is not None and pad < text["vocab_size"]:
            return end, pad
        if self.padding == "trailing":
            return end, end
        raise InvalidInput(
            f"{checkpoint.label}: the tokenizer pads texts with token {pad}, the text tower takes those below "
            f"{text['vocab_size']}: save the tokenizer that belongs to the weights"
        )


def model_of(model_class: Any, checkpoint: Checkpoint, title: str, unread: str = "", config: Any = None) -> Any:
    """Load a model of transformers in float32, with attention written out.

    Args:
        model_class: of transformers.
        checkpoint: of the model.
        title: expected kind of model, for messages.
        unread: prefix of the names of tensors that nobody reads, so that they may be missing.
        config: replaces the checkpoint's own.

    Raises:
        InvalidInput: if the weights don't fit the configuration, or lack some tensor.
    """
    from transformers.utils import logging

    logging.disable_progress_bar()  # type: ignore[no-untyped-call]
    try:
        model, loading = model_class.from_pretrained(
            checkpoint.folder,
            config=config,
            dtype=torch.float32,
            attn_implementation="eager",
            use_safetensors=True,
            local_files_only=True,
            trust_remote_code=False,
            output_loading_info=True,
            ignore_mismatched_sizes=True,  # refused below, by name
        )
    except (OSError, RuntimeError, ValueError) as problem:
        raise not_loaded(checkpoint.label, problem, title) from problem
    refuse_mismatch(model, loading, checkpoint.label, unread)
    checkpoint.unused.update(loading["unexpected_keys"])
    return model


def stored(checkpoint: Checkpoint, *names: str) -> Any:
    """Return the tensor of the first of several names that the weights hold.

    Raises:
        InvalidInput: if they hold none of them.
    """
    *others, last = names
    for name in others:
        try:
            return checkpoint.tensor(name)
        except InvalidInput:
            continue
    return checkpoint.tensor(last)


def side(size: Any) -> int:
    """Return the side of a square, which some configurations write as [side, side].

    Raises:
        ValueError: if it isn't one.
    """
    sides = {*size} if isinstance(size, list | tuple) else {size}
    if len(sides) != 1:
        raise ValueError(f"image_size is {size}, expected a square")
    return int(sides.pop())


def context_length(positions: float, checkpoint: Checkpoint, limit: float | None = None) -> int:
    """Return the most tokens of a text: the tower's positions, or fewer where the tokenizer stops earlier, as in transformers.

    Args:
        positions: of the tower.
        checkpoint: of the tokenizer.
        limit: replaces the tokenizer's.

    Raises:
        InvalidInput: if there is no room for a text.
    """
    length = int(min(positions, limit or checkpoint.tokenizer.max_length))
    if length <= (special := parsed(checkpoint).num_special_tokens_to_add(False)):
        raise InvalidInput(
            f"{checkpoint.label}: texts are cut to {length} tokens, {special} of which begin and end them: set "
            '"model_max_length" in tokenizer_config.json'
        )
    return length


def parsed(checkpoint: Checkpoint) -> tokenizers.Tokenizer:
    """Parse the checkpoint's tokenizer; it neither truncates nor pads."""
    tokenizer = tokenizers.Tokenizer.from_str(checkpoint.tokenizer_json)
    tokenizer.no_truncation()
    tokenizer.no_padding()
    return tokenizer


def end_token(tokenizer: tokenizers.Tokenizer, label: str) -> int:
    """Return the token that the tokenizer appends to every text.

    Raises:
        InvalidInput: if it appends none.
    """
    encoding = tokenizer.encode("a")
    if not encoding.ids or not encoding.special_tokens_mask[-1]:
        raise InvalidInput(f"{label}: the tokenizer adds no end token: save the tokenizer of the checkpoint")
    return int(encoding.ids[-1])


def check_padding(tokenizer: TextTokenizer, padding: Padding, label: str) -> None:
    """Raise InvalidInput where padding would affect the library's embeddings otherwise than ours.

    The side doesn't matter: a full context is padded on the tokenizer's side; otherwise a text alone isn't padded.
    """
    if padding == "masked" and "attention_mask" not in tokenizer.inputs:
        raise InvalidInput(
            f"{label}: the tokenizer gives no attention_mask, without which the text tower looks at padding: add it to "
            '"model_input_names" in tokenizer_config.json'
        )


def check_padding_side(checkpoint: Checkpoint) -> None:
    """Raise InvalidInput where a text's positions would depend on its batch, which some libraries pad themselves."""
    if checkpoint.tokenizer.padding_side != "right":
        raise InvalidInput(
            f"{checkpoint.label}: the tokenizer pads texts at the start, the text tower was trained with padding at the end: "
            'set "padding_side": "right" in tokenizer_config.json'
        )
