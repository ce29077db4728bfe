"""Help, version and completion of every command."""

from __future__ import annotations

import os
import re
import subprocess
import sys
from importlib.metadata import version
from pathlib import Path

import pytest
from command_lines import check, printed, verbs
from documents import ROOT
from servers import CLIPSERVE
from snippets import commands

from clip_client import cli, completion
from clip_client.help_texts import EXAMPLES

EVERY = [[], *([name] for name in cli.COMMANDS), *(words for words in verbs() if len(words) == 2)]
REDIRECTED = re.compile(r' > (~|"\$).*')


@pytest.mark.parametrize("words", EVERY, ids=" ".join)
def test_every_help_has_examples_that_its_parser_takes(words: list[str]) -> None:
    _, heading, examples = printed(words, "--help").partition(f"\n{EXAMPLES}\n")
    lines = [line.strip() for line in examples.split("\n\n")[0].splitlines()]
    assert heading
    assert lines
    for line in lines:
        command = commands(REDIRECTED.sub("", line))[0]
        assert list(command.words[: 1 + len(words)]) == ["clipserve", *words]
        check(command)


@pytest.mark.parametrize("words", [[], *([name] for name in cli.COMMANDS)], ids=" ".join)
def test_every_command_tells_the_version(words: list[str]) -> None:
    assert printed(words, "--version") == f"clipserve {version('clipserve')}\n"


def test_bash_completes_verbs_options_and_folders(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert completion.main(["bash"]) == 0
    script = capsys.readouterr().out
    (tmp_path / "clipserve.bash").write_text(script)
    (tmp_path / "pictures").mkdir()
    function = next(line.split()[-2] for line in script.splitlines() if line.startswith("complete "))
    for typed, expected in {
        "clipserve se": {"serve", "search"},
        "clipserve search query --coll": {"--collection"},
        "clipserve export --varia": {"--variants"},
        "clipserve search add pict": {"pictures"},
    }.items():
        words = typed.split()
        ask = (
            f"source clipserve.bash; COMP_WORDS=({typed}); COMP_CWORD={len(words) - 1}; "
            f'{function} {words[0]} {words[-1]} {words[-2]}; printf "%s\\n" "${{COMPREPLY[@]}}"'
        )
        replies = subprocess.run(["bash", "-c", ask], capture_output=True, text=True, cwd=tmp_path, check=True)
        assert {reply.strip().rstrip("/") for reply in replies.stdout.splitlines()} >= expected, replies.stderr


def test_zsh_gets_a_script(capsys: pytest.CaptureFixture[str]) -> None:
    assert completion.main(["zsh"]) == 0
    script = capsys.readouterr().out
    assert script.startswith("#compdef clipserve")
    assert "--collection" in script


def test_a_command_without_its_libraries_is_completed_by_name(
    capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setitem(sys.modules, "clip_export.cli", None)
    assert completion.main(["bash"]) == 0
    printed = capsys.readouterr()
    assert "export" in printed.out
    assert "options of clipserve export aren't completed: it needs clip_export.cli" in printed.err


@pytest.mark.parametrize("flags", [["-I", "-S"], ["-S"]])
def test_a_python_without_the_packages_is_told_the_command(flags: list[str]) -> None:
    ended = subprocess.run(
        [sys.executable, *flags, ROOT / "export" / "all.py"], capture_output=True, text=True, timeout=30, check=False
    )
    assert ended.returncode == 1
    assert re.match(r"export/all.py needs \w+, which ", ended.stderr)
    assert "run 'make setup' in " in ended.stderr
    assert "Traceback" not in ended.stderr


def test_another_python_in_a_clone_is_told_the_clones_own(tmp_path: Path) -> None:
    package = tmp_path / "copy" / "client" / "clip_client"
    package.mkdir(parents=True)
    for module in (ROOT / "client" / "clip_client").glob("*.py"):
        (package / module.name).write_bytes(module.read_bytes())
    script = tmp_path / "copy" / ".venv" / "bin" / "clipserve"
    script.parent.mkdir(parents=True)
    script.touch()
    code = "import sys; sys.modules['filelock'] = None; from clip_client.cli import main; sys.exit(main(['serve']))"
    environment = {**os.environ, "PYTHONPATH": os.pathsep.join([str(package.parent), os.environ.get("PYTHONPATH", "")])}
    ended = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, env=environment, check=False)
    assert ended.returncode == 2
    assert f"needs filelock, which isn't installed: the clone's own Python has it, {script} serve" in ended.stderr


@pytest.mark.parametrize("on_path", [True, False])
def test_commands_in_messages_can_be_typed(on_path: bool, tmp_path: Path) -> None:
    code = "from clip_client.help_texts import program; print(program())"
    environment = {**os.environ, "PATH": str(CLIPSERVE.parent) if on_path else "/nowhere"}
    shown = subprocess.run(
        [sys.executable, "-c", code], capture_output=True, text=True, check=True, env=environment, cwd=tmp_path
    )
    assert shown.stdout.strip() == ("clipserve" if on_path else str(CLIPSERVE))
