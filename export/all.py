"""Export a checkpoint: ``python export/all.py --help``, the same as ``clipserve export``."""

import sys
from pathlib import Path

try:
    from clip_client.cli import main
except ModuleNotFoundError as problem:
    clone = Path(__file__).resolve().parents[1]
    sys.exit(
        f"export/all.py needs {problem.name}, which {sys.executable} lacks: "
        f"run 'make setup' in {clone}, then {clone / '.venv/bin/python'} export/all.py"
    )

if __name__ == "__main__":
    sys.exit(main(["export", *sys.argv[1:]]))
