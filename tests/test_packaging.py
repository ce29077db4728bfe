"""Packages that people install: their contents, their requirements by system, and parts of Unix that Windows lacks."""

from __future__ import annotations

import ntpath
import subprocess
import sys
import zipfile
from pathlib import Path, PureWindowsPath
from types import SimpleNamespace

import distribution
import platforms
import pytest
import release_notes
from packaging.requirements import Requirement
from servers import http_files

from clip_client import Clip, Unavailable, cli, file_names

WINDOWS_ON_ARM = {"sys_platform": "win32", "platform_machine": "ARM64", "python_version": "3.13"}
INTEL_MAC = {"sys_platform": "darwin", "platform_machine": "x86_64", "python_version": "3.13"}


@pytest.fixture(scope="module")
def wheel(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return distribution.build(distribution.ROOT, distribution.WHEEL, tmp_path_factory.mktemp("dist"))


def changed(wheel: Path, folder: Path, *, without: str = "", more: str = "") -> Path:
    """Return a copy of a wheel that lacks a file, or has another one."""
    with zipfile.ZipFile(wheel) as before, zipfile.ZipFile(folder / wheel.name, "w") as after:
        for name in before.namelist():
            if not without or not name.endswith(without):
                after.writestr(name, before.read(name))
        if more:
            after.writestr(more, "")
    return folder / wheel.name


def test_the_wheel_holds_what_git_tracks(wheel: Path) -> None:
    assert list(distribution.of_wheel(wheel)) == []
    assert wheel.stat().st_size < distribution.MOST_BYTES[distribution.WHEEL]


@pytest.mark.parametrize(
    ("without", "more", "fault"),
    [
        ("clip_search/page/index.html", "", "lacks clip_search/page/index.html"),
        ("licenses/NOTICE", "", "lacks NOTICE"),
        ("", "clip_client/scratch.py", "has clip_client/scratch.py, which git doesn't track"),
        ("", "clip_client/test_x.py", "has clip_client/test_x.py, of tests"),
    ],
)
def test_a_wrong_wheel_is_told(wheel: Path, tmp_path: Path, without: str, more: str, fault: str) -> None:
    faults = list(distribution.of_wheel(changed(wheel, tmp_path, without=without, more=more)))
    assert f"{wheel.name} {fault}" in faults


@pytest.mark.slow
def test_source_and_wheel_are_the_same_when_they_are_built_again(wheel: Path, tmp_path: Path) -> None:
    source = distribution.build(distribution.ROOT, distribution.SOURCE, tmp_path)
    built = {distribution.SOURCE: source, distribution.WHEEL: wheel}
    assert list(distribution.of_source(source)) == []
    assert list(distribution.of_rebuilt(built, tmp_path / "again")) == []


def needed(extra: str, system: dict[str, str]) -> set[str]:
    project = distribution._project()["project"]
    listed = map(Requirement, project["optional-dependencies"][extra] if extra else project["dependencies"])
    return {one.name for one in listed if not one.marker or one.marker.evaluate(system)}


def test_requirements_without_wheels_for_a_system_are_left_out_there() -> None:
    linux = {"sys_platform": "linux", "platform_machine": "aarch64", "python_version": "3.13"}
    assert needed("", linux) - needed("", WINDOWS_ON_ARM) == {"tritonclient"}
    assert needed("local", linux) - needed("local", INTEL_MAC) == {"openvino"}
    assert needed("search", linux) - needed("search", {**WINDOWS_ON_ARM, "platform_machine": "AMD64"}) == {"uvloop"}


def test_the_page_promises_something_for_every_system_and_extra() -> None:
    page = platforms.promised()
    assert {system: tuple(extras) for system, extras in page.items()} == dict.fromkeys(platforms.SYSTEMS, platforms.EXTRAS)


@pytest.mark.slow
def test_the_client_resolves_where_the_page_says() -> None:
    """Needs a package index: a machine without one tells nothing."""
    told = subprocess.run(
        [sys.executable, platforms.__file__, "--extra", ""], cwd=platforms.ROOT, capture_output=True, text=True, check=False
    )
    assert told.returncode == 0 or "nothing was resolved" in told.stderr


CHANGELOG = """# Changelog

## Unreleased

### Added

- new

## [1.1.0] - 2026-01-02

### Fixed

- old

## 1.0.0

### Added

- first

## 0.9.0 - 2025-01-01

### Novelties

- none

## 0.8.0 - 2024-01-01
"""


def test_a_release_takes_its_section_of_the_changelog() -> None:
    assert release_notes.section(CHANGELOG, "Unreleased") == "### Added\n\n- new"
    assert release_notes.section(CHANGELOG, "1.1.0") == "### Fixed\n\n- old"


@pytest.mark.parametrize(
    ("version", "told"),
    [
        ("1.0.0", "no date beside 1.0.0"),
        ("0.9.0", "the headings Novelties"),
        ("0.8.0", "nothing below ## 0.8.0"),
        ("2.0.0", "no section ## 2.0.0"),
    ],
)
def test_a_changelog_out_of_form_is_refused(version: str, told: str) -> None:
    with pytest.raises(SystemExit, match=told):
        release_notes.section(CHANGELOG, version)


def test_the_changelog_is_in_form() -> None:
    text = (distribution.ROOT / "CHANGELOG.md").read_text(encoding="utf-8")
    assert release_notes.section(text, release_notes.UNRELEASED)


@pytest.mark.parametrize("words", [["serve"], ["search", "serve"]], ids=" ".join)
def test_a_server_on_windows_ends_with_a_message(words: list[str]) -> None:
    code = (
        "import sys; sys.modules.update(fcntl=None, resource=None); "
        f"from clip_client.cli import main; sys.exit(main({[*words, '--port' if len(words) > 1 else '--grpc-port', '9']!r}))"
    )
    ended = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=False)
    assert ended.returncode == cli.USAGE_ERROR
    assert ended.stderr.splitlines()[-1] == f"clipserve {words[0]} runs on Linux and macOS, not on Windows: use WSL 2 or Docker"


