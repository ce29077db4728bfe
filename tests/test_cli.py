"""The ``clipserve`` command, and what it loads."""

from __future__ import annotations

import re
import subprocess
import sys
from pathlib import Path

import pytest
from servers import CLIPSERVE

from clip_client import cli


def python(code: str) -> str:
    return subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True).stdout


@pytest.mark.parametrize("heavy", ["torch", "faiss", "tritonclient", "grpc", "transformers", "onnxruntime", "openvino"])
def test_importing_the_client_is_light(heavy: str) -> None:
    assert python(f"import sys, clip_client; print({heavy!r} in sys.modules)").strip() == "False"


def test_help_loads_no_package_of_a_command() -> None:
    code = "import sys; from clip_client.cli import main; main(['--help']); print({m.split('.')[0] for m in sys.modules})"
    loaded = set(re.findall(r"'([^']*)'", python(code).splitlines()[-1]))
    assert "clip_client" in loaded
    assert not loaded & {"clip_export", "clip_serve", "numpy"}


@pytest.mark.parametrize("words", [["--help"], ["--variants", "none"]])
def test_an_export_that_builds_nothing_loads_no_engine(words: list[str]) -> None:
    code = f"import sys\nfrom clip_export import cli\ntry: cli.main({words!r})\nexcept SystemExit: pass\nprint(*sys.modules)"
    loaded = set(python(code).splitlines()[-1].split())
    assert "clip_export.options" in loaded
    assert not loaded & {"torch", "transformers", "onnx", "onnxruntime", "openvino"}


def test_help_names_every_command() -> None:
    result = subprocess.run([CLIPSERVE, "--help"], capture_output=True, text=True, check=True)
    assert all(name in result.stdout for name in cli.COMMANDS)


@pytest.mark.parametrize("command", cli.COMMANDS)
def test_commands_have_help(command: str) -> None:
    result = subprocess.run([CLIPSERVE, command, "--help"], capture_output=True, text=True, check=True)
    assert f"usage: clipserve {command}" in result.stdout


@pytest.mark.parametrize(("command", "package"), [("export", "torch"), ("serve", "psutil")])
def test_a_missing_extra_names_the_pip_command(command: str, package: str, tmp_path: Path) -> None:
    code = f"import sys; sys.modules[{package!r}] = None; from clip_client.cli import main; sys.exit(main([{command!r}]))"
    result = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, cwd=tmp_path, check=False)
    assert result.returncode == 2
    assert f"pip install 'clipserve[{command}]'" in result.stderr
    assert package in result.stderr
    assert "Traceback" not in result.stderr


def test_an_unknown_command_is_named(capsys: pytest.CaptureFixture[str]) -> None:
    assert cli.main(["exprot"]) == cli.USAGE_ERROR
    assert "no command 'exprot'" in capsys.readouterr().err


@pytest.mark.long
def test_the_script_is_the_command() -> None:
    script = Path(__file__).parents[1] / "export" / "all.py"
    result = subprocess.run([sys.executable, script, "--help"], capture_output=True, text=True, check=True)
    assert result.stdout == subprocess.run([CLIPSERVE, "export", "--help"], capture_output=True, text=True, check=True).stdout
