"""Checkpoints published in a model repository, one by one, each with the reason if it can't be opened."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from clip_client import model_versions
from clip_client.errors import ClipError
from clip_client.model_repository import VERSION, encoder
from clip_client.spec import TOWERS, ensemble


def published(repository: Path) -> dict[str, Any]:
    """Return the checkpoints of a repository by name, or the reason why none can be told."""
    try:
        from clip_client import repository_check
    except ImportError as problem:
        return {"folder": str(repository), "reason": f"needs {problem.name}: pip install 'clipserve[local]'"}
    if not repository.is_dir():
        return {"folder": str(repository), "reason": "there is no such folder"}
    suffix = ensemble("", "image")
    names = sorted(folder.name.removesuffix(suffix) for folder in repository.glob(f"[!.]*{suffix}") if folder.is_dir())
    return {"folder": str(repository), "published": {name: _checkpoint(repository_check, repository, name) for name in names}}


def _checkpoint(repository_check: Any, repository: Path, name: str) -> dict[str, Any]:
    try:
        configs = repository_check.configs(repository, name)
        version = model_versions.target(configs[ensemble(name, "text")], name)
        configs = configs if version == name else repository_check.configs(repository, version)
        spec = repository_check.spec(repository / ensemble(name, "image"))
    except (ClipError, OSError) as problem:
        return {"reason": str(problem)}
    encoders = {tower: encoder(version, tower) for tower in TOWERS}
    variants = {tower: _variant(configs[model], repository / model) for tower, model in encoders.items()}
    return {"checkpoint": spec.checkpoint, "revision": spec.revision, "fingerprint": spec.fingerprint, "variants": variants}


def _variant(config: Any, folder: Path) -> str:
    """Return the engine of an encoder and the size of its weights."""
    size = sum(file.stat().st_size for file in (folder / VERSION).iterdir() if file.is_file())
    return f"{config.backend}, {size / 1e6:.0f} MB"
