"""Image towers of text models that were trained for one: such a model alone is a whole checkpoint together with it."""

from __future__ import annotations

from clip_client.errors import InvalidInput
from clip_export.checkpoints.checkpoint import Checkpoint
from clip_export.checkpoints.file_names import CONFIG
from clip_export.checkpoints.text_modules import ModularCheckpoint

_OPENAI_B32, _OPENAI_L14 = "openai/clip-vit-base-patch32", "openai/clip-vit-large-patch14"

IMAGE_MODELS = {
    "clip-ViT-B-32-multilingual-v1": "sentence-transformers/clip-ViT-B-32",
    "XLM-Roberta-Large-Vit-B-32": _OPENAI_B32,
    "XLM-Roberta-Large-Vit-L-14": _OPENAI_L14,
    "LABSE-Vit-L-14": _OPENAI_L14,
    "XLM-Roberta-Large-Vit-B-16Plus": "open_clip:ViT-B-16-plus-240/laion400m_e32",
}
"""Value of ``--model`` by the name of a text model, as the models' own pages say it."""


def image_model(checkpoint: Checkpoint) -> str | None:
    """Return the image tower's ``--model`` for a text model; None for a checkpoint with both towers.

    Raises:
        InvalidInput: for a text model of which nobody says the image tower.
    """
    if not _is_text_model(checkpoint):
        return None
    if image := IMAGE_MODELS.get(checkpoint.label.rpartition("/")[2]):
        return image
    raise InvalidInput(
        f"{checkpoint.label} is a text model, expected both towers: pass it as --text-model, and the image tower that it was "
        "trained for as --model"
    )


def _is_text_model(checkpoint: Checkpoint) -> bool:
    if isinstance(checkpoint, ModularCheckpoint):
        return True
    whole = type(checkpoint) is not Checkpoint or not (checkpoint.folder / CONFIG).exists()
    return not whole and str(checkpoint.config.get("model_type")).lower() == "m-clip"
