"""Command lines read by the parsers of their programs, which run nothing."""

from __future__ import annotations

import argparse
import contextlib
import functools
import io
import json
import re
import subprocess
import sys
from collections.abc import Callable, Sequence
from importlib.metadata import metadata
from pathlib import Path
from unittest import mock

import pytest
import pytest_options
import yaml
from documents import ROOT, blocks
from pip._internal.commands import create_command
from servers import CLIPSERVE
from snippets import Command, commands

from clip_client import cli

FLAG = re.compile(r"(?<![\w-])--?[a-zA-Z][\w-]*")
_LOCUSTFILE = ROOT / "loadtest" / "locustfile.py"
_SCRIPT_HELPS = Path(__file__).with_name("script_helps.py")
_CHAOS = [sys.executable, "-m", "chaos"]
_OWN_FLAG = re.compile(r'add_argument\(\s*"(--[\w-]+)"')


class Refused(Exception):
    """A command line that its program doesn't take."""


class _Parsed(BaseException):
    """A command line was parsed; what would follow doesn't."""


def check(command: Command) -> None:
    """Check a command line.

    Raises:
        Refused: its program wouldn't take it.
    """
    program, *arguments = command.words
    name = Path(program).name
    if name not in _PROGRAMS:
        raise Refused(f"no test knows {program}")
    _check_environment(command.environment)
    _PROGRAMS[name](arguments)


def flags(program: Sequence[str]) -> set[str]:
    """Return the flags of a program, from the usage that its ``--help`` prints."""
    return _flags_in(_help(tuple(map(str, program))))


def _flags_in(told: str) -> set[str]:
    return set(FLAG.findall(told.split("\n\n")[0])) - {"-h", "--help"}


def verbs() -> list[list[str]]:
    """Return the words of every command of clipserve: ``["export"]``, …, ``["search", "add"]``, …"""
    listed = re.search(r"^positional arguments:\n  VERB\n(.*?)\n\n", _help((str(CLIPSERVE), "search")) + "\n\n", re.M | re.S)
    assert listed
    own = [[name] for name in cli.COMMANDS if name != "search"]
    return [*own, *(["search", name] for name in re.findall(r"^    ([\w-]+)", listed[1], re.M))]


@functools.cache
def every_flag() -> set[str]:
    """Return the flags of all commands of clipserve, of locust with our users, and of the rehearsal of faults."""
    return set.union(*(flags([CLIPSERVE, *words]) for words in verbs()), _locusts(), flags(_CHAOS))


def _locusts() -> set[str]:
    """Return the flags of locust, whose help lacks our own, and ours."""
    own = _OWN_FLAG.findall(_LOCUSTFILE.read_text(encoding="utf-8"))
    return {*own, *FLAG.findall(_help((sys.executable, "-m", "locust")))}


@functools.cache
def _help(program: tuple[str, ...]) -> str:
    script, *words = program
    return printed(words, "--help") if script == str(CLIPSERVE) else _run([*program, "--help"])


@functools.cache
def _helps(folder: str) -> dict[str, str]:
    """Return the help of each script of a folder that the documents run with flags, by its name."""
    lines = [command.words for block in blocks("sh") for command in commands(block.content)]
    scripts = {words[1] for words in lines if len(words) > 2 and words[1].startswith(f"{folder}/") and words[1].endswith(".py")}
    names = sorted(script.removeprefix(f"{folder}/") for script in scripts)
    told: dict[str, str] = json.loads(_run([sys.executable, str(_SCRIPT_HELPS), folder, *names]))
    return told


def printed(words: Sequence[str], option: str) -> str:
    """Return what a command of clipserve prints for ``--help`` or ``--version``, in this process, which has loaded it."""
    with contextlib.redirect_stdout(io.StringIO()) as output:
        try:
            status = cli.main([*words, option])
        except SystemExit as ended:
            status = int(ended.code or 0)
    assert status == 0
    return output.getvalue()


def _run(command: Sequence[str]) -> str:
    ended = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, timeout=60)
    if ended.returncode:
        raise Refused(f"{command}: {ended.stdout}{ended.stderr}")
    return ended.stdout


def _check_environment(variables: dict[str, str]) -> None:
    tests = "".join(path.read_text(encoding="utf-8") for path in (ROOT / "tests").rglob("*.py"))
    for name in variables:
        if f'"{name}"' not in tests:
            raise Refused(f"no test reads {name}")


def _clipserve(arguments: Sequence[str]) -> None:
    with _stopping_after_parsing() as errors:
        try:
            cli.main(arguments)
        except _Parsed:
            return
        except SystemExit as ended:
            if not ended.code:  # --help
                return
    raise Refused(errors.getvalue())


