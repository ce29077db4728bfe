"""Command-line options that benches share, and their record in a result."""

import argparse
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from clip_export.checkpoints.find import find
from lib.samples import COLLAGES

TURNS = "turns of each"


def parsed(
    description: str | None, numbers: Mapping[str, tuple[int, str]] | None = None, *, peers: bool = False
) -> argparse.Namespace:
    """Parse the command line: --model and --photos, --peers if asked for, and numbers of a bench: flag → (default, help)."""
    parser = argparse.ArgumentParser(description=description, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--model", metavar="FOLDER|HUB_ID", help="checkpoint (default: a ViT-B/32 with random weights)")
    parser.add_argument("--photos", type=Path, metavar="FOLDER", help="JPEG files (default: collages of the bundled drawings)")
    for flag, (default, help) in (numbers or {}).items():
        parser.add_argument(flag, type=int, default=default, metavar="N", help=f"{help} (default: %(default)s)")
    if peers:
        parser.add_argument("--peers", type=Path, metavar="FOLDER", help="virtual environments of the other programs")
    return parser.parse_args()


def setting(options: argparse.Namespace, model: str = "ViT-B/32 with random weights", photos: str = COLLAGES) -> dict[str, Any]:
    """Return the conditions of a run for its result: its options, folders by name, words for the defaults."""
    checkpoint = find(options.model, None).label if options.model else model
    named = {name: value.name if isinstance(value, Path) else value for name, value in vars(options).items()}
    return named | {"model": checkpoint, "photos": options.photos.name if options.photos else photos}
