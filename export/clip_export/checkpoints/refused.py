"""Model types that aren't dual encoders of this kind, or can't be compared with a library, and the reasons."""

from __future__ import annotations

from clip_client.errors import InvalidInput
from clip_export.checkpoints.checkpoint import Checkpoint

_DUAL_ENCODER = "expected a checkpoint with an image and a text tower, such as google/siglip2-base-patch16-256"

_ONE_MODEL = (
    "embeds pictures and texts with one language model, prompts and pictures of any size in one sequence, which is served by "
    f"an engine for language models: {_DUAL_ENCODER}"
)
_LATE_INTERACTION = (
    "gives many vectors for a picture or a text, and compares all with all, where a search here keeps one for each: "
    f"{_DUAL_ENCODER}"
)
_CROSS_ENCODER = f"looks at a picture and a text together, and has no embedding for one of them alone: {_DUAL_ENCODER}"

_ONE_TOWER = (
    *("clip_vision_model", "siglip_vision_model", "dinov2", "dinov2_with_registers", "dinov3_vit", "vit", "swin", "convnext"),
    *("beit", "deit", "resnet", "aimv2_vision_model", "metaclip_2_vision_model", "siglip2_vision_model"),
)

REASONS: dict[str, str] = {
    **dict.fromkeys(
        ("qwen2_vl", "qwen2_5_vl", "qwen3_vl", "qwen3_vl_moe", "llava", "llava_next", "mllama", "phi3_v", "idefics3"),
        _ONE_MODEL,
    ),
    **dict.fromkeys(("colpali", "colqwen2", "colmodernvbert", "paligemma", "blip-2"), _LATE_INTERACTION),
    **dict.fromkeys(("vilt", "visual_bert", "lxmert", "uniter"), _CROSS_ENCODER),
    "jina_clip": (
        "is a Jina CLIP, whose towers exist only as code in its repository. That code isn't run, and no library has them to "
        f"compare with: {_DUAL_ENCODER}, which is multilingual too"
    ),
    "nomic_bert": (
        "is of nomic-embed. Its image tower exists only as code in its repository. That code isn't run, and no library has it "
        "to compare with; its text tower is taken as --text-model, beside an image tower that it was trained for: "
        f"{_DUAL_ENCODER}"
    ),
    "bridgetower": (
        "is a BridgeTower, whose processor resizes pictures to multiples of size_divisor and pads them, which the server's "
        f"preprocessing doesn't do: {_DUAL_ENCODER}"
    ),
    "blip": (
        "is a BLIP, of which transformers gives captions, or a score for a picture and a text together, and no embeddings of "
        f"a pair: {_DUAL_ENCODER}"
    ),
    "owlv2": f"is an OWLv2, whose processor pads pictures in a way of its own: {_DUAL_ENCODER}",
    "clap": f"is a CLAP, which embeds sounds: {_DUAL_ENCODER}",
    "xclip": f"is an X-CLIP, which embeds videos, and texts in their light: {_DUAL_ENCODER}",
}
"""By ``model_type``; each continues a sentence that the checkpoint's name begins."""


def refuse_one_tower(checkpoint: Checkpoint) -> None:
    """Raise InvalidInput for an image tower alone, which needs an option."""
    if checkpoint.config.get("model_type") in _ONE_TOWER:
        raise InvalidInput(
            f"{checkpoint.label} is an image tower alone: pass --image-only to search pictures by pictures, or, to search by "
            f"texts, {_DUAL_ENCODER}"
        )


def refuse(checkpoint: Checkpoint) -> None:
    """Raise InvalidInput for a checkpoint of one of these types, with the reason."""
    if reason := REASONS.get(str(checkpoint.config.get("model_type"))):
        raise InvalidInput(f"{checkpoint.label} {reason}")
