"""The ``clipserve`` command: finds the package of a sub-command when it is called, and not before."""

import importlib
import sys
from collections.abc import Sequence
from dataclasses import dataclass

from clip_client import command_runner

USAGE_ERROR = 2


@dataclass(frozen=True)
class Command:
    """A sub-command: the module whose ``main(argv)`` runs it, the extra that installs what it needs, one line of help."""

    module: str
    extra: str
    help: str


COMMANDS = {
    "export": Command("clip_export.cli", "export", "turn a checkpoint into checked variants and publish them"),
    "up": Command("clip_serve.up.cli", "up", "all of it: export, serve, search, add a folder of pictures, open the page"),
    "serve": Command("clip_serve.cli", "serve", "start Triton on a model repository, without Docker"),
    "search": Command("clip_search.cli.parser", "search", "store, index and search embeddings; a page and an API"),
}


def main(argv: Sequence[str] | None = None) -> int:
    """Dispatch to a sub-command; returns its exit status."""
    arguments = list(sys.argv[1:] if argv is None else argv)
    return command_runner.run(" ".join(["clipserve", *arguments[:1]]), lambda: _dispatch(arguments))


def _dispatch(arguments: list[str]) -> int:
    if not arguments or arguments[0] in ("-h", "--help"):
        print(_help())
        return 0 if arguments else USAGE_ERROR
    name, *rest = arguments
    if name not in COMMANDS:
        print(f"clipserve: no command {name!r}\n\n{_help()}", file=sys.stderr)
        return USAGE_ERROR
    return _run(name, COMMANDS[name], rest)


def _run(name: str, command: Command, arguments: list[str]) -> int:
    try:
        return int(importlib.import_module(command.module).main(arguments))
    except ModuleNotFoundError as problem:
        print(
            f"clipserve {name} needs {problem.name}, which isn't installed: pip install 'clipserve[{command.extra}]'",
            file=sys.stderr,
        )
        return USAGE_ERROR


def _help() -> str:
    lines = [f"  {name:<10} {command.help}" for name, command in COMMANDS.items()]
    return "usage: clipserve COMMAND [OPTIONS]\n\n" + "\n".join(lines) + "\n\nclipserve COMMAND --help tells its options."
