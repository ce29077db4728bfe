"""Find the checkpoint of ``--model``: a folder, a hub id, or open_clip's name."""

from __future__ import annotations

import sys

from clip_client.errors import InvalidInput
from clip_export.checkpoints import hub, open_clip
from clip_export.checkpoints.checkpoint import Checkpoint, Paired
from clip_export.checkpoints.file_names import HUB_PATTERNS
from clip_export.checkpoints.names import File, Folder, HubId, OpenClipName, meaning


def find(model: str, revision: str | None, text_model: str | None = None) -> Checkpoint:
    """Resolve ``--model``, and ``--text-model`` where it is given.

    Args:
        model: a folder as it is, a hub id through the hub's cache or a download.
        revision: of the hub id.
        text_model: the same, for a text tower beside the model's image tower.

    Raises:
        InvalidInput: no such folder, no such id.
        Unavailable: the hub can't be reached.
    """
    checkpoint = _find(model, revision)
    return Paired.of(checkpoint, _find(text_model, None)) if text_model else checkpoint


def _find(model: str, revision: str | None) -> Checkpoint:
    meant = meaning(model, revision)
    if meant.note:
        print(meant.note, file=sys.stderr)
    match meant:
        case Folder(path, through_open_clip):
            return open_clip.find(str(path), None) if through_open_clip else Checkpoint(path, path.resolve().name, "")
        case HubId(id_, revision, through_open_clip):
            if through_open_clip:
                return open_clip.find(f"hf-hub:{id_}", revision)
            folder = hub.with_safetensors(id_, revision, HUB_PATTERNS)
            return Checkpoint(folder, id_, folder.name)
        case OpenClipName(name, tag, revision):
            return open_clip.find(f"{name}/{tag}", revision)
        case File(path, str(architecture)):
            return open_clip.find(f"{architecture}/{path}", None)
    raise InvalidInput(f"the file {meant.path} has no architecture: pass {open_clip.PREFIX}MODEL/{meant.path}")
