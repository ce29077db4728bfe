"""View of a model repository with other instances and threads, and the number of its processes."""

import shutil
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from google.protobuf import text_format

from clip_client import model_config, repository_check
from clip_client.model_repository import CONFIG_FILE, THREADS
from clip_client.model_versions import folder_of, version_of

check = repository_check.check
"""Check of a repository, before Triton reads it."""


@dataclass(frozen=True)
class Overrides:
    """Changes to the encoders of this run only; None keeps the published value."""

    instances: int | None = None  # copies of each encoder
    threads: int | None = None  # of each of those copies


def overridden(repository: Path, overrides: Overrides, folder: Path) -> Path:
    """Make a view of the repository at ``folder``, or bring it up to date: a link, or links beside changed configurations.

    The repository stays unchanged, and Triton gets a path that is safe in a shell.
    """
    if overrides == Overrides():
        if not folder.is_symlink():
            folder.symlink_to(repository.resolve(), target_is_directory=True)
        return folder
    there = {path.parent.name: path.parent for path in repository.glob(f"[!.]*/{CONFIG_FILE}")}
    for view in folder.glob("*"):
        if view.name not in there:
            shutil.rmtree(view)
    for name, model in sorted(there.items()):
        view, number = folder / name, folder_of(model)
        view.mkdir(parents=True, exist_ok=True)
        changed = _changed(model_config.read(model), overrides)
        (view / CONFIG_FILE).write_text(text_format.MessageToString(changed), encoding="utf-8")
        for link in view.glob("[0-9]*"):
            link.unlink()
        (view / number.name).symlink_to(number.resolve(), target_is_directory=True)
    return folder


def loaded_at_start(repository: Path) -> list[str]:
    """Return the models to load, those that their steps lead to left out: everything but versions that nobody wants."""
    every = sorted(path.parent.name for path in repository.glob(f"[!.]*/{CONFIG_FILE}"))
    return [model for model in every if not version_of(model)]


def instances(repository: Path) -> int:
    """Return the number of instances of the models that are loaded; without native backends each is a Python process."""
    configs = {model: model_config.read(repository / model) for model in loaded_at_start(repository)}
    for config in list(configs.values()):
        for step in config.ensemble_scheduling.step:
            configs.setdefault(step.model_name, model_config.read(repository / step.model_name))
    return sum(group.count for config in configs.values() for group in config.instance_group)


def _changed(config: Any, overrides: Overrides) -> Any:
    if config.backend not in THREADS:
        return config
    if overrides.instances is not None:
        for group in config.instance_group:
            group.count = overrides.instances
    if overrides.threads is not None:
        config.parameters[THREADS[config.backend]].string_value = str(overrides.threads)
    return config
