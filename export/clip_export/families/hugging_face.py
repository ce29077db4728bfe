"""What the dual encoders of transformers have in common."""

from __future__ import annotations

import copy
import hashlib
import math
from abc import abstractmethod
from collections.abc import Mapping
from typing import TYPE_CHECKING, Any, ClassVar

import tokenizers

from clip_client.errors import InvalidInput
from clip_client.spec import TOWERS, Activation, ModelSpec, Padding, Tower
from clip_export import processor
from clip_export.checkpoint import Checkpoint
from clip_export.families.base import Family
from clip_export.tokenizer_files import TextTokenizer

if TYPE_CHECKING:
    from torch import nn

    from clip_export.libraries.base import Library
    from clip_export.towers import TextTower, Towers


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

    @abstractmethod
    def embedding_size(self, config: dict[str, Any]) -> int:
        """D, from the whole configuration."""

    @abstractmethod
    def image_encoder(self, model: Any) -> nn.Module:
        """The part of a loaded model that turns normalised pixels [N, 3, S, S] into [N, D]."""

    @abstractmethod
    def text_tower(self, model: Any, spec: ModelSpec) -> TextTower:
        """The part of a loaded model that turns tokens into embeddings."""

    def describe(self, checkpoint: Checkpoint, name: str) -> ModelSpec:
        """Describe a checkpoint from its configs."""
        config = self._config(checkpoint)
        text = config["text_config"]
        end_token, pad_token = self._special_tokens(checkpoint, text)
        return ModelSpec(
            name=name,
            checkpoint=checkpoint.label,
            revision=checkpoint.revision,
            family=self.model_type,
            **self._image_fields(checkpoint, config["vision_config"]["image_size"]),
            context_length=context_length(text["max_position_embeddings"], checkpoint),
            padding=self.padding,
            pad_token=pad_token,
            end_token=end_token,
            embedding_size=self.embedding_size(config),
            logit_scale=math.exp(float(checkpoint.tensor("logit_scale"))),
            logit_bias=self.logit_bias(checkpoint),
            activation=self.activation,
            weights_sha256=checkpoint.weights_sha256,
            tokenizer_sha256=hashlib.sha256(checkpoint.tokenizer_json.encode()).hexdigest(),
        )

    def logit_bias(self, checkpoint: Checkpoint) -> float:
        """What is added to scaled cosines."""
        return 0.0

    def check_end(self, end_token: int, text: dict[str, Any], checkpoint: Checkpoint) -> None:
        """Raise InvalidInput where the tokenizer and the text tower's configuration don't belong together."""

    def load(self, checkpoint: Checkpoint, spec: ModelSpec) -> Towers:
        """Load through transformers."""
        import transformers

        from clip_export.towers import ImageTower, Towers

        model = model_of(getattr(transformers, self.classes[1]), checkpoint, self.title)
        return Towers(image=ImageTower(self.image_encoder(model), spec).eval(), text=self.text_tower(model, spec).eval())

    def libraries(self, checkpoint: Checkpoint) -> Mapping[Tower, Library]:
        """transformers, for both."""
        from clip_export.libraries.hugging_face import Transformers

        return dict.fromkeys(TOWERS, Transformers(checkpoint.folder, padded=self.padding == "full"))

    def _config(self, checkpoint: Checkpoint) -> dict[str, Any]:
        """``config.json`` with the defaults that transformers leaves out when it saves."""
        import transformers

        try:
            parse = getattr(transformers, self.classes[0]).from_dict
            return dict(parse(copy.deepcopy(checkpoint.config)).to_dict())
        except Exception as problem:  # validators of several libraries are at work in there
            raise InvalidInput(f"{checkpoint.label}: config.json isn't one of {self.title}: {problem}") from problem

    def _image_fields(self, checkpoint: Checkpoint, image_size: int) -> dict[str, Any]:
        image = processor.image_fields(checkpoint.processor, checkpoint.label)
        if image["image_size"] != image_size:
            raise InvalidInput(
                f"{checkpoint.label}: the processor gives {image['image_size']} pixels a side, "
                f"the image tower takes {image_size}: save the processor that belongs to the weights"
            )
        return image

    def _special_tokens(self, checkpoint: Checkpoint, text: dict[str, Any]) -> tuple[int, int]:
        """(end, pad)."""
        end = end_token(parsed(checkpoint), checkpoint.label)
        self.check_end(end, text, checkpoint)
        check_padding(checkpoint.tokenizer, self.padding, checkpoint.label)
        pad = checkpoint.tokenizer.pad_token
        if pad is not None and pad < text["vocab_size"]:
            return end, pad
        if self.padding == "trailing":
            return end, end
        raise InvalidInput(
            f"{checkpoint.label}: the tokenizer pads texts with token {pad}, the text tower takes those below "
            f"{text['vocab_size']}: save the tokenizer that belongs to the weights"
        )


