"""Help, version and completion of every command."""

from __future__ import annotations

import os
import subprocess
import sys
from importlib.metadata import version

import pytest
from command_lines import check, verbs
from servers import CLIPSERVE
from snippets import ROOT, commands

from clip_client import cli
from clip_client.help_texts import EXAMPLES

EVERY = [[], *([name] for name in cli.COMMANDS), *(words for words in verbs() if len(words) == 2)]


@pytest.mark.parametrize("words", EVERY, ids=" ".join)
def test_every_help_has_examples_that_its_parser_takes(words: list[str]) -> None:
    shown = subprocess.run([CLIPSERVE, *words, "--help"], capture_output=True, text=True, check=True).stdout
    _, heading, examples = shown.partition(f"\n{EXAMPLES}\n")
    lines = [line.strip() for line in examples.split("\n\n")[0].splitlines()]
    assert heading
    assert lines
    for line in lines:
        command = commands(line.partition(" > ")[0])[0]
        assert list(command.words[: 1 + len(words)]) == ["clipserve", *words]
        check(command)


@pytest.mark.parametrize("words", [[], *([name] for name in cli.COMMANDS)], ids=" ".join)
def test_every_command_tells_the_version(words: list[str]) -> None:
    shown = subprocess.run([CLIPSERVE, *words, "--version"], capture_output=True, text=True, check=True).stdout
    assert shown == f"clipserve {version('clipserve')}\n"


def test_bash_completes_verbs_options_and_folders(tmp_path) -> None:
    script = subprocess.run([CLIPSERVE, "completion", "bash"], capture_output=True, text=True, check=True).stdout
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


def test_zsh_gets_a_script() -> None:
    script = subprocess.run([CLIPSERVE, "completion", "zsh"], capture_output=True, text=True, check=True).stdout
    assert script.startswith("#compdef clipserve")
    assert "--collection" in script


def test_a_python_without_the_packages_is_told_the_command() -> None:
    ended = subprocess.run(
        [sys.executable, "-I", "-S", ROOT / "export" / "all.py"], capture_output=True, text=True, timeout=30, check=False
    )
    assert ended.returncode == 1
    assert "export/all.py needs clip_client, which " in ended.stderr
    assert "run 'make setup' in " in ended.stderr
    assert "Traceback" not in ended.stderr


@pytest.mark.parametrize("on_path", [True, False])
def test_commands_in_messages_can_be_typed(on_path: bool, tmp_path) -> None:
    code = "from clip_client.help_texts import program; print(program())"
    environment = {**os.environ, "PATH": str(CLIPSERVE.parent) if on_path else "/nowhere"}
    shown = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True, env=environment, cwd=tmp_path)
    assert shown.stdout.strip() == ("clipserve" if on_path else str(CLIPSERVE))
