"""Defaults of a command's options, from the environment and a TOML file; the command line goes before both."""

from __future__ import annotations

import argparse
import difflib
import json
import os
import re
import sys
from collections.abc import Collection, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from clip_client import help_texts, settings_file
from clip_client.client_variables import SEARCH_TOKEN
from clip_client.errors import InvalidInput

CONFIG = "CLIPSERVE_CONFIG"
"""Variable with the path of the file, for where the command line has none."""
TABLES = {"up": "up", "export": "export", "serve": "serve", "search": "search serve"}
"""Tables of the file, each with the options of one command: table → command."""

_PREFIX = "CLIPSERVE_"
_SERVICE = re.compile(r"(_SERVICE_(HOST|PORT(_\w+)?)|_PORT_\d+_(TCP|UDP|SCTP)(_(PROTO|PORT|ADDR))?)=|_PORT=(tcp|udp|sctp)://")
"""Variables that Kubernetes sets in every pod, for a service whose name begins as a command's variables do."""
_TRUTHS = {"true": True, "yes": True, "on": True, "1": True, "false": False, "no": False, "off": False, "0": False}
_SHOWN = 80  # characters of a value in a message
_SECRETS = re.compile(r"(?<=://)[^/@\s]*@|\?[^\s,]*")
"""User and password of a URL, and its query, which may be a signature."""


@dataclass(frozen=True)
class Setting:
    """Value of an option as it was written, and its place: ``FILE:LINE``, or a variable."""

    value: Any
    place: str
    name: str = ""  # in the file, ``port in [search]``; empty for a variable

    @property
    def told(self) -> str:
        """Place and name, for messages."""
        return f"{self.place}: {self.name}" if self.name else self.place


class Formatter(help_texts.Formatter):
    """Help with the default of each option that has one."""

    def _get_help_string(self, action: argparse.Action) -> str:
        values = action.default if isinstance(action.default, list) else [action.default]
        shown = ", ".join(str(value) for value in values if not (value is None or value is False or value == argparse.SUPPRESS))
        shown = "yes" if action.default is True else shown
        return f"{action.help} (default: {shown.replace('%', '%%')})" if shown else action.help or ""


class Repeated(argparse.Action):
    """Action ``append`` whose first value takes the place of the default's values."""

    def __call__(self, parser: Any, namespace: argparse.Namespace, values: Any, option_string: str | None = None) -> None:
        """Add a value."""
        before = getattr(namespace, self.dest, self.default)
        setattr(namespace, self.dest, [values] if before is self.default else [*before, values])


class Switch(argparse.Action):
    """Flag ``--name`` with its opposite ``--no-name``, which turns off what a file or a variable turned on."""

    def __init__(
        self, option_strings: Sequence[str], dest: str, *, help: str, default: bool = False, required: bool = False
    ) -> None:
        both = [*option_strings, *(f"--no-{name.removeprefix('--')}" for name in option_strings)]
        super().__init__(both, dest, nargs=0, default=default, required=required, help=help)

    def format_usage(self) -> str:
        """Return both flags."""
        return " | ".join(self.option_strings)

    def __call__(self, parser: Any, namespace: argparse.Namespace, values: Any, option_string: str | None = None) -> None:
        """Turn it on or off."""
        setattr(namespace, self.dest, not (option_string or "").startswith("--no-"))


def add_settings(parser: argparse.ArgumentParser, table: str, argv: Sequence[str] | None = None) -> None:
    """Add ``--config FILE``, and take defaults of the parser's options from the environment and the file.

    The option ``--exact-rows`` of the table ``search`` is the variable ``CLIPSERVE_SEARCH_EXACT_ROWS``, or the key
    ``exact_rows`` below ``[search]``. The variable goes before the key; an empty one is as good as none. A flag is set if it
    is a :class:`Switch`; others, which make a command do something else, stay on the command line.

    Args:
        parser: has its options already; repeated ones have the action :class:`Repeated`.
        table: one of :data:`TABLES`.
        argv: command line, for its ``--config``; the process' own if None.

    Raises:
        InvalidInput: if the file can't be read, a key or a variable is unknown, or a value can't be used.
    """
    known, file = options(parser), _file(argv)
    parser.add_argument("--config", help=f"TOML file with these options in a table [{table}]", **_CONFIG_OPTION, default=file)
    for name, setting in settings(known, table, file).items():
        action = known[name]
        action.default = _value(parser, action, setting)
        action.help = f"{action.help}; set by {setting.place.replace('%', '%%')}"


def options(parser: argparse.ArgumentParser) -> dict[str, argparse.Action]:
    """Return the options that can be set, by their keys in a file."""
    actions = [action for action in parser._actions if action.option_strings and action.dest != "config"]
    return {_key(action): action for action in actions if action.nargs != 0 or isinstance(action, Switch)}


def settings(known: Collection[str], table: str, file: Path | None) -> dict[str, Setting]:
    """Return the settings by option; those of the environment go before those of the file."""
    return {**(_of_file(known, table, file) if file else {}), **_of_environment(known, table)}


