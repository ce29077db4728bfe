"""Wheel and source distribution: built, and compared with what the repository holds.

python .ci/distribution.py               # build into a temporary folder, check
python .ci/distribution.py --out dist    # keep them

The wheel is built twice, from the clone and from the unpacked source distribution, and both are the same to the byte: nothing
is missing from the source, and nothing depends on the clone, the time or the folder. Python 3.11 or later.
"""

from __future__ import annotations

import argparse
import subprocess
import sys
import tarfile
import tempfile
import zipfile
from collections.abc import Collection, Iterator
from email import message_from_bytes
from email.message import Message
from functools import cache
from pathlib import Path
from typing import Any

import tomllib

ROOT = Path(__file__).parents[1]
WHEEL, SOURCE = "wheel", "sdist"
MOST_BYTES = {WHEEL: 2_000_000, SOURCE: 30_000_000}
"""Largest files: a wheel without weights; a source distribution with the bundled checkpoint of 15 MB and its pictures."""
_LICENSES = ("LICENSE", "NOTICE")
_OF_TESTS = ("tests/", "conftest.py", "/test_")


def main() -> None:
    """Build, check, report."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--out", type=Path, metavar="FOLDER", help="keep the files there (default: they are only checked)")
    options = parser.parse_args()
    with tempfile.TemporaryDirectory() as temporary:
        out = options.out or Path(temporary)
        built = {target: build(ROOT, target, out) for target in (SOURCE, WHEEL)}
        faults = [*of_wheel(built[WHEEL]), *of_source(built[SOURCE]), *of_rebuilt(built, Path(temporary) / "again")]
        for target, path in built.items():
            size = path.stat().st_size
            print(f"{path.name}: {size / 1e6:.1f} MB")
            faults += [f"{path.name} is larger than {MOST_BYTES[target]:,} bytes"] * (size > MOST_BYTES[target])
    for fault in faults:
        print(fault, file=sys.stderr)
    sys.exit(1 if faults else 0)


def build(root: Path, target: str, out: Path) -> Path:
    """Build a file with the backend that is installed; return its path."""
    code = f"import sys; from hatchling.build import build_{target} as build; print(build(sys.argv[1]))"
    built = subprocess.run([sys.executable, "-c", code, out.absolute()], cwd=root, capture_output=True, text=True)
    if built.returncode:
        sys.exit(f"the {target} can't be built: {built.stderr.strip()}")
    return out / Path(built.stdout.strip().splitlines()[-1]).name


def of_wheel(path: Path) -> Iterator[str]:
    """Yield the faults of a wheel: files, licences, metadata."""
    with zipfile.ZipFile(path) as wheel:
        names = set(wheel.namelist())
        info = next(name.partition("/")[0] for name in names if ".dist-info/" in name)
        metadata = message_from_bytes(wheel.read(f"{info}/METADATA"))
        scripts = wheel.read(f"{info}/entry_points.txt").decode()
    packages = _project()["tool"]["hatch"]["build"]["targets"]["wheel"]["packages"]
    expected = {str(Path(name).relative_to(Path(package).parent)) for package in packages for name in _tracked(package)}
    yield from _differences(path, {name for name in names if not name.startswith(info)}, expected)
    yield from (f"{path.name} lacks {name}" for name in _LICENSES if f"{info}/licenses/{name}" not in names)
    yield from of_metadata(metadata)
    yield from (f"{path.name} has no command {name}" for name in _project()["project"]["scripts"] if name not in scripts)


def of_metadata(metadata: Message) -> Iterator[str]:
    """Yield what metadata says otherwise than ``pyproject.toml``."""
    project = _project()["project"]
    said = {"Name": "name", "Version": "version", "Summary": "description", "License-Expression": "license"}
    said["Requires-Python"] = "requires-python"
    for header, key in said.items():
        if metadata[header] != project[key]:
            yield f"{header} is {metadata[header]!r}, and pyproject.toml has {project[key]!r}"
    extras = set(metadata.get_all("Provides-Extra", []))
    if extras != {*project["optional-dependencies"]}:
        yield f"the extras are {sorted(extras)}, and pyproject.toml has {sorted(project['optional-dependencies'])}"
    if metadata["Description-Content-Type"] != "text/markdown":
        yield f"the description is {metadata['Description-Content-Type']}, expected text/markdown"


def of_source(path: Path) -> Iterator[str]:
    """Yield the faults of a source distribution: files that git doesn't track, or that lack."""
    with tarfile.open(path) as source:
        names = {name.partition("/")[2] for name in source.getnames() if not source.getmember(name).isdir()}
    listed = _project()["tool"]["hatch"]["build"]["targets"]["sdist"]["only-include"]
    expected = {
        name for folder in (*listed, "README.md", *_LICENSES, "pyproject.toml", ".gitignore") for name in _tracked(folder)
    }
    yield from _differences(path, names, {*expected, "PKG-INFO"})


def of_rebuilt(built: dict[str, Path], out: Path) -> Iterator[str]:
    """Yield the files that come out otherwise a second time: the source from the clone, the wheel from the source."""
    with tarfile.open(built[SOURCE]) as source:
        source.extractall(out, filter="data")
    unpacked = next(out.iterdir())
    for target, root in ((SOURCE, ROOT), (WHEEL, unpacked)):
        if build(root, target, out).read_bytes() != built[target].read_bytes():
            yield f"{built[target].name} isn't the same when it is built again from {root.name}"


def _differences(path: Path, names: Collection[str], expected: Collection[str]) -> Iterator[str]:
    yield from (f"{path.name} lacks {name}" for name in sorted({*expected} - {*names}))
    yield from (f"{path.name} has {name}, which git doesn't track" for name in sorted({*names} - {*expected}))
    yield from (f"{path.name} has {name}, of tests" for name in sorted(names) if any(part in name for part in _OF_TESTS))


@cache
def _project() -> dict[str, Any]:
    return tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))


def _tracked(path: str) -> list[str]:
    listed = subprocess.run(["git", "ls-files", "-z", "--", path], cwd=ROOT, capture_output=True, text=True, check=True)  # noqa: S607
    return listed.stdout.split("\0")[:-1]


if __name__ == "__main__":
    main()