def model_of(model_class: Any, checkpoint: Checkpoint, title: str, unread: str = "") -> Any:
    """Load a model of transformers in float32, with attention written out.

    Args:
        model_class: of transformers.
        checkpoint: where it is.
        title: what it should be, for messages.
        unread: how the names of tensors begin that nobody reads and that may be missing.

    Raises:
        InvalidInput: the weights don't fit its configuration, or lack some tensor.
    """
    import torch
    from transformers.utils import logging

    logging.disable_progress_bar()  # type: ignore[no-untyped-call]
    try:
        model, loading = model_class.from_pretrained(
            checkpoint.folder,
            dtype=torch.float32,
            attn_implementation="eager",
            use_safetensors=True,
            local_files_only=True,
            trust_remote_code=False,
            output_loading_info=True,
        )
    except (OSError, RuntimeError, ValueError) as problem:
        raise InvalidInput(f"{checkpoint.label}: the weights don't load as {title}: {problem}") from problem
    missing = sorted(name for name in loading["missing_keys"] if not (unread and name.startswith(unread)))
    if missing:  # transformers would fill them with random numbers
        raise InvalidInput(
            f"{checkpoint.label}: the weights lack {len(missing)} tensors, the first is {missing[0]}: is the file whole?"
        )
    return model


def context_length(positions: int, checkpoint: Checkpoint, limit: float | None = None) -> int:
    """Most tokens of a text: the tower's positions, or fewer where the tokenizer stops short of them, as in transformers.

    Args:
        positions: of the tower.
        checkpoint: whose tokenizer it is.
        limit: instead of the tokenizer's.

    Raises:
        InvalidInput: there is no room for a text.
    """
    length = int(min(positions, limit or checkpoint.tokenizer.max_length))
    if length <= (special := parsed(checkpoint).num_special_tokens_to_add(False)):
        raise InvalidInput(
            f"{checkpoint.label}: texts are cut to {length} tokens, {special} of which begin and end them: set "
            '"model_max_length" in tokenizer_config.json'
        )
    return length


def parsed(checkpoint: Checkpoint) -> tokenizers.Tokenizer:
    """The checkpoint's tokenizer, neither truncating nor padding."""
    tokenizer = tokenizers.Tokenizer.from_str(checkpoint.tokenizer_json)
    tokenizer.no_truncation()
    tokenizer.no_padding()
    return tokenizer


def end_token(tokenizer: tokenizers.Tokenizer, label: str) -> int:
    """What the tokenizer appends to every text.

    Raises:
        InvalidInput: nothing.
    """
    encoding = tokenizer.encode("a")
    if not encoding.ids or not encoding.special_tokens_mask[-1]:
        raise InvalidInput(f"{label}: the tokenizer adds no end token: save the tokenizer of the checkpoint")
    return int(encoding.ids[-1])


def check_padding(tokenizer: TextTokenizer, padding: Padding, label: str) -> None:
    """Raise InvalidInput where the library's embeddings would depend on how a text is padded, in another way than here.

    The side doesn't matter: a padded context is padded on the tokenizer's side, and else a text by itself isn't padded.
    """
    masked = "attention_mask" in tokenizer.inputs
    if padding == "full" and masked:
        raise InvalidInput(
            f"{label}: the tokenizer gives an attention_mask, the text tower was trained to look at padding: "
            'set "model_input_names": ["input_ids"] in tokenizer_config.json'
        )
    if padding == "masked" and not masked:
        raise InvalidInput(
            f"{label}: the tokenizer gives no attention_mask, without which the text tower looks at padding: add it to "
            '"model_input_names" in tokenizer_config.json'
        )
