"""The server's own environment: made once, explained when it can't be."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest
from servers import CLIPSERVE

from clip_client import InvalidInput
from clip_serve import environment


def test_it_is_made_once(capsys: pytest.CaptureFixture[str]) -> None:
    first = environment.ensure(print)
    capsys.readouterr()
    assert environment.ensure(print) == first
    assert capsys.readouterr().out == ""
    assert (first.tritonserver / "bin" / "tritonserver").is_file()
    assert first.stub.is_file()


def test_it_is_the_servers_and_not_the_users() -> None:
    python = environment.ensure(print).folder / "bin" / "python"
    code = "import numpy, onnxruntime, openvino, PIL, tokenizers; print(numpy.__version__)"
    version = subprocess.run([python, "-c", code], capture_output=True, text=True, check=True).stdout
    assert version.startswith("1.26.")
    assert subprocess.run([python, "-c", "import clip_client"], capture_output=True, check=False).returncode


def test_offline_with_nothing_cached_is_a_clear_error(tmp_path: Path) -> None:
    no_index = {"PIP_NO_INDEX": "1", "PIP_FIND_LINKS": str(tmp_path), "PIP_CONFIG_FILE": os.devnull}
    offline = {"XDG_CACHE_HOME": str(tmp_path), **no_index}
    command = [CLIPSERVE, "serve", "--install"]
    result = subprocess.run(command, env={**os.environ, **offline}, capture_output=True, text=True, check=False)
    assert result.returncode == 1
    assert "Triton's packages can't be installed: connect this machine once" in result.stderr
    assert "Traceback" not in result.stderr
    assert not list(tmp_path.rglob("complete"))


def test_a_half_made_one_is_made_again(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path))
    installed: list[Path] = []
    monkeypatch.setattr(environment, "_install", lambda made: (installed.append(made.folder), made.folder.mkdir(exist_ok=True)))
    folder = environment.ensure(print).folder
    assert environment.ensure(print).folder == folder
    assert installed == [folder]
    (folder / "complete").unlink()
    environment.ensure(print)
    assert installed == [folder, folder]


def test_other_contents_are_another_environment(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))
    monkeypatch.setattr(environment, "_install", lambda made: made.folder.mkdir())
    before = environment.ensure(print)
    changed = tmp_path / "requirements.txt"
    changed.write_text(environment.REQUIREMENTS.read_text() + "extra==1.0\n")
    monkeypatch.setattr(environment, "REQUIREMENTS", changed)
    assert environment.ensure(print) != before


def test_a_python_without_stubs_is_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(sys, "version_info", (3, 14, 0, "final", 0))
    with pytest.raises(InvalidInput, match=r"runs on Python 3\.10 to 3\.12, this is 3\.14"):
        environment.ensure(print)


def test_another_platform_is_sent_to_the_container(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(environment.platform, "system", lambda: "Darwin")
    monkeypatch.setattr(environment.platform, "machine", lambda: "arm64")
    with pytest.raises(InvalidInput, match="this is Darwin on arm64: docker compose up triton"):
        environment.ensure(print)


def test_a_missing_libpython_says_what_to_install(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    assert list(environment.libpython_folder().glob("libpython3.*.so.1.0"))
    monkeypatch.setattr(environment, "_python", lambda: "3.99")
    with pytest.raises(InvalidInput, match=r"needs libpython3\.99\.so\.1\.0, .* apt install libpython3\.99"):
        environment.libpython_folder()
