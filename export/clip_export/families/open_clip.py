"""open_clip's models: vision transformers, ResNets and timm's towers beside its own text towers or Hugging Face's."""

from __future__ import annotations

import math
from collections.abc import Mapping
from typing import Any

from clip_client.errors import InvalidInput, Unavailable
from clip_client.spec import TOWERS, Activation, ModelSpec, Padding, ResizeMode, Tower
from clip_export.checkpoints.checkpoint import Checkpoint
from clip_export.checkpoints.open_clip import MODEL_TYPE, OpenClipCheckpoint, library
from clip_export.families.base import Family
from clip_export.families.hugging_face import check_padding_side, end_token, parsed
from clip_export.families.weight_errors import not_loaded
from clip_export.libraries.base import Library
from clip_export.libraries.open_clip import OpenClipLibrary
from clip_export.towers import Towers
from clip_export.towers.coca_text_tower import CocaTextTower
from clip_export.towers.image_tower import ImageTower
from clip_export.towers.pooling import Pool, first, mean
from clip_export.towers.text_towers import MaskedTextTower, OpenClipTextTower, TextTower

RESIZE: dict[str, ResizeMode] = {
    "shortest": "shortest_edge_torchvision",
    "longest": "longest_edge",
    "squash": "squash",
}
"""open_clip's names of resize modes."""
_TEXT_MODELS = ("bert", "roberta", "xlm-roberta", "m2m_100", "mt5")
_POOLERS = ("mean_pooler", "cls_pooler", "cls_last_hidden_state_pooler")


class OpenClip(Family):
    """A CLIP or CustomTextCLIP of open_clip."""

    model_type = MODEL_TYPE

    def describe(self, checkpoint: Checkpoint, name: str) -> ModelSpec:
        known = _known(checkpoint)
        config = known.config
        text = config["text_cfg"]
        _check(config, known.label)
        end = end_token(parsed(known), known.label)
        _check_end(text, end, known.label)
        _check_separator(known, text)
        _check_padding(known, text)
        sigmoid = config.get("init_logit_bias") is not None
        activation: Activation = "sigmoid" if sigmoid else "softmax"
        return ModelSpec(
            name=name,
            checkpoint=known.label,
            revision=known.revision,
            family=self.model_type,
            **_image_fields(known),
            context_length=text.get("context_length", library().tokenizer.DEFAULT_CONTEXT_LENGTH),
            padding=_padding(text),
            pad_token=known.tokenizer.pad_token or 0,
            end_token=end,
            embedding_size=config["embed_dim"],
            logit_scale=math.exp(float(known.tensor("logit_scale"))),
            logit_bias=float(known.tensor("logit_bias")) if sigmoid else 0.0,
            activation=activation,
            weights_sha256=known.weights_sha256,
            tokenizer_sha256=known.tokenizer_sha256,
        )

    def load(self, checkpoint: Checkpoint, spec: ModelSpec) -> Towers:
        known = _known(checkpoint)
        model = _loaded(known)
        model.visual.output_tokens = False  # of CoCa, for its captions
        image = ImageTower(model.visual, spec).eval()
        del model.visual  # or the text tower, which may be the model itself, would hold both towers' weights
        return Towers(
            image=image,
            text=_text_tower(getattr(model, "text", model), known, spec).eval(),
        )

    def libraries(self, checkpoint: Checkpoint) -> Mapping[Tower, Library]:
        return dict.fromkeys(TOWERS, OpenClipLibrary(_known(checkpoint)))


def _known(checkpoint: Checkpoint) -> OpenClipCheckpoint:
    assert isinstance(checkpoint, OpenClipCheckpoint)  # noqa: S101  (families.of chose this family for it)
    return checkpoint


def _loaded(checkpoint: OpenClipCheckpoint) -> Any:
    try:
        model = checkpoint.loaded()
    except OSError as problem:  # transformers' for a configuration
        text = checkpoint.config["text_cfg"].get("hf_model_name")
        raise Unavailable(
            f"{checkpoint.label}: the configuration of its text model {text} can't be fetched: {problem}"
        ) from problem
    except (RuntimeError, ValueError, TypeError) as problem:
        raise not_loaded(checkpoint.label, problem, checkpoint.model) from problem
    from timm.utils.model import reparameterize_model

    model = reparameterize_model(model.float().eval(), inplace=True)  # MobileCLIP is trained with several branches for one
    for module in model.visual.modules():
        if hasattr(module, "rel_pos") and hasattr(module, "fused_attn"):
            module.fused_attn = False  # torch.export takes it apart into views that don't fit, where positions are a bias
    return model


