"""Places of a run's own files: never among the pictures."""

from __future__ import annotations

import dataclasses
from pathlib import Path
from typing import Any

from platformdirs import user_data_path

from clip_client import model_repository
from clip_serve.up.messages import say
from clip_serve.up.options import ARTIFACTS, DATA, Options

_DEFAULTS = {"data": DATA, "repository": model_repository.FOLDER, "artifacts": ARTIFACTS}
"""Option and its default, a folder in the working directory."""


def chosen(options: Options) -> Options:
    """Return the options with the user's data folder for each default place that would be made among the pictures.

    What is there already, or was named otherwise, stays; it is said where it lies among the pictures.
    """
    if not (options.pictures and Path(options.pictures).is_dir()):
        return options
    pictures = Path(options.pictures).resolve()
    inside = {name: place for name in _DEFAULTS if (place := Path(getattr(options, name))).resolve().is_relative_to(pictures)}
    new = {name: place for name, place in inside.items() if place == _DEFAULTS[name] and not _is_used(place)}
    if stay := sorted(str(place.absolute()) for name, place in inside.items() if name not in new):
        say(f"among the pictures lies what isn't one: {', '.join(stay)}")
    if not new:
        return options
    folder = user_data_path("clipserve", appauthor=False)
    say(f"the working directory is among the pictures: database, models and artefacts go to {folder}")
    moved: dict[str, Any] = {name: folder / place.name for name, place in new.items()}
    return dataclasses.replace(options, **moved)


def _is_used(place: Path) -> bool:
    """Tell if something is in a folder."""
    return place.is_dir() and any(place.iterdir())
