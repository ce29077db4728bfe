"""Installed parts of clipserve: its version, its extras, and the engines with their devices."""

from __future__ import annotations

import platform
import re
from importlib import metadata
from typing import Any

from clip_client import engines
from clip_client.errors import Unavailable

_PACKAGE = "clipserve"
_REQUIREMENT = re.compile(r"([A-Za-z0-9._-]+)\s*(?:\[([^]]*)\])?")  # name and extras, as PEP 508 has them
_EXTRA = re.compile(r"""extra\s*==\s*["']([^"']+)["']""")


def installed() -> dict[str, Any]:
    """Return versions, and the packages that each extra lacks."""
    try:
        version = metadata.version(_PACKAGE)
        lacking = extras()
    except metadata.PackageNotFoundError:  # its source is on the path
        version, lacking = "", {}
    system = f"{platform.system()} {platform.machine()}"
    return {"version": version, "python": platform.python_version(), "system": system, "extras": lacking}


def extras() -> dict[str, list[str]]:
    """Return the packages that aren't installed, by extra; raise PackageNotFoundError if clipserve isn't."""
    needs: dict[str, set[str]] = {name: set() for name in metadata.metadata(_PACKAGE).get_all("Provides-Extra") or []}
    parts: dict[str, set[str]] = {name: set() for name in needs}  # extras that an extra brings
    for requirement in metadata.requires(_PACKAGE) or []:
        extra, match = _EXTRA.search(requirement), _REQUIREMENT.match(requirement)
        if extra is None or match is None:
            continue
        if match[1] == _PACKAGE:
            parts[extra[1]].update(part.strip() for part in (match[2] or "").split(","))
        else:
            needs[extra[1]].add(match[1])
    return {name: sorted(filter(_is_missing, _all_of(name, needs, parts))) for name in sorted(needs)}


def engines_here() -> dict[str, dict[str, Any]]:
    """Return version and devices by engine, or the reason why one can't be used."""
    return {name: _engine(backend, name) for backend, name in engines.NAMES.items()}


def _engine(backend: str, name: str) -> dict[str, Any]:
    try:
        return {"version": metadata.version(backend), "devices": engines.devices(backend)}
    except metadata.PackageNotFoundError:
        return {"reason": "not installed: pip install 'clipserve[local]'"}
    except Unavailable as problem:
        return {"reason": str(problem)}
    except Exception as problem:  # libraries raise anything
        return {"reason": f"{name} fails ({type(problem).__name__}: {problem})"}


def _all_of(name: str, needs: dict[str, set[str]], parts: dict[str, set[str]]) -> set[str]:
    """Return the packages of an extra and of those that it brings."""
    return needs.get(name, set()).union(*(_all_of(part, needs, parts) for part in parts.get(name, ())))


def _is_missing(package: str) -> bool:
    try:
        metadata.version(package)
    except metadata.PackageNotFoundError:
        return True
    return False
