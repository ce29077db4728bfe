"""One copy of what is large."""

from __future__ import annotations

import os
import shutil
from pathlib import Path


def link(source: Path, target: Path) -> None:
    """Give a file a second place. Weights are written once and never changed, so both can share them; copied where not."""
    try:
        os.link(source, target)
    except OSError:
        shutil.copyfile(source, target)
