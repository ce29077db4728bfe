"""Checkpoint files on the hub, from its cache or by a download."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

from clip_client.errors import InvalidInput, Unavailable
from clip_export.checkpoints.file_names import SAFETENSORS


def snapshot(model: str, revision: str | None, files: Sequence[str]) -> Path:
    """Return a folder with those files of a hub id that match the patterns.

    Raises:
        InvalidInput: if there is no such id or revision.
        Unavailable: if the hub can't be reached.
    """
    from huggingface_hub import snapshot_download
    from huggingface_hub.errors import (
        HfHubHTTPError,
        HFValidationError,
        LocalEntryNotFoundError,
        RepositoryNotFoundError,
        RevisionNotFoundError,
    )

    try:
        return Path(snapshot_download(model, revision=revision, allow_patterns=[*files]))
    except RepositoryNotFoundError as problem:
        raise InvalidInput(f"the hub has no {model}, or it is private: check the id, or pass --model FOLDER") from problem
    except RevisionNotFoundError as problem:
        raise InvalidInput(f"{model} has no revision {revision} on the hub: check --revision") from problem
    except HFValidationError as problem:
        raise InvalidInput(f"{model!r} is no folder here, nor a hub id: {problem}") from problem
    except (LocalEntryNotFoundError, HfHubHTTPError, OSError) as problem:
        raise Unavailable(
            f"no folder {model} here, and the hub can't be reached for it ({type(problem).__name__}): "
            "download it elsewhere and pass --model FOLDER"
        ) from problem


def with_safetensors(model: str, revision: str | None, files: Sequence[str]) -> Path:
    """Return such a folder, and require weights that can't run code in it.

    Raises:
        InvalidInput: if there are pickled weights only.
    """
    folder = snapshot(model, revision, files)
    if not any(folder.glob(f"*{SAFETENSORS}")):
        raise InvalidInput(
            f"{model} has no safetensors at {revision or 'its main branch'}, and pickled weights, which can run code, aren't "
            "loaded: look for a conversion among its pull requests on the hub, and pass --revision refs/pr/NUMBER"
        )
    return folder