@contextlib.contextmanager
def _stopping_after_parsing():
    """Let the next command line be parsed, and raise :class:`_Parsed` then; yield what is said of a bad one."""
    parse = argparse.ArgumentParser.parse_args

    def parse_only(self, args=None, namespace=None):
        raise _Parsed(parse(self, args, namespace))

    patch = mock.patch.object(argparse.ArgumentParser, "parse_args", parse_only)
    with patch, contextlib.redirect_stderr(io.StringIO()) as said:
        yield said


def _python(arguments: Sequence[str]) -> None:
    script, *rest = arguments
    if script == "-m":
        return check(Command({}, tuple(rest)))
    if script == "export/all.py":
        return _clipserve(["export", *rest])
    if not (ROOT / script).is_file():
        raise Refused(f"there is no {script}")
    if given := [word for word in rest if word.startswith("-")]:
        folder, _, name = script.rpartition("/")
        told = _helps(folder).get(name) or _help((sys.executable, script))
        _among(given, _flags_in(told), script)


def _make(arguments: Sequence[str]) -> None:
    """Let make print what it would run, with everything installed; what ``ARGS`` goes to is checked too."""
    given = "".join(word.removeprefix("ARGS=") for word in arguments if word.startswith("ARGS="))
    printed = _run(["make", "--dry-run", "--old-file=.venv/ready", *arguments])
    if not given:
        return
    taking = [line for line in printed.splitlines() if line.endswith(given)]
    if not taking:
        raise Refused(f"make {arguments[0]} hands ARGS to nothing")
    for line in taking:
        for command in commands(line):
            check(command)


def _pytest(arguments: Sequence[str]) -> None:
    """Read a line with the parser of the pytest that runs this, which knows the plugins' options."""
    if missing := [word for word in arguments if word.startswith("tests/") and not (ROOT / word.split("::")[0]).exists()]:
        raise Refused(f"there is no {missing[0]}")
    try:
        pytest_options.PARSERS[-1].parse(list(arguments))
    except pytest.UsageError as problem:
        raise Refused(str(problem)) from problem


def _locust(arguments: Sequence[str]) -> None:
    listed = _run([sys.executable, "-m", "locust", *arguments, "--list"]).split()
    _among([word for word in arguments if re.fullmatch(r"[A-Z]\w+User", word)], listed, "locust")


def _chaos(arguments: Sequence[str]) -> None:
    _among([word for word in arguments if word.startswith("-")], flags(_CHAOS), "chaos")


def _docker(arguments: Sequence[str]) -> None:
    """Check by the compose file what ``docker compose`` would: its services and profiles."""
    services = yaml.safe_load((ROOT / "docker-compose.yml").read_text())["services"]
    parser = argparse.ArgumentParser("docker", exit_on_error=False)
    compose = parser.add_subparsers(required=True).add_parser("compose", exit_on_error=False)
    compose.add_argument("--profile", choices=[name for service in services.values() for name in service.get("profiles", [])])
    actions = compose.add_subparsers(required=True, dest="action")
    actions.add_parser("up", exit_on_error=False).add_argument("service", nargs="?", choices=services)
    for name in ("run", "exec"):
        action = actions.add_parser(name, exit_on_error=False)
        action.add_argument("--rm", action="store_true")
        action.add_argument("--user")
        action.add_argument("service", choices=services)
        action.add_argument("rest", nargs=argparse.REMAINDER)
    try:
        options = parser.parse_args(arguments)
    except (argparse.ArgumentError, SystemExit) as problem:
        raise Refused(str(problem)) from problem
    if options.action == "exec":
        check(Command({}, tuple(options.rest)))
    elif getattr(options, "rest", None):
        _clipserve([options.service.removesuffix("-gpu"), *options.rest])


def _pip(arguments: Sequence[str]) -> None:
    with contextlib.redirect_stderr(io.StringIO()) as said:
        try:
            _, packages = create_command(arguments[0]).parse_args(list(arguments[1:]))
        except SystemExit as problem:
            raise Refused(said.getvalue()) from problem
    extras = metadata("clipserve").get_all("Provides-Extra") or []
    named = [name for package in packages for listed in re.findall(r"clipserve\[(.*)\]", package) for name in listed.split(",")]
    _among(named, extras, "clipserve")


def _any(arguments: Sequence[str]) -> None:
    """Take the line of a program of the system: a test runs it."""


def _among(words: Sequence[str], known, program: str) -> None:
    if unknown := [word for word in words if word not in known]:
        raise Refused(f"{program} has no {', '.join(unknown)}")


_PROGRAMS: dict[str, Callable[[Sequence[str]], None]] = {
    "chaos": _chaos,
    "chmod": _any,
    "clipserve": _clipserve,
    "docker": _docker,
    "locust": _locust,
    "make": _make,
    "openssl": _any,
    "pip": _pip,
    "pytest": _pytest,
    "python": _python,
}