def _check(config: dict[str, Any], label: str) -> None:
    text = config["text_cfg"]
    if text.get("hf_model_name") and (pooler := text.get("hf_pooler_type")) not in (None, *_POOLERS):
        raise InvalidInput(f"{label}: the text tower pools by {pooler}, expected one of {', '.join(_POOLERS)}")


def _check_end(text: dict[str, Any], end: int, label: str) -> None:
    """Raise InvalidInput where the text tower pools elsewhere than at the tokenizer's end token, or at a class token."""
    pool = text.get("pool_type", "argmax")
    read_at = {"argmax": text.get("vocab_size", end + 1) - 1, "eos": text.get("eos_id", 2)}.get(pool, end)
    if read_at != end and not text.get("hf_model_name") and not text.get("embed_cls"):
        raise InvalidInput(
            f"{label}: the text tower is read at token {read_at}, the tokenizer ends texts with {end}: "
            "pass the tokenizer that belongs to the weights"
        )


def _check_separator(checkpoint: OpenClipCheckpoint, text: dict[str, Any]) -> None:
    """Raise InvalidInput where the text tower would look for a separator that open_clip has removed, or masks it."""
    by_place = text.get("pool_type", "argmax") in ("first", "last") and not text.get("embed_cls")
    if checkpoint.separator is not None and (text.get("hf_model_name") or not by_place):
        raise InvalidInput(
            f"{checkpoint.label}: the tokenizer has strip_sep_token on, the text tower pools by "
            f"{text.get('pool_type', 'argmax')}: expected first or last, of one of open_clip's own text towers"
        )


def _check_padding(checkpoint: OpenClipCheckpoint, text: dict[str, Any]) -> None:
    check_padding_side(checkpoint)
    if text.get("hf_tokenizer_name") and checkpoint.tokenizer.pad_token is None:
        raise InvalidInput(f"{checkpoint.label}: the tokenizer has no pad_token: name it in tokenizer_config.json")


def _image_fields(checkpoint: OpenClipCheckpoint) -> dict[str, Any]:
    settings = library().transform.merge_preprocess_dict(library().transform.PreprocessCfg(), checkpoint.preprocessing)
    size = checkpoint.config["vision_cfg"].get("image_size", library().CLIPVisionCfg().image_size)
    sides = {*size} if isinstance(size, list | tuple) else {size}
    if len(sides) != 1 or settings["interpolation"] == "random" or settings["fill_color"] != 0:
        raise InvalidInput(f"{checkpoint.label}: the preprocessing {settings} of size {size} can't be followed")
    return {
        "image_size": (side := sides.pop()),
        "resize_mode": RESIZE[settings["resize_mode"]],
        "resize_size": side,
        "interpolation": settings["interpolation"],
        "mean": tuple(settings["mean"]),
        "std": tuple(settings["std"]),
    }


def _padding(text: dict[str, Any]) -> Padding:
    if text.get("hf_model_name"):
        return "masked"
    if text.get("embed_cls"):
        return "full"
    causal = not text.get("no_causal_mask", False)
    return "trailing" if causal and text.get("pool_type", "argmax") in ("argmax", "eos") else "full"


def _text_tower(text: Any, known: OpenClipCheckpoint, spec: ModelSpec) -> TextTower:
    config = known.config["text_cfg"]
    if config.get("hf_model_name"):
        if (kind := text.config.model_type) not in _TEXT_MODELS:
            raise InvalidInput(f"the text tower is a {kind!r}, expected one of {', '.join(_TEXT_MODELS)}")
        text.transformer.set_attn_implementation("eager")
        return MaskedTextTower(text.transformer, _pool(text), text.proj, spec, unseen=text.config.pad_token_id)
    tower = CocaTextTower if getattr(text, "cls_emb", None) is not None else OpenClipTextTower
    return tower(text, config.get("pool_type", "argmax"), spec, absent=known.separator)


def _pool(text: Any) -> Pool:
    if type(text.pooler).__name__ == "MeanPooler":
        return mean
    head = getattr(text.transformer, "pooler", None) if getattr(text.pooler, "use_pooler_output", False) else None
    return first if head is None else lambda hidden, _: head(hidden)
