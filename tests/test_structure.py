"""Knowledge has one owner, and the layout stays what the readme says."""

from __future__ import annotations

import re
import subprocess
import sys
import textwrap
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[1]
OWNER = "client/clip_client/spec.py"
INTEGRATIONS = "client/clip_client/integrations/"


def tracked(*patterns: str) -> list[str]:
    listed = subprocess.run(
        ["git", "ls-files", "--cached", "--others", "--exclude-standard", "--", *patterns],
        cwd=ROOT, capture_output=True, text=True, check=True,
    )  # fmt: skip
    return listed.stdout.split()


def test_sizes_and_means_stand_in_the_spec_alone() -> None:
    """In prose a measured figure may happen to be one of them; recipes and tests describe checkpoints of others."""
    numbers = re.compile(r"(?<![\w.])(224|77|512)(?![\w.])|0\.4814|0\.4578|0\.4082|0\.2686|0\.2613|0\.2757")
    sources = [path for path in tracked("*.py", "*.toml", "*.yml", "Makefile") if not path.startswith(("coverage/", "tests/"))]
    assert OWNER in sources
    found = {path for path in sources if numbers.search((ROOT / path).read_text(encoding="utf-8"))}
    assert found <= {OWNER}


def test_no_module_hides_a_library() -> None:
    libraries = {"onnx", "openvino", "torch", "faiss", "tokenizers", "transformers"}
    scripts = {Path(path).stem for path in tracked("export/*.py") if Path(path).parent == Path("export")}
    assert scripts == {"all"}
    assert not libraries & scripts


def test_the_python_models_leave_the_work_to_the_client() -> None:
    for path in tracked("serve/clip_inside_triton/models/*.py"):
        assert "from clip_client" in (ROOT / path).read_text()
        assert len((ROOT / path).read_text().splitlines()) < 80


@pytest.mark.parametrize("package", ["clip_client", "clip_export", "clip_search", "clip_serve"])
def test_former_names_of_modules_can_be_imported(package: str) -> None:
    code = f"""
        import importlib, pytest
        now = importlib.import_module("{package}.moved").NOW
        assert now
        for former, present in now.items():
            with pytest.warns(DeprecationWarning, match=f"{package}.{{present}} now"):
                module = importlib.import_module(f"{package}.{{former}}")
            assert module is importlib.import_module(f"{package}.{{present}}")
            assert module.__spec__.name == module.__name__ == f"{package}.{{present}}"
        with pytest.raises(ModuleNotFoundError):
            importlib.import_module("{package}.nothing")
    """
    subprocess.run([sys.executable, "-c", textwrap.dedent(code)], cwd=ROOT, check=True)


@pytest.mark.parametrize(
    ("library", "owner"),
    [
        ("faiss", "search/clip_search/index/faiss_"),
        ("pymilvus", "search/clip_search/index/milvus/"),
        ("obstore", "search/clip_search/storage/object_store.py"),
        ("sqlglot", "search/clip_search/storage/filters/"),
        ("lancedb", "search/clip_search/storage/"),
        ("torch", "export/clip_export/"),
    ],
)
def test_a_library_has_one_room(library: str, owner: str) -> None:
    """Adapters for users of the library aside."""
    importing = re.compile(rf"^\s*(?:import|from) {library}\b", re.M)
    product = tracked("client/*.py", "export/*.py", "search/*.py", "serve/*.py")
    importers = [path for path in product if importing.search((ROOT / path).read_text(encoding="utf-8"))]
    assert importers
    assert [path for path in importers if not path.startswith((owner, INTEGRATIONS))] == []


def test_artefacts_are_opened_in_one_place() -> None:
    opening = re.compile(r"\b(InferenceSession|compile_model|create_infer_request)\(")
    product = tracked("client/*.py", "export/*.py", "search/*.py", "serve/*.py")
    openers = {str(Path(path).parent) for path in product if opening.search((ROOT / path).read_text(encoding="utf-8"))}
    assert openers == {"client/clip_client/engines"}


def test_make_keeps_what_python_compiles_whatever_the_environment_says(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("PYTHONDONTWRITEBYTECODE", "1")
    asked = f"tell:\n\t@{sys.executable} -c 'import sys; print(sys.dont_write_bytecode)'"
    told = subprocess.run(["make", "--silent", "--eval", asked, "tell"], cwd=ROOT, capture_output=True, text=True, check=True)
    assert told.stdout == "False\n"
