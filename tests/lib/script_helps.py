"""Help of several scripts of one folder, as JSON: ``python script_helps.py FOLDER SCRIPT…`` loads their libraries once."""

from __future__ import annotations

import contextlib
import io
import json
import runpy
import sys
from pathlib import Path


def help_of(script: Path) -> str:
    """Run a script as ``python SCRIPT --help`` does; return what it prints."""
    sys.argv = [str(script), "--help"]
    with contextlib.redirect_stdout(io.StringIO()) as printed, contextlib.suppress(SystemExit):
        runpy.run_path(str(script), run_name="__main__")
    return printed.getvalue()


if __name__ == "__main__":
    folder, *scripts = sys.argv[1:]
    sys.path[0] = folder
    print(json.dumps({script: help_of(Path(folder) / script) for script in scripts}))
