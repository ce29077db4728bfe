"""OpenAI's CLIP as Hugging Face stores it (``model_type: clip``)."""

from __future__ import annotations

import copy
import hashlib
import math
from typing import TYPE_CHECKING, Any

import tokenizers

from clip_client.errors import InvalidInput
from clip_client.spec import CLIP_PREPROCESSOR, ModelSpec
from clip_export import processor
from clip_export.checkpoint import Checkpoint

if TYPE_CHECKING:
    from clip_export.towers import Towers


def spec(checkpoint: Checkpoint, name: str) -> ModelSpec:
    """Describe a CLIP checkpoint from its configs; of the weights only the logit scale and a digest are read.

    Raises:
        InvalidInput: something is missing, or says what can't be.
    """
    config = _config(checkpoint)
    text, vision = config["text_config"], config["vision_config"]
    image = processor.image_fields({**CLIP_PREPROCESSOR, **checkpoint.processor}, checkpoint.label)
    if image["image_size"] != vision["image_size"]:
        raise InvalidInput(
            f"{checkpoint.label}: the processor gives {image['image_size']} pixels a side, "
            f"the image tower takes {vision['image_size']}: save the processor that belongs to the weights"
        )
    end_token, pad_token = _special_tokens(checkpoint, text)
    return ModelSpec(
        name=name,
        checkpoint=checkpoint.label,
        revision=checkpoint.revision,
        family="clip",
        **image,
        context_length=_context_length(checkpoint, text),
        padding="trailing",
        pad_token=pad_token,
        end_token=end_token,
        embedding_size=config["projection_dim"],
        logit_scale=math.exp(float(checkpoint.tensor("logit_scale"))),
        logit_bias=0.0,
        activation="softmax",
        weights_sha256=checkpoint.weights_sha256,
        tokenizer_sha256=hashlib.sha256(checkpoint.tokenizer_json.encode()).hexdigest(),
    )


def towers(checkpoint: Checkpoint, model_spec: ModelSpec) -> Towers:
    """Load both towers in float32, with attention written out so that every exporter understands it."""
    import torch
    from transformers import CLIPModel
    from transformers.utils import logging

    from clip_export.towers import CausalTextTower, ImageTower, PooledProjection, Towers

    logging.disable_progress_bar()  # type: ignore[no-untyped-call]
    try:
        loaded: Any = CLIPModel.from_pretrained(
            checkpoint.folder,
            dtype=torch.float32,
            attn_implementation="eager",
            use_safetensors=True,
            local_files_only=True,
            trust_remote_code=False,
            output_loading_info=True,
        )
    except (OSError, RuntimeError, ValueError) as problem:
        raise InvalidInput(f"{checkpoint.label}: the weights don't load as CLIP: {problem}") from problem
    model, loading = loaded
    if missing := sorted(loading["missing_keys"]):  # which transformers would fill with random numbers
        raise InvalidInput(
            f"{checkpoint.label}: the weights lack {len(missing)} tensors, the first is {missing[0]}: is the file whole?"
        )
    vision = PooledProjection(model.vision_model, model.visual_projection)
    return Towers(
        image=ImageTower(vision, model_spec).eval(),
        text=CausalTextTower(model.text_model, model.text_projection, model_spec).eval(),
    )


def _config(checkpoint: Checkpoint) -> dict[str, Any]:
    """``config.json`` with the defaults that transformers leaves out when it saves."""
    from transformers import CLIPConfig

    try:
        return dict(CLIPConfig.from_dict(copy.deepcopy(checkpoint.config)).to_dict())
    except Exception as problem:  # validators of several libraries are at work in there
        raise InvalidInput(f"{checkpoint.label}: config.json isn't one of CLIP: {problem}") from problem


def _context_length(checkpoint: Checkpoint, text: dict[str, Any]) -> int:
    """The tokenizer may stop short of the positions that the tower has; then it decides, as in transformers."""
    limit = checkpoint.tokenizer_config.get("model_max_length")
    return int(min(text["max_position_embeddings"], limit if isinstance(limit, int | float) else math.inf))


def _special_tokens(checkpoint: Checkpoint, text: dict[str, Any]) -> tuple[int, int]:
    """(end, pad). The end token is what the tokenizer appends: many configs still carry ``eos_token_id: 2``, with which
    transformers reads the embedding at the largest id instead (its pull request #24773)."""
    try:
        tokenizer = tokenizers.Tokenizer.from_str(checkpoint.tokenizer_json)
    except Exception as problem:  # tokenizers raises plain Exception
        raise InvalidInput(f"{checkpoint.label}: tokenizer.json can't be read ({problem}): is the file whole?") from problem
    ids = tokenizer.encode("").ids
    if not ids:
        raise InvalidInput(f"{checkpoint.label}: the tokenizer adds no end token: save the tokenizer of the checkpoint")
    end = ids[-1]
    if text["eos_token_id"] not in (2, end):
        raise InvalidInput(
            f"{checkpoint.label}: config.json ends texts with token {text['eos_token_id']}, the tokenizer with {end}: "
            "save the tokenizer that belongs to the weights"
        )
    pad = checkpoint.tokenizer_config.get("pad_token")
    pad_id = tokenizer.token_to_id(pad["content"] if isinstance(pad, dict) else pad) if pad else None
    return end, pad_id if pad_id is not None and pad_id < text["vocab_size"] else end