def test_a_reader_that_goes_away_ends_a_command_silently_on_windows_too() -> None:
    code = (
        "import sys; from clip_client import command_runner; sys.platform = 'win32'; "
        "sys.exit(command_runner.run('x', lambda: [print('line ' * 1000, flush=True) for _ in range(1000)] and None))"
    )
    command = [sys.executable, "-c", code]
    with subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.PIPE) as process:
        assert process.stdout
        assert process.stderr
        process.stdout.read(10)
        process.stdout.close()
        assert process.stderr.read() == b""
    assert process.returncode == 141


def test_tables_may_name_files_by_paths_of_windows(monkeypatch: pytest.MonkeyPatch) -> None:
    windows = SimpleNamespace(path=ntpath, sep="\\", fsdecode=lambda name: name.decode())
    monkeypatch.setattr(file_names, "os", windows)
    names = file_names.Names(["sub/a.jpg"], PureWindowsPath("C:\\pictures"))
    for written in ("sub\\a.jpg", "C:\\pictures\\sub\\a.jpg", "C:/pictures/sub/A.JPG", ".\\sub\\a.jpg"):
        assert names.match(written) == "sub/a.jpg"
    assert names.match("D:\\pictures\\sub\\a.jpg") is None


def test_without_grpc_the_message_says_what_to_do() -> None:
    code = """if True:
        import sys
        sys.modules.update(grpc=None, tritonclient=None)
        from clip_client import Clip, Unavailable
        Clip("http://localhost:9")
        try:
            Clip("localhost:9")
        except Unavailable as problem:
            print(problem)
    """
    told = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True).stdout
    assert "localhost:9 needs gRPC" in told
    assert told.endswith("the server's HTTP, http://host:8000\n")


@pytest.mark.parametrize("odd", [b"[]", b"<html>", b'{"parameters": 1}', b'{"max_batch_size": "x"}', b"\xff"])
def test_a_configuration_that_is_none_is_told(odd: bytes) -> None:
    with (
        http_files({"/v2/models/clip_image/config": odd, "/v2/models/clip_text/config": odd}) as site,
        Clip(site) as clip,
        pytest.raises(Unavailable, match="not as a Triton does"),
    ):
        clip.embed_text("a cat")
