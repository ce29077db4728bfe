"""Systems and Pythons that the package installs on: resolved by wheels alone, compared with what docs/install.md promises.

python .ci/platforms.py                 # every extra below, minutes on the first run
python .ci/platforms.py --extra local   # one; --extra '' is the client alone

Nothing is installed, so one machine answers for all; the package index must be reached. uv does the resolving, since pip reads
environment markers as this machine has them.
"""

from __future__ import annotations

import argparse
import os
import re
import subprocess
import sys
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from functools import partial
from pathlib import Path

ROOT = Path(__file__).parents[1]
SYSTEMS = {
    "Linux x86-64": "x86_64-manylinux_2_39",
    "Linux aarch64": "aarch64-manylinux_2_39",
    "macOS arm64": "aarch64-apple-darwin",
    "macOS x86-64": "x86_64-apple-darwin",
    "Windows x86-64": "x86_64-pc-windows-msvc",
    "Windows ARM64": "aarch64-pc-windows-msvc",
}
"""Systems -> uv's names of them."""
PYTHONS = ("3.10", "3.11", "3.12", "3.13", "3.14")
EXTRAS = ("", "local", "embed", "search")
_MACOS = "15.0"  # version that wheels may ask for
_TABLE = re.compile(r"^\| (?P<system>[^|]+?) \| (?P<cells>.+) \|$", re.M)
_HEADING = "## Where it installs"


def main() -> None:
    """Resolve, print, compare."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--extra", action="append", choices=EXTRAS, help="extra, can be repeated (default: all)")
    extras = parser.parse_args().extra or list(EXTRAS)
    page = promised()
    differ = 0
    for extra in extras:
        for system in SYSTEMS:
            found = pythons(extra, system)
            said = page[system][extra]
            differ += found != said
            remark = "" if found == said else f"; docs/install.md has: {said}"
            print(f"{extra or 'client':8} {system:15} {found}{remark}", flush=True)
    sys.exit(1 if differ else 0)


def promised() -> dict[str, dict[str, str]]:
    """Return the table of the page: Pythons by system and extra."""
    section = (ROOT / "docs" / "install.md").read_text(encoding="utf-8").partition(_HEADING)[2].partition("\n## ")[0]
    rows = {row["system"]: [cell.strip() for cell in row["cells"].split("|")] for row in _TABLE.finditer(section)}
    heading = [cell.strip("`").replace("client", "") for cell in rows["system"]]
    return {system: dict(zip(heading, rows[system], strict=True)) for system in SYSTEMS}


def pythons(extra: str, system: str) -> str:
    """Return the Pythons that an extra can be installed with, as a range; ``no`` for none."""
    with ThreadPoolExecutor(len(PYTHONS)) as pool:  # most of it is waiting for the index
        can = pool.map(partial(resolves, extra, system), PYTHONS)
        taken = [version for version, is_taken in zip(PYTHONS, can, strict=True) if is_taken]
    if not taken:
        return "no"
    if taken != list(PYTHONS[PYTHONS.index(taken[0]) :][: len(taken)]):
        return ", ".join(taken)
    return taken[0] if len(taken) == 1 else f"{taken[0]} to {taken[-1]}"


def resolves(extra: str, system: str, python: str) -> bool:
    """Tell if wheels of all that is needed exist; end the program where the index can't be reached."""
    target = ["--python-platform", SYSTEMS[system], "--python-version", python, "--only-binary", ":all:"]
    chosen = ["--extra", extra] if extra else []
    ended = _uv(["pip", "compile", "--quiet", "--no-header", *target, *chosen, "pyproject.toml"])
    if ended.returncode and "No solution found" not in ended.stderr:
        sys.exit(f"nothing was resolved: {ended.stderr.strip()[:500]}")
    return not ended.returncode


def _uv(arguments: Sequence[str]) -> subprocess.CompletedProcess[str]:
    variables = {**os.environ, "MACOSX_DEPLOYMENT_TARGET": _MACOS}
    return subprocess.run([sys.executable, "-m", "uv", *arguments], cwd=ROOT, env=variables, capture_output=True, text=True)


if __name__ == "__main__":
    main()
