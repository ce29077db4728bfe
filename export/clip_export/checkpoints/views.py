"""Views: folders of links that give files the names and the places that libraries expect."""

from __future__ import annotations

import contextlib
import hashlib
import shutil
import uuid
from collections.abc import Mapping
from pathlib import Path

from huggingface_hub import cached_assets_path, constants

from clip_client.errors import Unavailable


def view(files: Mapping[str, Path]) -> Path:
    """Return a folder with links to files, by the name that each has in it; the same files give the same folder.

    Raises:
        Unavailable: if it can't be written.
    """
    listing = "\n".join(f"{name}\t{path.resolve()}" for name, path in sorted(files.items()))
    key = hashlib.sha256(listing.encode(errors="surrogateescape")).hexdigest()[:32]
    try:
        folder = cached_assets_path("clipserve", "views", key, assets_dir=constants.HF_ASSETS_CACHE) / "checkpoint"
        if not folder.is_dir() or not all((folder / name).exists() for name in files):
            _write(folder, files)
    except (OSError, ValueError) as problem:
        raise Unavailable(
            f"no links to the checkpoint's files can be made in {constants.HF_ASSETS_CACHE}: {problem}"
        ) from problem
    return folder


def _write(folder: Path, files: Mapping[str, Path]) -> None:
    """Make the links beside the folder's place, then give it its name: others may do the same now."""
    made = folder.with_name(uuid.uuid4().hex)
    for name, path in files.items():
        (made / name).parent.mkdir(parents=True, exist_ok=True)
        (made / name).symlink_to(path.resolve())
    shutil.rmtree(folder, ignore_errors=True)
    with contextlib.suppress(FileExistsError, OSError):
        made.rename(folder)
    shutil.rmtree(made, ignore_errors=True)
