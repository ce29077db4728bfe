"""Knowledge has one owner, and the layout stays what the readme says."""

from __future__ import annotations

import re
import subprocess
import sys
import textwrap
from pathlib import Path

ROOT = Path(__file__).parents[1]
OWNER = "client/clip_client/spec.py"


def tracked(*patterns: str) -> list[str]:
    listed = subprocess.run(
        ["git", "ls-files", "--cached", "--others", "--exclude-standard", "--", *patterns],
        cwd=ROOT, capture_output=True, text=True, check=True,
    )  # fmt: skip
    return listed.stdout.split()


def test_sizes_and_means_stand_in_the_spec_alone() -> None:
    """In prose a measured figure may happen to be one of them."""
    numbers = re.compile(r"(?<![\w.])(224|77|512)(?![\w.])|0\.4814|0\.4578|0\.4082|0\.2686|0\.2613|0\.2757")
    sources = [path for path in tracked("*.py", "*.toml", "*.yml", "Makefile") if not path.startswith("tests/")]
    assert OWNER in sources
    found = {path for path in sources if numbers.search((ROOT / path).read_text(encoding="utf-8"))}
    assert found <= {OWNER}


def test_no_module_hides_a_library() -> None:
    libraries = {"onnx", "openvino", "torch", "faiss", "tokenizers", "transformers"}
    scripts = {Path(path).stem for path in tracked("export/*.py") if Path(path).parent == Path("export")}
    assert scripts == {"all"}
    assert not libraries & scripts


def test_the_python_models_leave_the_work_to_the_client() -> None:
    for path in tracked("export/clip_export/models/*.py"):
        assert "from clip_client" in (ROOT / path).read_text()
        assert len((ROOT / path).read_text().splitlines()) < 80


def test_former_names_of_modules_can_be_imported() -> None:
    code = """
        import importlib, pytest
        from clip_search import moved
        for former, now in moved._NOW.items():
            with pytest.warns(DeprecationWarning, match=f"clip_search.{now} now"):
                module = importlib.import_module(f"clip_search.{former}")
            assert module is importlib.import_module(f"clip_search.{now}")
            assert module.__spec__.name == module.__name__ == f"clip_search.{now}"
        with pytest.raises(ModuleNotFoundError):
            importlib.import_module("clip_search.nothing")
    """
    subprocess.run([sys.executable, "-c", textwrap.dedent(code)], cwd=ROOT, check=True)
