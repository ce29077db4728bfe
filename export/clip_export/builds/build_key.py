"""Digests of everything that shapes an artefact, so that one of other weights, tools or modules is built again."""

from __future__ import annotations

import hashlib
from functools import cache
from pathlib import Path

from clip_client import engines

_PACKAGE = Path(__file__).parents[1]

BUILDERS = ("families/*.py", "towers/*.py", "variants/*.py")
"""Our own modules that shape an artefact."""


@cache
def builders_digest() -> str:
    """Return the digest of :func:`builder_files`."""
    return hashlib.sha256(b"\0".join(file.read_bytes() for file in builder_files())).hexdigest()


def builder_files() -> list[Path]:
    """Return the files of :data:`BUILDERS`, and those that run an artefact when it is judged."""
    runners = Path(engines.__file__).parent.glob("*.py")
    return [*sorted(file for pattern in BUILDERS for file in _PACKAGE.glob(pattern)), *sorted(runners)]
