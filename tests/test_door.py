"""Every command prints in any encoding, ends silently when nobody reads, and never in a traceback."""

from __future__ import annotations

import os
import re
import shutil
import stat
import subprocess
import sys
from pathlib import Path

import pytest
from conftest import FLOATS
from servers import CLIPSERVE
from sidecars import PICTURES, Sidecar

from clip_client import command_runner
from clip_client.search import Row, Search

ROOT = Path(__file__).parents[1]
NARROW = {"LC_ALL=C": {"LC_ALL": "C"}, "ascii": {"PYTHONIOENCODING": "ascii"}}
NARROWEST = {"LC_ALL": "C", "PYTHONUTF8": "0", "PYTHONCOERCECLOCALE": "0"}
"""Names of files aren't UTF-8 either."""
NAMES = ["é 日本 🎂.jpg", "narrow\u202fspace.jpg"]


def run(*command: object, cwd: Path | None = None, **variables: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [*map(str, command)], capture_output=True, encoding="utf-8", cwd=cwd, env={**os.environ, **variables}, check=False
    )


def broken_command(code: str, **variables: str) -> subprocess.CompletedProcess[str]:
    """``clipserve serve`` whose main does something else."""
    stub = f"import sys, types\nmodule = types.ModuleType('clip_serve.cli')\ndef main(argv):\n    {code}\nmodule.main = main\n"
    call = "sys.modules['clip_serve.cli'] = module\nfrom clip_client.cli import main as command\nsys.exit(command(['serve']))"
    return run(sys.executable, "-c", stub + call, **variables)


@pytest.mark.parametrize(
    ("door_used", "encoding"),
    [
        ("clipserve", "LC_ALL=C"),
        pytest.param("all.py", "ascii", marks=pytest.mark.long),
        pytest.param("module", "ascii", marks=pytest.mark.slow),
    ],
)
def test_an_export_of_a_folder_with_any_name(
    door_used: str, encoding: str, exported: Path, checkpoint: Path, tmp_path: Path
) -> None:
    """Built before, so that it is quick; the name of the folder is in all that is printed."""
    folder = Path(shutil.copytree(checkpoint, tmp_path / "日本 é"))
    shutil.copytree(exported / "artifacts" / "tiny", tmp_path / "artifacts" / "日本 é")
    commands = {
        "clipserve": [CLIPSERVE, "export"],
        "all.py": [sys.executable, ROOT / "export" / "all.py"],
        "module": [sys.executable, "-m", "clip_export.cli"],
    }
    repository = tmp_path / "é repository"
    where = ["--artifacts", tmp_path / "artifacts", "--repository", repository]
    result = run(*commands[door_used], "--quick", "--model", folder, *where, *FLOATS, **NARROW[encoding])
    assert (result.returncode, "Traceback" in result.stderr) == (0, False)
    assert "image tower" in result.stdout
    assert "published 'clip' in" in result.stderr
    assert (repository / "clip_text_encoder" / "1" / "model.onnx").exists()


@pytest.mark.parametrize("encoding", NARROW)
def test_an_error_that_names_such_a_folder(encoding: str, tmp_path: Path) -> None:
    folder = tmp_path / "日本 é"
    folder.mkdir()
    result = run(CLIPSERVE, "export", "--model", folder, **NARROW[encoding])
    assert result.returncode == 2
    assert "has no config.json" in result.stderr
    assert "Traceback" not in result.stderr


@pytest.mark.long
def test_a_folder_whose_name_is_not_unicode(checkpoint: Path, tmp_path: Path) -> None:
    folder = os.fsencode(tmp_path) + b"/caf\xe9"
    shutil.copytree(checkpoint, os.fsdecode(folder))
    command = [os.fsencode(CLIPSERVE), b"export", b"--model", folder, *map(os.fsencode, FLOATS)]
    result = subprocess.run(command, capture_output=True, cwd=tmp_path, check=False)
    assert result.returncode == 2
    assert b"caf\\udce9/model.safetensors can't be read" in result.stderr
    assert b"Traceback" not in result.stderr


def test_where_names_of_files_are_not_utf_8_either(tmp_path: Path) -> None:
    (tmp_path / "日本 é").mkdir()
    result = run(CLIPSERVE, "export", "--model", tmp_path / "日本 é", **NARROWEST)
    assert (result.returncode, "Traceback" in result.stderr) == (2, False)


@pytest.fixture
def named(search: Search) -> str:
    search.create("named")
    rows = [Row(id=name, image=PICTURES[n], metadata={"caption": f"“{name}”"}) for n, name in enumerate([NAMES[0], "plain"])]
    search.add("named", rows)
    return "named"


@pytest.mark.parametrize("encoding", NARROW)
def test_hits_of_any_name_are_printed(encoding: str, sidecar: Sidecar, named: str) -> None:
    where = ["--url", sidecar.url, "--collection", named]
    for options in ([], ["--json"]):
        result = run(CLIPSERVE, "search", "query", "a cat", *where, *options, **NARROW[encoding])
        assert (result.returncode, result.stderr) == (0, "")
        assert "plain" in result.stdout
    assert run(CLIPSERVE, "search", "stats", *where, **NARROW[encoding]).returncode == 0


@pytest.mark.parametrize("encoding", NARROW)
def test_files_of_any_name_are_added(encoding: str, sidecar: Sidecar, search: Search, tmp_path: Path) -> None:
    for n, name in enumerate(NAMES):
        (tmp_path / name).write_bytes(PICTURES[n])
    (tmp_path / "é broken.jpg").write_bytes(b"broken")
    where = ["--url", sidecar.url, "--collection", f"added-{len(encoding)}"]
    result = run(CLIPSERVE, "search", "add", tmp_path, *where, **NARROW[encoding])
    assert "Traceback" not in result.stderr
    assert result.returncode != command_runner.UNFORESEEN
    assert "broken.jpg" in result.stdout + result.stderr


