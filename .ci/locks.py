"""Locks: files of pinned packages with the hashes of all their files, resolved by uv from pyproject.toml and the server's list.

python .ci/locks.py              # write them anew where a source changed; other versions stay as they are
python .ci/locks.py --upgrade    # take the newest versions
python .ci/locks.py --check      # compare them with their sources; needs no network

No lock has torch or what only its CUDA build needs: which build there is depends on the index. It is installed by its version,
beside a lock. No address of an index is written down: the hashes hold for any mirror.
"""

from __future__ import annotations

import argparse
import re
import subprocess
import sys
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import tomllib
from packaging.requirements import Requirement
from packaging.utils import canonicalize_name

ROOT = Path(__file__).parents[1]
PROJECT = "pyproject.toml"
_OF_TORCH = re.compile(r"torch|triton|nvidia-(?!pytriton).+|cuda-.+")
_EITHER_MACHINE = r" and \(\(platform_machine == 'aarch64' and [^)]+\) or \(platform_machine == 'x86_64' and [^)]+\)\)"
_ALL_OF_SETTINGS = rf"(?: ; python_full_version < '3\.13')?{_EITHER_MACHINE}"  # what uv's settings say of every package
_ENTRY = re.compile(
    r"^(?P<name>[\w.-]+)==(?P<version>[^\s;]+)(?: ?; ?(?P<marker>[^\\\n]+?))?(?P<hashes>(?: \\\n +--hash=\S+)*)\n", re.M
)


@dataclass(frozen=True)
class Lock:
    """A lock's file, and its sources: extras of the project, requirements for building it, or a file of requirements."""

    path: str
    extras: tuple[str, ...] = ()
    source: str = PROJECT
    pythons: tuple[str, ...] = ("3.11", "3.12")  # that it is for
    build: bool = False
    alone: bool = False  # the source names all packages

    @property
    def requirements(self) -> list[Requirement]:
        """Requirements of its own; torch is none of them."""
        if self.source != PROJECT:
            lines = (ROOT / self.source).read_text(encoding="utf-8").splitlines()
            return [Requirement(line) for line in lines if line and not line.startswith("#")]
        project = tomllib.loads((ROOT / PROJECT).read_text(encoding="utf-8"))
        if self.build:
            return [Requirement(line) for line in project["build-system"]["requires"]]
        return [one for one in requirements(project, self.extras) if not _OF_TORCH.fullmatch(one.name)]


@dataclass(frozen=True)
class Pin:
    """A package of a lock."""

    name: str
    version: str
    marker: str
    hashes: int


LOCKS = (
    Lock(".ci/locked.txt", extras=("up", "embed", "loadtest", "dev", "docs", "bench", "notebooks")),
    Lock(
        "serve/clip_inside_triton/requirements.txt",
        source="serve/clip_inside_triton/requirements.in",
        pythons=("3.10", "3.11", "3.12"),
        alone=True,
    ),
    Lock("deploy/locks/build.txt", build=True),
    Lock("deploy/locks/embed.txt", extras=("embed",)),
    Lock("deploy/locks/export.txt", extras=("export",)),
    Lock("deploy/locks/search.txt", extras=("search", "object-store")),
)
"""The first one is what everything is tested with: the others take its versions."""


def main() -> None:
    """Write or check."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--check", action="store_true", help="compare the locks with their sources, write nothing")
    parser.add_argument("--upgrade", action="store_true", help="take the newest versions that the ranges allow")
    options = parser.parse_args()
    if not options.check:
        for lock in LOCKS:
            write(lock, upgrade=options.upgrade)
    faults = [fault for lock in LOCKS for fault in faults_of(lock)]
    for fault in faults:
        print(fault, file=sys.stderr)
    if faults and options.check:
        print("write the locks anew: python .ci/locks.py", file=sys.stderr)
    sys.exit(1 if faults else 0)


def write(lock: Lock, *, upgrade: bool) -> None:
    """Resolve a lock with uv, keep the versions it has, and leave torch out."""
    path = ROOT / lock.path
    extras = [text for extra in lock.extras for text in ("--extra", extra)]
    source = "-" if lock.build else lock.source
    first = LOCKS[0].path
    command = [sys.executable, "-m", "uv", "pip", "compile", "--quiet", "--universal", "--generate-hashes", "--no-annotate"]
    command += ["--custom-compile-command", "python .ci/locks.py", "--python-version", lock.pythons[0], source, *extras]
    command += ["--output-file", lock.path, *(["--no-deps"] if lock.alone else [])]
    command += ["--constraint", first] if lock.path != first and not lock.alone else []
    command += ["--upgrade"] if upgrade else []
    told = "\n".join(map(str, lock.requirements)) if lock.build else None
    ended = subprocess.run(command, cwd=ROOT, input=told, text=True, stdout=subprocess.DEVNULL, stderr=subprocess.PIPE)
    if ended.returncode:
        sys.exit(f"{lock.path} can't be resolved: {ended.stderr.strip()[:2000]}")
    text = re.sub(_ALL_OF_SETTINGS, "", path.read_text(encoding="utf-8"))
    path.write_text(_ENTRY.sub(lambda entry: "" if _OF_TORCH.fullmatch(entry["name"]) else entry[0], text), encoding="utf-8")
    print(f"{lock.path}: {len(pins(lock))} packages")


def pins(lock: Lock) -> list[Pin]:
    """Return the packages of a lock's file."""
    entries = _ENTRY.finditer((ROOT / lock.path).read_text(encoding="utf-8"))
    return [Pin(canonicalize_name(e["name"]), e["version"], e["marker"] or "", e["hashes"].count("--hash=")) for e in entries]


def faults_of(lock: Lock) -> Iterator[str]:
    """Yield the reasons that a lock doesn't fit its source."""
    if not (ROOT / lock.path).exists():
        yield f"{lock.path} isn't there"
        return
    every = pins(lock)
    yield from (f"{lock.path}: {pin.name} has no hash" for pin in every if not pin.hashes)
    yield from (
        f"{lock.path}: {pin.name} depends on the index, and isn't locked" for pin in every if _OF_TORCH.fullmatch(pin.name)
    )
    for python in lock.pythons:
        locked = {pin.name: pin.version for pin in every if applies(pin.marker, python)}
        for requirement in lock.requirements:
            version = locked.get(canonicalize_name(requirement.name))
            if applies(str(requirement.marker or ""), python) and (version is None or version not in requirement.specifier):
                asked = f"{requirement} on Python {python} is asked for by {lock.source}"
                yield f"{lock.path}: {asked}, {version or 'nothing'} is locked"


def applies(marker: str, python: str) -> bool:
    """Tell if a marker is true on Linux with this Python."""
    system = {"python_version": python, "python_full_version": f"{python}.9", "sys_platform": "linux", "extra": ""}
    told = {**system, "platform_machine": "x86_64", "platform_system": "Linux", "os_name": "posix"}
    return not marker or Requirement(f"x; {marker}").marker.evaluate(told)  # type: ignore[union-attr]


def requirements(project: Mapping[str, Any], extras: Sequence[str]) -> list[Requirement]:
    """Return what the project and some of its extras ask for; extras of extras too, each once."""
    name, optional = project["project"]["name"], project["project"]["optional-dependencies"]
    listed, ahead, seen = list(map(Requirement, project["project"]["dependencies"])), [*extras], set()
    while ahead:
        extra = ahead.pop()
        if extra in seen:
            continue
        seen.add(extra)
        for requirement in map(Requirement, optional[extra]):
            if requirement.name == name:
                ahead += requirement.extras
            else:
                listed.append(requirement)
    return listed


if __name__ == "__main__":
    main()
