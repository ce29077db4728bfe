"""SBOMs: bills of materials of the locks, by cyclonedx-py, one file each, in CycloneDX' JSON.

python .ci/sbom.py                   # into artifacts/sbom
python .ci/sbom.py --out FOLDER

Each names the packages with their versions and the hashes that they are installed by. torch isn't in the locks.
"""

from __future__ import annotations

import argparse
import subprocess
import sys
from pathlib import Path

import locks

TITLES = {
    "serve/clip_inside_triton/requirements.txt": "triton-environment",
    "deploy/locks/embed.txt": "embed-image",
    "deploy/locks/export.txt": "export-image",
    "deploy/locks/search.txt": "search-image",
    ".ci/locked.txt": "development",
}
"""Locks -> names of their files."""


def main() -> None:
    """Write all."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--out", type=Path, default=locks.ROOT / "artifacts" / "sbom", metavar="FOLDER")
    out = parser.parse_args().out
    out.mkdir(parents=True, exist_ok=True)
    for lock, title in TITLES.items():
        path = out / f"clipserve-{title}.cdx.json"
        write(locks.ROOT / lock, path)
        print(path)


def write(lock: Path, path: Path) -> None:
    """Write the SBOM of a lock; cyclonedx-py checks it against the schema."""
    command = [sys.executable, "-m", "cyclonedx_py", "requirements", "--validate", "--output-reproducible", "--pyproject"]
    command += [str(locks.ROOT / locks.PROJECT), "--mc-type", "application", "--output-file", str(path), str(lock)]
    ended = subprocess.run(command, capture_output=True, text=True)
    if ended.returncode:
        sys.exit(f"no SBOM of {lock}: {ended.stderr.strip()[-2000:]}")


if __name__ == "__main__":
    main()
