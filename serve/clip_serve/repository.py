"""View of a model repository with other instances and threads, and the number of its processes."""

import shutil
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from google.protobuf import text_format

from clip_client import model_config, repository_check
from clip_client.model_repository import CONFIG_FILE, THREADS, VERSION

check = repository_check.check
"""Check of a repository, before Triton reads it."""


@dataclass(frozen=True)
class Overrides:
    """Changes to the encoders of this run only; None keeps the published value."""

    instances: int | None = None  # copies of each encoder
    threads: int | None = None  # of each of those copies


def overridden(repository: Path, overrides: Overrides, folder: Path) -> Path:
    """Make a view of the repository at ``folder``: a link to it, or links to its versions beside changed configurations.

    The repository stays unchanged, and Triton gets a path that is safe in a shell.
    """
    if overrides == Overrides():
        folder.symlink_to(repository.resolve(), target_is_directory=True)
        return folder
    for model in sorted(path.parent for path in repository.glob(f"*/{CONFIG_FILE}")):
        view = folder / model.name
        shutil.copytree(model, view, symlinks=True, ignore=lambda _, names: set(names) - {CONFIG_FILE})
        (view / VERSION).symlink_to((model / VERSION).resolve(), target_is_directory=True)
        changed = _changed(model_config.read(model), overrides)
        (view / CONFIG_FILE).write_text(text_format.MessageToString(changed), encoding="utf-8")
    return folder


def instances(repository: Path) -> int:
    """Return the number of instances of all models; without native backends each is a Python process."""
    configs = [model_config.read(path.parent) for path in repository.glob(f"*/{CONFIG_FILE}")]
    return sum(group.count for config in configs for group in config.instance_group)


def _changed(config: Any, overrides: Overrides) -> Any:
    if config.backend not in THREADS:
        return config
    if overrides.instances is not None:
        for group in config.instance_group:
            group.count = overrides.instances
    if overrides.threads is not None:
        config.parameters[THREADS[config.backend]].string_value = str(overrides.threads)
    return config
