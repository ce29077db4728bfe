"""The ``clipserve`` command: finds the package of a sub-command when it is called, and not before."""

import importlib
import sys
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from clip_client import command_runner

USAGE_ERROR = 2
_OF_UNIX = ("fcntl", "resource")
"""Modules of Python that Windows lacks."""


@dataclass(frozen=True)
class Command:
    """A sub-command: the module with its ``main(argv)`` and ``parser(argv)``, the extra that installs what it needs, help."""

    module: str
    extra: str
    help: str


COMMANDS = {
    "up": Command(
        "clip_serve.up.cli", "up", "everything at once: export, serve, search, add a folder of pictures, open the page"
    ),
    "export": Command("clip_export.cli", "export", "turn a checkpoint into checked variants and publish them"),
    "learn": Command("clip_export.learning.cli", "export", "tune a checkpoint on what people chose among the hits of searches"),
    "serve": Command("clip_serve.cli", "serve", "start Triton on a model repository, without Docker"),
    "publish": Command(
        "clip_serve.versions.cli", "serve", "put another version of a checkpoint into service as the server runs"
    ),
    "search": Command("clip_search.cli.parser", "search", "store, index and search embeddings; a page and an API"),
    "embed": Command(
        "clip_embed.cli", "embed", "embed a long list of pictures and texts into files, resumable, on any number of machines"
    ),
    "compare": Command("clip_client.commands.compare", "local", "compare a picture with texts"),
    "classify": Command("clip_client.commands.classify", "local", "label pictures by texts, without training"),
    "info": Command("clip_client.commands.info", "local", "tell what is installed, served and published"),
    "completion": Command("clip_client.completion", "completion", "print a script that completes commands in a shell"),
}

EXAMPLES = (
    "clipserve up FOLDER",
    "clipserve export",
    "clipserve serve",
    "clipserve search serve",
    "clipserve search add FOLDER --collection photos",
    "clipserve embed FOLDER EMBEDDINGS",
)
"""Commands in the order that a newcomer needs them."""


def main(argv: Sequence[str] | None = None) -> int:
    """Dispatch to a sub-command; returns its exit status."""
    arguments = list(sys.argv[1:] if argv is None else argv)
    return command_runner.run(" ".join(["clipserve", *arguments[:1]]), lambda: _dispatch(arguments))


def _dispatch(arguments: list[str]) -> int:
    if not arguments or arguments[0] in ("-h", "--help"):
        print(_help())
        return 0 if arguments else USAGE_ERROR
    if arguments[0] == "--version":
        from clip_client.help_texts import version

        print(version())
        return 0
    name, *rest = arguments
    if name not in COMMANDS:
        print(f"clipserve: no command {name!r}\n\n{_help()}", file=sys.stderr)
        return USAGE_ERROR
    return _run(name, COMMANDS[name], rest)


def _run(name: str, command: Command, arguments: list[str]) -> int:
    try:
        return int(importlib.import_module(command.module).main(arguments))
    except ModuleNotFoundError as problem:
        if problem.name in _OF_UNIX:
            print(f"clipserve {name} runs on Linux and macOS, not on Windows: use WSL 2 or Docker", file=sys.stderr)
            return USAGE_ERROR
        cure = _of_clone(name) or f"pip install 'clipserve[{command.extra}]'"
        print(f"clipserve {name} needs {problem.name}, which isn't installed: {cure}", file=sys.stderr)
        return USAGE_ERROR


def _of_clone(name: str) -> str:
    """Return the command of a clone's own environment, if there is one and it isn't this one; else an empty text."""
    environment = Path(__file__).resolve().parents[2] / ".venv"
    script = environment / "bin" / "clipserve"
    is_other = script.exists() and environment != Path(sys.prefix).resolve()
    return f"the clone's own Python has it, {script} {name}" if is_other else ""


def _help() -> str:
    commands = "\n".join(f"  {name:<10} {command.help}" for name, command in COMMANDS.items())
    examples = "\n".join(f"  {example}" for example in EXAMPLES)
    return (
        f"usage: clipserve COMMAND [OPTIONS]\n\n{commands}\n\nexamples:\n{examples}\n\n"
        "clipserve COMMAND --help tells its options, clipserve --version what is installed."
    )
