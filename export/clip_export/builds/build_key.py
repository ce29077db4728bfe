"""Digests of everything that shapes an artefact, so that one of other weights, tools or modules is built again."""

from __future__ import annotations

import hashlib
from functools import cache
from pathlib import Path

_PACKAGE = Path(__file__).parents[1]

BUILDERS = ("families/*.py", "towers/*.py", "variants/*.py")
"""Our own modules that shape an artefact."""


@cache
def builders_digest() -> str:
    """Return the digest of :data:`BUILDERS`."""
    return hashlib.sha256(b"\0".join(file.read_bytes() for file in builder_files())).hexdigest()


def builder_files() -> list[Path]:
    """Return the files of :data:`BUILDERS`."""
    return sorted(file for pattern in BUILDERS for file in _PACKAGE.glob(pattern))
