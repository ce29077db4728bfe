"""Export a checkpoint: ``python export/all.py --help``, the same as ``clipserve export``."""

import sys
from pathlib import Path

CLONE = Path(__file__).resolve().parents[1]
OWN = f"run 'make setup' in {CLONE}, then {CLONE / '.venv/bin/python'} export/all.py"

if sys.version_info < (3, 10):  # noqa: UP036  (the python3 of a system may be older)
    sys.exit(f"export/all.py needs Python 3.10 or later, {sys.executable} is {sys.version.split()[0]}: {OWN}")

try:
    import clip_export.cli  # noqa: F401  (which needs all that an export needs)
    from clip_client.cli import main
except ModuleNotFoundError as problem:
    sys.exit(f"export/all.py needs {problem.name}, which {sys.executable} lacks: {OWN}")

if __name__ == "__main__":
    sys.exit(main(["export", *sys.argv[1:]]))