@pytest.mark.parametrize("options", [[], ["--json"]])
def test_a_reader_that_goes_away_ends_it_silently(options: list[str], sidecar: Sidecar, named: str) -> None:
    command = [CLIPSERVE, "search", "query", "a cat", "--url", sidecar.url, "--collection", named, *options]
    process = subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.PIPE)
    process.stdout.close()
    assert process.stderr.read() == b""
    assert process.wait() in (1, command_runner.BROKEN_PIPE)


@pytest.mark.long
def test_an_export_whose_reader_goes_away(exported: Path, checkpoint: Path, tmp_path: Path) -> None:
    shutil.copytree(exported / "artifacts", tmp_path / "artifacts")
    where = ["--artifacts", tmp_path / "artifacts", "--repository", tmp_path / "repository"]
    command = [CLIPSERVE, "export", "--quick", "--model", checkpoint, *where, *FLOATS]
    process = subprocess.Popen([*map(str, command)], stdout=subprocess.PIPE, stderr=subprocess.PIPE)
    process.stdout.close()
    assert b"rror" not in process.stderr.read()
    assert process.wait() in (1, command_runner.BROKEN_PIPE)
    assert (tmp_path / "repository" / "clip_text").exists()


def test_what_nobody_foresaw_is_one_line(tmp_path: Path) -> None:
    result = broken_command("secret = 'hunter2'; return {}['où\\nsecond line']", XDG_STATE_HOME=str(tmp_path))
    assert result.returncode == command_runner.UNFORESEEN
    [line] = result.stderr.splitlines()
    assert line.startswith("error: clipserve serve ended by something unforeseen, KeyError: 'où")
    details = Path(re.search(r"details in (\S+\.txt)", line)[1])
    assert details.parent == tmp_path / "clipserve"
    assert stat.S_IMODE(details.stat().st_mode) == 0o600
    assert "Traceback (most recent call last)" in details.read_text()


@pytest.mark.parametrize("home", ["/proc/nowhere", "/dev/null"])
def test_details_go_to_a_temporary_file_where_there_is_no_home(home: str, tmp_path: Path) -> None:
    result = broken_command("raise MemoryError", HOME=home, XDG_STATE_HOME="", TMPDIR=str(tmp_path))
    [line] = result.stderr.splitlines()
    details = Path(re.search(r"details in (\S+\.txt)", line)[1])
    assert (details.parent, stat.S_IMODE(details.stat().st_mode)) == (tmp_path, 0o600)
    assert "MemoryError" in details.read_text()


@pytest.mark.parametrize(
    ("code", "status", "printed"),
    [
        ("return 0", 0, ""),
        ("raise KeyboardInterrupt", 130, ""),
        ("raise SystemExit(5)", 5, ""),
        ("from clip_client import InvalidInput; raise InvalidInput('no such é: make one')", 1, "error: no such é: make one\n"),
        ("print('\\ud800 é'); return 0", 0, ""),
    ],
)
def test_other_ends(code: str, status: int, printed: str) -> None:
    result = broken_command(code, PYTHONIOENCODING="utf-8")
    assert (result.returncode, result.stderr) == (status, printed)


@pytest.mark.parametrize(
    ("output", "status", "told"),
    [
        (">/dev/full", 1, "error: the output can't be written (No space left on device): make room, or write elsewhere\n"),
        (">&-", 0, ""),
    ],
    ids=["full", "closed"],
)
def test_an_output_that_takes_nothing_is_no_defect(output: str, status: int, told: str) -> None:
    result = subprocess.run(["sh", "-c", f'exec "$0" --help {output}', CLIPSERVE], capture_output=True, text=True, timeout=60)
    assert (result.returncode, result.stderr) == (status, told)


def test_a_user_without_a_home_gets_the_details_in_a_temporary_file(tmp_path: Path) -> None:
    nobody = "import os, pwd; os.environ.pop('HOME', None); pwd.getpwuid = {}.__getitem__; raise ZeroDivisionError"
    result = broken_command(nobody, TMPDIR=str(tmp_path), XDG_STATE_HOME="")
    assert result.returncode == command_runner.UNFORESEEN
    assert "Traceback" not in result.stderr
    assert f"details in {tmp_path}/clipserve-" in result.stderr


def test_a_broken_pipe_to_somebody_else_is_not_silent(tmp_path: Path) -> None:
    result = broken_command("raise BrokenPipeError(32, 'of a socket')", XDG_STATE_HOME=str(tmp_path))
    assert result.returncode == command_runner.UNFORESEEN
    assert "of a socket" in result.stderr


def test_what_a_user_chose_for_characters_that_cannot_be_printed_stays() -> None:
    assert broken_command("print('é'); return 0", PYTHONIOENCODING="ascii:replace").stdout == "?\n"
    assert broken_command("print('é'); return 0", PYTHONIOENCODING="ascii").stdout == "\\xe9\n"


def test_the_demo_says_why_it_ends(tmp_path: Path) -> None:
    example = ROOT / "examples" / "emoji"
    code = (
        f"import sys; sys.path.insert(0, {str(example)!r})\n"
        "import dataclasses, demo, pathlib\n"
        "demo.UP = dataclasses.replace(demo.UP, pictures=pathlib.Path('none'))\n"
        "sys.exit(demo.main())"
    )
    result = run(sys.executable, "-c", code, cwd=tmp_path)
    assert (result.returncode, result.stderr) == (
        1,
        "error: no folder none: expected a folder of pictures, a list of them, shards, a table or a data set\n",
    )
