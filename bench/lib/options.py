"""Command-line options that benches share, and their record in a result."""

from __future__ import annotations

import argparse
from pathlib import Path
from typing import Any

from clip_export.checkpoint import find
from lib.samples import COLLAGES


def parser(description: str | None, *, rounds: int = 0, peers: bool = False) -> argparse.ArgumentParser:
    """Return a parser with the shared options: --model and --photos, --rounds if it has a default, --peers if asked for."""
    made = argparse.ArgumentParser(description=description, formatter_class=argparse.RawDescriptionHelpFormatter)
    made.add_argument("--model", metavar="FOLDER|HUB_ID", help="checkpoint (default: a ViT-B/32 with random weights)")
    made.add_argument("--photos", type=Path, metavar="FOLDER", help="JPEG files (default: collages of the bundled drawings)")
    if rounds:
        made.add_argument("--rounds", type=int, default=rounds, metavar="N", help="turns of each (default: %(default)s)")
    if peers:
        made.add_argument("--peers", type=Path, metavar="FOLDER", help="virtual environments of the other programs")
    return made


def setting(options: argparse.Namespace, model: str = "ViT-B/32 with random weights", photos: str = COLLAGES) -> dict[str, Any]:
    """Return the conditions of a run for its result: its options, folders by name, words for the defaults."""
    checkpoint = find(options.model, None).label if options.model else model
    named = {name: value.name if isinstance(value, Path) else value for name, value in vars(options).items()}
    return named | {"model": checkpoint, "photos": options.photos.name if options.photos else photos}
