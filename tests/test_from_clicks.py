"""The way from clicks to a better model, each command of its page in turn, with fewer pictures and clicks."""

from __future__ import annotations

import shutil
import subprocess
import sys
from collections.abc import Sequence
from contextlib import ExitStack
from pathlib import Path

import pyarrow.parquet as pq
import pytest
import sidecars
from documents import ROOT, blocks
from servers import CLIPSERVE, running
from snippets import commands

PAGE = ROOT / "docs" / "how-to" / "from-clicks.md"
EMOJI = Path("examples/emoji")
PICTURES = 400
SMALLER = {
    "export": ("--variants", "onnx-fp32"),
    "learn": ("--steps", "60"),
    "visitors.py": ("--clicks", "900"),
}
"""Options that make a command cheap; the last of a name counts."""


@pytest.fixture
def clone(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A reader's folder, with some of the pictures."""
    pictures = tmp_path / EMOJI / "pictures"
    pictures.mkdir(parents=True)
    shutil.copytree(ROOT / EMOJI / "emoji-clip", tmp_path / EMOJI / "emoji-clip")
    shutil.copy(ROOT / EMOJI / "visitors.py", tmp_path / EMOJI)
    captions = pq.read_table(ROOT / EMOJI / "pictures" / "captions.parquet").slice(0, PICTURES)
    pq.write_table(captions, pictures / "captions.parquet")
    for name in captions["file_name"].to_pylist():
        shutil.copy(ROOT / EMOJI / "pictures" / name, pictures)
    monkeypatch.chdir(tmp_path)
    return tmp_path


def run(words: Sequence[str], *where: str) -> str:
    """Run a command as a reader does; return what it prints."""
    program, name = Path(words[0]).name, Path(words[1]).name
    command = [CLIPSERVE if program == "clipserve" else sys.executable, *words[1:], *SMALLER.get(name, ()), *where]
    done = subprocess.run(command, capture_output=True, text=True, timeout=900, check=False)
    assert done.returncode == 0, done.stdout + done.stderr
    return done.stdout


@pytest.mark.slow
@pytest.mark.timeout(1200)
def test_clicks_become_a_better_model_that_serves(clone: Path) -> None:
    printed: dict[str, str] = {}
    with ExitStack() as stack:
        for command in (
            command.words for block in blocks("sh") if block.document == PAGE for command in commands(block.content)
        ):
            if command[1] == "serve":
                server = stack.enter_context(running(clone / "model_repository"))
            elif command[1:3] == ("search", "serve"):
                sidecar = stack.enter_context(sidecars.running(clone / "search", server.address))
            elif command[1] == "publish":
                printed[" ".join(command[1:3])] = run(command, "--server", server.http)
            else:
                asks = command[1] in ("search", "learn") or command[1].endswith("visitors.py")
                printed[" ".join(command[1:3])] = run(command, *(("--url", sidecar.url) if asks else ()))
    assert "version 2 serves clip" in printed["publish next"]
    assert "version 1 serves clip" in printed["publish --rollback"]
    models = [line for line in printed["search compare-models"].splitlines() if line[:1].isalnum()]
    assert len(models) >= 2
    assert (clone / "learned" / "learning" / "curve.png").stat().st_size > 10_000
