"""Defaults of a command's options, from the environment and a TOML file; the command line goes before both."""

import argparse
import difflib
import json
import os
import re
import sys
from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from clip_client import help_texts
from clip_client.client_variables import SEARCH_TOKEN
from clip_client.errors import InvalidInput

CONFIG = "CLIPSERVE_CONFIG"
"""Variable with the path of the file, for where the command line has none."""
TABLES = ("export", "search", "serve")
"""Tables of the file, each with the options of one command."""

_PREFIX = "CLIPSERVE_"
_SERVICE = re.compile(r"(_SERVICE_(HOST|PORT(_\w+)?)|_PORT_\d+_(TCP|UDP|SCTP)(_(PROTO|PORT|ADDR))?)=|_PORT=(tcp|udp|sctp)://")
"""Variables that Kubernetes sets in every pod, for a service whose name begins as a command's variables do."""


@dataclass(frozen=True)
class _Setting:
    """Value of an option as it was written, and its place: a variable, or a key of the file."""

    value: Any
    place: str


class Formatter(help_texts.Formatter):
    """Help with the default of each option that has one."""

    def _get_help_string(self, action: argparse.Action) -> str:
        values = action.default if isinstance(action.default, list) else [action.default]
        shown = ", ".join(str(value) for value in values if not (value is None or value is False or value == argparse.SUPPRESS))
        return f"{action.help} (default: {shown.replace('%', '%%')})" if shown else action.help or ""


class Repeated(argparse.Action):
    """Action ``append`` whose first value takes the place of the default's values."""

    def __call__(self, parser: Any, namespace: argparse.Namespace, values: Any, option_string: str | None = None) -> None:
        """Add a value."""
        before = getattr(namespace, self.dest)
        setattr(namespace, self.dest, [values] if before is self.default else [*before, values])


def add_settings(parser: argparse.ArgumentParser, table: str, argv: Sequence[str] | None = None) -> None:
    """Add ``--config FILE``, and take defaults of the parser's options from the environment and the file.

    The option ``--exact-rows`` of the table ``search`` is the variable ``CLIPSERVE_SEARCH_EXACT_ROWS``, or the key
    ``exact_rows`` below ``[search]``. The variable goes before the key; an empty one is as good as none. Flags without a
    value stay on the command line.

    Args:
        parser: has its options already; repeated ones have the action :class:`Repeated`.
        table: one of :data:`TABLES`.
        argv: command line, for its ``--config``; the process' own if None.

    Raises:
        InvalidInput: if the file can't be read, a key or a variable is unknown, or a value can't be used.
    """
    options = {action.dest: action for action in parser._actions if action.option_strings and action.nargs != 0}
    config: dict[str, Any] = {"type": Path, "default": os.environ.get(CONFIG) or None, "metavar": "FILE"}
    early = argparse.ArgumentParser(add_help=False)
    early.add_argument("--config", nargs="?", **config)
    parser.add_argument("--config", help=f"TOML file with these options in a table [{table}]", **config)
    for name, setting in _settings(options, table, early.parse_known_args(argv)[0].config).items():
        options[name].default = _value(parser, options[name], setting)
        options[name].help = f"{options[name].help}; set by {setting.place.replace('%', '%%')}"


def _settings(options: Collection[str], table: str, file: Path | None) -> dict[str, _Setting]:
    """Return the settings by option; those of the environment go before those of the file."""
    prefix = f"{_PREFIX}{table.upper()}_"
    known = {prefix + name.upper(): name for name in options}
    if not file and not any(name.startswith(_PREFIX) for name in os.environ):
        return {}  # without importing pydantic
    return {**(_of_file(options, table, file) if file else {}), **_of_environment(prefix, known)}


def _of_environment(prefix: str, known: Mapping[str, str]) -> dict[str, _Setting]:
    from pydantic import create_model
    from pydantic_settings import BaseSettings, EnvSettingsSource

    fields: dict[str, Any] = dict.fromkeys(known, (Any, None))
    variables = EnvSettingsSource(create_model("Variables", __base__=BaseSettings, **fields), True, env_ignore_empty=True)()
    for variable, value in os.environ.items():
        if not variable.startswith(_PREFIX) or _SERVICE.search(f"{variable}={value}"):
            variables.pop(variable, None)
        elif variable == SEARCH_TOKEN:  # no option: the sidecar and its clients read it
            continue
        elif variable.startswith(prefix) and variable not in known:
            raise InvalidInput(f"no option has the variable {variable}: {_nearest(variable, known)}, or unset it")
        elif (meant := prefix + variable.removeprefix(_PREFIX)) in known:
            print(f"warning: the variable {variable} sets nothing: did you mean {meant}?", file=sys.stderr)
    return {known[variable]: _Setting(value, variable) for variable, value in variables.items()}


def _of_file(options: Collection[str], table: str, file: Path) -> dict[str, _Setting]:
    content = _read(file)
    for name, value in content.items():
        if name not in TABLES or not isinstance(value, dict):
            raise InvalidInput(f"{file}: {name} isn't known outside of a table: put it below [{table}], or remove it")
    for key in content.get(table, {}):
        if key not in options:
            raise InvalidInput(f"{file}: [{table}] has no option {key}: {_nearest(key, options)}, or remove it")
    return {name: _Setting(value, f"{name} in [{table}] of {file}") for name, value in content.get(table, {}).items()}


def _read(file: Path) -> Mapping[str, Any]:
    from pydantic_settings import BaseSettings, TomlConfigSettingsSource

    try:
        if file.is_file():
            return TomlConfigSettingsSource(BaseSettings, file)()
    except (OSError, ValueError, RecursionError) as problem:
        raise InvalidInput(f"{file} can't be read ({problem}): expected TOML, a table [search], say") from problem
    raise InvalidInput(f"{file} isn't a file: name a TOML file in --config or {CONFIG}")


def _nearest(name: str, known: Collection[str]) -> str:
    near = difflib.get_close_matches(name.replace("-", "_"), sorted(known), 1)
    return f"did you mean {near[0]}?" if near else f"expected one of {', '.join(sorted(known))}"


def _value(parser: argparse.ArgumentParser, action: argparse.Action, setting: _Setting) -> Any:
    """Return the value of a setting as its option takes it on the command line."""
    try:
        if not isinstance(action, Repeated):
            return _converted(parser, action, setting.value)
        return [_converted(parser, action, value) for value in _listed(setting.value)]
    except (argparse.ArgumentError, ValueError, RecursionError) as problem:
        reason = getattr(problem, "message", problem)
        told = f"{setting.place} is {str(setting.value)[:80]!r}: {reason}; '{parser.prog} --help' says what is expected"
        raise InvalidInput(told) from problem


def _listed(value: Any) -> list[Any]:
    """Return the values of a repeated option: of an array in TOML, of one in JSON in a variable, or the only one."""
    listed = json.loads(value) if isinstance(value, str) and value.startswith("[") else value
    return listed if isinstance(listed, list) else [listed]


def _converted(parser: argparse.ArgumentParser, action: argparse.Action, value: Any) -> Any:
    takes: tuple[type, ...] = (str,) if action.type in (None, str, Path) else (str, int, float)
    if isinstance(value, bool) or not isinstance(value, takes):
        raise ValueError(f"expected {' or '.join(kind.__name__ for kind in takes)}, got {type(value).__name__}")
    converted = parser._get_value(action, str(value))
    parser._check_value(action, converted)
    return converted
