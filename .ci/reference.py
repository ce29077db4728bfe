"""Reference pages: the commands from their parsers, the HTTP API from its OpenAPI document.

python .ci/reference.py            # write docs/reference/commands.md and docs/reference/http.md
python .ci/reference.py --check    # name those that differ, and exit with 1
"""

from __future__ import annotations

import argparse
import os
import re
import subprocess
import sys
import tempfile
from collections.abc import Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor

import http_reference
from documents import ROOT, SITE

from clip_client.cli import COMMANDS

COLUMNS = 100  # characters of a line of help
CORES = 2  # of the machine whose defaults are shown
_FOLDER = SITE / "reference"
_HELP = f"""
import os, sys
os.cpu_count = lambda: {CORES}
from clip_client.cli import main
sys.exit(main(sys.argv[1:]))
"""
_COMMANDS = f"""# Commands

Each command's own `--help`, with the defaults of a machine with {CORES} cores. Options of `export`, `serve` and `search serve`
can also be set by [the environment and a file](../search.md#settings).

This page is written by `make docs`.
"""


def main() -> None:
    """Write, or check."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--check", action="store_true", help="change nothing")
    check = parser.parse_args().check
    pages = {_FOLDER / "commands.md": commands(), _FOLDER / "http.md": http_reference.page(openapi())}
    stale = [path for path, text in pages.items() if not path.exists() or path.read_text(encoding="utf-8") != text]
    for path in stale:
        print(f"{path.relative_to(ROOT)} {'is stale: make docs' if check else 'is written'}")
        if not check:
            path.parent.mkdir(exist_ok=True)
            path.write_text(pages[path], encoding="utf-8")
    sys.exit(1 if check and stale else 0)


def commands() -> str:
    """Return the page of the commands."""
    listed = [[], *([name] for name in COMMANDS), *(["search", name] for name in verbs())]
    with ThreadPoolExecutor(CORES) as pool:
        helps = list(pool.map(lambda words: help_of(*words), listed))
    sections = [section(words, text) for words, text in zip(listed, helps, strict=True)]
    return "\n".join([_COMMANDS, *sections])


def section(words: Sequence[str], text: str) -> str:
    """Return the section of a command."""
    return f"## {' '.join(['clipserve', *words])}\n\n```text\n{text}\n```\n"


def verbs() -> Sequence[str]:
    """Return the verbs of the search."""
    return re.findall(r"^ {4}([a-z-]+)(?: {2,}\S|$)", help_of("search"), re.MULTILINE)


def help_of(*words: str) -> str:
    """Return a command's help, as it is without settings from the environment."""
    command = [sys.executable, "-c", _HELP, *words, "--help"]
    kept = {name: value for name, value in os.environ.items() if not name.startswith("CLIPSERVE_")}
    environment = {**kept, "COLUMNS": str(COLUMNS), "NO_COLOR": "1"}
    ended = subprocess.run(command, capture_output=True, text=True, env=environment, cwd=SITE, check=False)
    if ended.returncode:
        sys.exit(f"clipserve {' '.join(words)} --help ended with status {ended.returncode}: {ended.stderr}")
    return "\n".join(line.rstrip() for line in ended.stdout.strip("\n").splitlines())


def openapi() -> Mapping[str, object]:
    """Return the sidecar's OpenAPI document, without starting one."""
    from clip_search.options import Options
    from clip_search.sidecar import Sidecar
    from clip_search.web.app import app

    with tempfile.TemporaryDirectory() as folder:
        sidecar = Sidecar(Options(folder))
        try:
            return app(sidecar).openapi()
        finally:
            sidecar.close()


if __name__ == "__main__":
    main()
