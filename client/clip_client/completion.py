"""``clipserve completion``: a shell's script that completes commands, options and files; needs shtab.

The script is made once from the parsers, so that no program is started at a press of the tab key.
"""

import argparse
import importlib
import sys
from collections.abc import Sequence
from pathlib import Path

import shtab

from clip_client import cli, help_texts

_FOLDERS = ("DIR", "FOLDER")  # metavars
_SHELLS = ("bash", "zsh")


def main(argv: Sequence[str] | None = None) -> int:
    """Print the script of a shell; name the commands of which it knows no options, on standard error."""
    shell = parser(argv).parse_args(argv).shell
    print(shtab.complete(_whole(), shell=shell))
    return 0


def parser(argv: Sequence[str] | None = None) -> argparse.ArgumentParser:
    """Return the parser of the command."""
    made = argparse.ArgumentParser(
        prog="clipserve completion",
        description="Print a script that completes commands, options and files of clipserve in a shell.",
        formatter_class=help_texts.Formatter,
    )
    made.add_argument("shell", choices=_SHELLS, help="shell that reads the script")
    help_texts.add_version(made)
    help_texts.add_examples(
        made,
        "clipserve completion bash > ~/.local/share/bash-completion/completions/clipserve",
        'clipserve completion zsh > "${fpath[1]}/_clipserve"',
    )
    return made


def _whole() -> argparse.ArgumentParser:
    """Return a parser with all commands and their options."""
    whole = argparse.ArgumentParser(prog="clipserve")
    help_texts.add_version(whole)
    commands = whole.add_subparsers(metavar="COMMAND")
    for name, command in cli.COMMANDS.items():
        try:
            own = [importlib.import_module(command.module).parser([])]
        except ModuleNotFoundError as problem:
            print(f"options of clipserve {name} aren't completed: it needs {problem.name}", file=sys.stderr)
            own = []
        commands.add_parser(name, help=command.help, parents=own, add_help=not own)
    _complete_files(whole)
    return whole


def _complete_files(parser: argparse.ArgumentParser) -> None:
    """Let options that take paths be completed with files, or with folders."""
    for action in parser._actions:
        if isinstance(action, argparse._SubParsersAction):
            for below in action.choices.values():
                _complete_files(below)
        elif action.type is Path:
            folder = action.metavar in _FOLDERS or "folder" in action.dest
            action.complete = shtab.DIRECTORY if folder else shtab.FILE  # type: ignore[attr-defined]
