"""Checkpoint and pictures that a clone of the repository bundles; an installed package doesn't carry them."""

from pathlib import Path

FOLDER = Path(__file__).parents[2] / "examples" / "emoji"
CHECKPOINT, PICTURES = FOLDER / "emoji-clip", FOLDER / "pictures"
