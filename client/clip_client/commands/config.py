"""``clipserve config``: the options that are in force, each with the place that set it."""

from __future__ import annotations

import argparse
import importlib
import json
import os
import sys
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from clip_client import cli, help_texts
from clip_client import settings as owner
from clip_client.client_variables import SEARCH_TOKEN
from clip_client.errors import InvalidInput
from clip_client.printable_text import printable

_DEFAULT, _OPTION = "default", "option"
_HIDDEN = "(hidden)"


@dataclass(frozen=True)
class InForce:
    """Value of an option, and where it comes from: ``default``, ``FILE:LINE``, a variable, or ``option``."""

    value: Any
    source: str


def main(argv: Sequence[str] | None = None) -> int:
    """Print what is in force; return the exit status."""
    own, words = parser(argv).parse_known_args(argv)
    if own.config:
        words = [f"--config={own.config}", *words]
    tables = {name: _in_force(name, words) for name in _tables(own.command, words)}
    if own.json:
        print(json.dumps({name: _as_json(table) for name, table in tables.items()}, indent=2))
    else:
        print("\n\n".join(_as_text(name, table) for name, table in tables.items()))
    return 0


def parser(argv: Sequence[str] | None = None) -> argparse.ArgumentParser:
    """Return the parser of the command."""
    made = argparse.ArgumentParser(
        prog="clipserve config",
        description="Print the options of commands that are in force, and where each comes from. Options behind COMMAND are "
        "taken as that command would take them. Secrets aren't shown.",
        formatter_class=help_texts.Formatter,
        allow_abbrev=False,
    )
    commands = ", ".join(owner.TABLES.values())
    made.add_argument("command", nargs="?", metavar="COMMAND [OPTIONS]", help=f"one of {commands}; all if unset")
    made.add_argument("--config", type=Path, metavar="FILE", help="TOML file with a table for each command")
    made.add_argument("--json", action="store_true", help="for machines")
    help_texts.add_version(made)
    help_texts.add_examples(
        made, "clipserve config", "clipserve config search serve --json", "clipserve config serve --threads 4"
    )
    return made


def _tables(command: str | None, words: list[str]) -> list[str]:
    """Return the tables of a command, or of all; takes the second word of a command away from the others."""
    if command is None:
        if unknown := [word for word in words if not word.startswith("--config=")]:
            raise InvalidInput(f"{unknown[0]} is nobody's: name the command that it belongs to in front of it")
        return [name for name in owner.TABLES if _is_installed(name)]
    for name, named in owner.TABLES.items():
        first, *second = named.split()
        if command == first:
            if second and second[0] in words:
                words.remove(second[0])
            return [name]
    raise InvalidInput(f"{command} has no settings: name one of {', '.join(owner.TABLES.values())}")


def _is_installed(table: str) -> bool:
    try:
        _parser(table, [])
    except ModuleNotFoundError as problem:
        print(f"[{table}] is left out: clipserve {owner.TABLES[table]} needs {problem.name}", file=sys.stderr)
        return False
    return True


def _in_force(table: str, words: Sequence[str]) -> dict[str, InForce]:
    """Return the options of a command in the order of its help."""
    try:
        made = _parser(table, words)
    except ModuleNotFoundError as problem:
        extra = cli.COMMANDS[owner.TABLES[table].split()[0]].extra
        told = f"clipserve {owner.TABLES[table]} needs {problem.name}, which isn't installed: pip install 'clipserve[{extra}]'"
        raise InvalidInput(told) from problem
    options = owner.options(made)
    file: Path | None = made.get_default("config")
    places = {name: setting.place for name, setting in owner.settings(options, table, file).items()}
    defaults = {name: action.default for name, action in options.items()}
    given = _given(made, words)
    listed = {
        name: InForce(given[action.dest], _OPTION)
        if action.dest in given
        else InForce(defaults[name], places.get(name, _DEFAULT))
        for name, action in options.items()
    }
    return {"config": _file(file, "config" in given), **listed, **_token(table, listed)}


def _parser(table: str, words: Sequence[str]) -> argparse.ArgumentParser:
    """Return the parser of a table's command, with its settings as defaults."""
    first, *verb = owner.TABLES[table].split()
    made: argparse.ArgumentParser = importlib.import_module(cli.COMMANDS[first].module).parser([*verb, *words])
    for name in verb:
        [below] = [action for action in made._actions if isinstance(action, argparse._SubParsersAction)]
        made = below.choices[name]
    return made


def _given(made: argparse.ArgumentParser, words: Sequence[str]) -> Mapping[str, Any]:
    """Return the options of a command line alone; a wrong one ends the command, as it does there."""
    for action in made._actions:
        action.default, action.required = argparse.SUPPRESS, False
    made._defaults.clear()
    return vars(made.parse_args([*words]))


def _file(file: Path | None, is_option: bool) -> InForce:
    if file is None:
        return InForce(None, _DEFAULT)
    return InForce(file, _OPTION if is_option else owner.CONFIG)


def _token(table: str, listed: Mapping[str, InForce]) -> dict[str, InForce]:
    """Tell of the token that stands in a variable, where no file has another one."""
    is_used = table == "search" and os.environ.get(SEARCH_TOKEN) and listed["token_file"].value is None
    return {"token": InForce(_HIDDEN, SEARCH_TOKEN)} if is_used else {}


def _plain(value: Any) -> Any:
    """Return a value as JSON has it, without secrets."""
    if isinstance(value, list | tuple):
        return [_plain(each) for each in value]
    if isinstance(value, range):
        return f"{value[0]}-{value[-1]}"
    if value is None or isinstance(value, bool | int | float):
        return value
    return owner.without_secrets(str(value))


def _as_json(table: Mapping[str, InForce]) -> dict[str, Any]:
    return {name: {"value": _plain(each.value), "from": each.source} for name, each in table.items()}


def _as_text(name: str, table: Mapping[str, InForce]) -> str:
    rows = [(key, _shown(each.value), printable(each.source)) for key, each in table.items()]
    widths = [max(len(row[n]) for row in rows) for n in range(2)]
    lines = [f"{key:<{widths[0]}}  {value:<{widths[1]}}  {source}" for key, value, source in rows]
    return "\n".join([f"[{name}]  # clipserve {owner.TABLES[name]}", *lines])


def _shown(value: Any) -> str:
    plain = _plain(value)
    return "-" if plain in (None, "", []) else printable(plain if isinstance(plain, str) else json.dumps(plain))
