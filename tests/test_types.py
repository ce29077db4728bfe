"""Types that users of the SDK see, as the checkers judge them in their strictest modes."""

from __future__ import annotations

import json
import os
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).parent.parent
USER = Path(__file__).parent / "data" / "typed_user.py"
pytestmark = pytest.mark.long  # a checker reads numpy, too


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    """A user's folder, outside of the clone."""
    shutil.copy(USER, tmp_path)
    return tmp_path


def test_mypy_sees_them(folder: Path) -> None:
    options = ["--strict", "--ignore-missing-imports", "--follow-imports=silent", "--config-file=", "--cache-dir=cache"]
    checked([sys.executable, "-m", "mypy", *options, USER.name], folder, MYPYPATH=str(ROOT / "client"))


def test_pyright_sees_them(folder: Path) -> None:
    options = {"include": ["."], "extraPaths": [str(ROOT / "client")], "typeCheckingMode": "strict"}
    only_its_own = {"enableTypeIgnoreComments": False, "reportUnnecessaryTypeIgnoreComment": True}
    (folder / "pyrightconfig.json").write_text(json.dumps(options | only_its_own))
    checked([sys.executable, "-m", "pyright", "--pythonpath", sys.executable], folder)


def checked(command: list[str], folder: Path, **environment: str) -> None:
    """Run a checker, which must have nothing to say."""
    ended = subprocess.run(
        command, cwd=folder, env={**os.environ, **environment}, capture_output=True, text=True, timeout=600, check=False
    )
    assert ended.returncode == 0, ended.stdout + ended.stderr
