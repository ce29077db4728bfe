"""Find the checkpoint of ``--model``: a folder, a hub id, or open_clip's name."""

from __future__ import annotations

import re
from pathlib import Path

from clip_client.errors import InvalidInput
from clip_export.checkpoints import adapter, hub, open_clip
from clip_export.checkpoints.checkpoint import Checkpoint, Paired, refuse_revision
from clip_export.checkpoints.file_names import HUB_PATTERNS

_HUB_ID = re.compile(r"[\w.-]+(/[\w.-]+)?")


def find(model: str, revision: str | None, text_model: str | None = None, merged: Path = adapter.MERGED) -> Checkpoint:
    """Resolve ``--model``, and ``--text-model`` where it is given.

    Args:
        model: a folder as it is, a hub id through the hub's cache or a download.
        revision: of the hub id.
        text_model: the same, for a text tower beside the model's image tower.
        merged: folder for adapters together with their base.

    Raises:
        InvalidInput: no such folder, no such id.
        Unavailable: the hub can't be reached.
    """
    checkpoint = _whole(_find(model, revision), merged)
    return Paired.of(checkpoint, _whole(_find(text_model, None), merged)) if text_model else checkpoint


def _whole(checkpoint: Checkpoint, merged: Path) -> Checkpoint:
    """Return a checkpoint as it is, or an adapter with its base."""
    return adapter.with_base(checkpoint, _find, merged) if adapter.is_adapter(checkpoint) else checkpoint


def _find(model: str, revision: str | None) -> Checkpoint:
    if model.startswith(open_clip.PREFIX):
        return open_clip.find(model.removeprefix(open_clip.PREFIX), revision)
    folder = Path(model).expanduser()
    if folder.is_dir():
        refuse_revision(model, revision)
        return Checkpoint(folder, folder.resolve().name, "")
    if folder.is_absolute() or model.startswith((".", "~")) or not _HUB_ID.fullmatch(model):
        raise InvalidInput(
            f"no checkpoint folder {model}: expected a folder, a hub id such as openai/clip-vit-base-patch32, or "
            f"{open_clip.PREFIX}MODEL/PRETRAINED"
        )
    folder = hub.with_safetensors(model, revision, HUB_PATTERNS)
    return Checkpoint(folder, model, folder.name)