def variable(table: str, name: str) -> str:
    """Return the variable of an option."""
    return f"{_PREFIX}{table.upper()}_{name.upper()}"


def without_secrets(text: str) -> str:
    """Return a value as it may be shown: URLs without user, password and query."""
    return _SECRETS.sub("", text)


_CONFIG_OPTION: dict[str, Any] = {"type": Path, "metavar": "FILE"}


def _file(argv: Sequence[str] | None) -> Path | None:
    """Return the file that the command line names, or the environment."""
    early = argparse.ArgumentParser(add_help=False)
    early.add_argument("--config", nargs="?", **_CONFIG_OPTION, default=os.environ.get(CONFIG) or None)
    file: Path | None = early.parse_known_args(argv)[0].config
    return file


def _key(action: argparse.Action) -> str:
    [name, *_] = [option for option in action.option_strings if option.startswith("--")] or action.option_strings
    return name.lstrip("-").replace("-", "_")


def _of_environment(known: Collection[str], table: str) -> dict[str, Setting]:
    variables, prefix = {variable(table, name): name for name in known}, variable(table, "")
    told: dict[str, Setting] = {}
    for name, value in os.environ.items():
        if not name.startswith(_PREFIX) or name == SEARCH_TOKEN or _SERVICE.search(f"{name}={value}"):
            continue  # no option has the token: the sidecar and its clients read it
        if name in variables:
            told |= {variables[name]: Setting(value, name)} if value else {}
        elif name.startswith(prefix):
            raise InvalidInput(f"no option has the variable {name}: {_nearest(name, variables)}, or unset it")
        elif (meant := prefix + name.removeprefix(_PREFIX)) in variables:
            print(f"warning: the variable {name} sets nothing: did you mean {meant}?", file=sys.stderr)
    return told


def _of_file(known: Collection[str], table: str, file: Path) -> dict[str, Setting]:
    content, lines = settings_file.read(file)

    def place(*path: str) -> str:
        return f"{file}:{lines[path]}" if path in lines else str(file)

    for name, value in content.items():
        if name not in TABLES or not isinstance(value, dict):
            raise InvalidInput(f"{place(name)}: {_outside(name, value, table)}, or remove it")
    for key in content.get(table, {}):
        if key not in known:
            raise InvalidInput(f"{place(table, key)}: [{table}] has no option {key}: {_nearest(key, known)}, or remove it")
    return {
        key: Setting(value, place(table, key), f"{key} in [{table}]")
        for key, value in content.get(table, {}).items()
    }  # fmt: skip


def _outside(name: str, value: Any, table: str) -> str:
    if isinstance(value, dict):
        return f"no command has the table [{name}]: {_nearest(name, TABLES)}"
    return f"{name} isn't known outside of a table: put it below [{table}]"


def _nearest(name: str, known: Collection[str]) -> str:
    near = difflib.get_close_matches(name.replace("-", "_"), sorted(known), 1)
    return f"did you mean {near[0]}?" if near else f"expected one of {', '.join(sorted(known))}"


def _value(parser: argparse.ArgumentParser, action: argparse.Action, setting: Setting) -> Any:
    """Return the value of a setting as its option takes it on the command line."""
    try:
        if not isinstance(action, Repeated):
            return _converted(parser, action, setting.value)
        return [_converted(parser, action, value) for value in _listed(setting.value)]
    except (argparse.ArgumentError, ValueError, RecursionError) as problem:
        reason = getattr(problem, "message", problem)
        takes = f"{action.option_strings[0]} {action.metavar or ''}".rstrip()
        about = parser._get_formatter()._expand_help(action)
        told = f"{setting.told} is {without_secrets(str(setting.value))[:_SHOWN]!r}: {reason}; {takes}: {about}"
        raise InvalidInput(told) from problem


def _listed(value: Any) -> list[Any]:
    """Return the values of a repeated option: of an array in TOML, of one in JSON in a variable, or the only one."""
    listed = json.loads(value) if isinstance(value, str) and value.startswith("[") else value
    return listed if isinstance(listed, list) else [listed]


def _converted(parser: argparse.ArgumentParser, action: argparse.Action, value: Any) -> Any:
    if isinstance(action, Switch):
        return _truth(value)
    takes: tuple[type, ...] = (str,) if action.type in (None, str, Path) else (str, int, float)
    if isinstance(value, bool) or not isinstance(value, takes):
        raise ValueError(f"expected {' or '.join(kind.__name__ for kind in takes)}, got {type(value).__name__}")
    converted = parser._get_value(action, str(value))
    parser._check_value(action, converted)
    return converted


def _truth(value: Any) -> bool:
    if isinstance(value, bool):
        return value
    if isinstance(value, str) and value.lower() in _TRUTHS:
        return _TRUTHS[value.lower()]
    raise ValueError(f"expected true or false, got {type(value).__name__}")
