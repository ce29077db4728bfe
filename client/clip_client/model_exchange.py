"""Exchange of a model repository's models: all or none, also if the process is killed at any step.

The new models stand in a staging folder beside the repository (or in it, where it is a mount) before anything is moved. A mark
in that folder says that they are whole and the exchange has begun; the next process goes on with it.
"""

import os
import shutil
from collections.abc import Sequence
from pathlib import Path

_NEW, _OLD, _MARK = "new", "old", "begun"


def prefix(repository: Path) -> str:
    """Return the name of a repository's staging folders, up to a random part."""
    return f".{repository.name}-staging-"


def lock_file(repository: Path) -> Path:
    """Return the file that is locked while a repository is changed or checked."""
    return repository.parent / f".{repository.name}.lock"


def unfinished(repository: Path) -> list[Path]:
    """Return staging folders of exchanges that were begun and not ended; under the lock: that were killed."""
    return [folder for folder in _stagings(repository) if (folder / _MARK).exists()]


def finish(repository: Path) -> None:
    """End an exchange that was killed, and remove the folders of one that wasn't begun; the caller holds the lock.

    Raises:
        OSError: the repository can't be written.
    """
    for staging in _stagings(repository):
        if (staging / _MARK).exists():
            _go_on(staging, repository)
        for model in staging.glob(f"{_OLD}/*"):
            if not (repository / model.name).exists():  # taken out by a version that left no mark
                os.rename(model, repository / model.name)
        shutil.rmtree(staging)


def folder_of_new(staging: Path) -> Path:
    """Make the folder that the new models are written into."""
    (staging / _OLD).mkdir()
    (staging / _NEW).mkdir()
    return staging / _NEW


def exchange(staging: Path, repository: Path) -> None:
    """Replace models by the new ones of their names; raise OSError if a step fails, and leave the repository unchanged."""
    names = [path.name for path in (staging / _NEW).iterdir()]
    (staging / _MARK).touch()
    try:
        _go_on(staging, repository)
    except BaseException:  # Ctrl-C too
        _go_back(staging, repository, names)
        raise


def _stagings(repository: Path) -> list[Path]:
    if not repository.is_dir():
        return []
    return sorted(path for folder in (repository.parent, repository) for path in folder.glob(f"{prefix(repository)}*"))


def _go_on(staging: Path, repository: Path) -> None:
    """Do the moves that are left, from any step on."""
    new, old = staging / _NEW, staging / _OLD
    for name in sorted(path.name for path in new.iterdir()):
        if (repository / name).exists():
            os.rename(repository / name, old / name)
        os.rename(new / name, repository / name)
    (staging / _MARK).unlink()  # before anything of the folder is removed


def _go_back(staging: Path, repository: Path, names: Sequence[str]) -> None:
    new, old = staging / _NEW, staging / _OLD
    for name in names:
        if not (new / name).exists():
            os.rename(repository / name, new / name)
        if (old / name).exists():
            os.rename(old / name, repository / name)
    (staging / _MARK).unlink(missing_ok=True)
