"""Help that all commands share: examples below the options, and ``--version``."""

import argparse
import os
import shutil
import sys
from importlib import metadata
from pathlib import Path
from typing import Any

EXAMPLES = "examples:"
"""Heading of the examples in a help text; each stands on a line of its own below it."""


def version() -> str:
    """Return the name and the version of what is installed."""
    try:
        return f"clipserve {metadata.version('clipserve')}"
    except metadata.PackageNotFoundError:
        return "clipserve, not installed: its source is on the path"


def program() -> str:
    """Return clipserve as it can be typed here: its name where PATH has it, else the path of the script beside this Python."""
    script = Path(sys.executable).with_name("clipserve")
    if shutil.which("clipserve") or not script.exists():
        return "clipserve"
    return os.path.relpath(script) if script.is_relative_to(Path.cwd()) else str(script)


class Formatter(argparse.HelpFormatter):
    """Help that wraps prose, and leaves the lines of examples as they are."""

    def _fill_text(self, text: str, width: int, indent: str) -> str:
        prose, heading, lines = text.partition(EXAMPLES)
        wrapped = super()._fill_text(prose, width, indent)
        return "\n\n".join(filter(None, (wrapped, f"{heading}{lines}")))


def add_examples(parser: argparse.ArgumentParser, *commands: str) -> None:
    """Add examples to the end of a parser's help; they are tested."""
    listed = "\n".join([EXAMPLES, *(f"  {command}" for command in commands)])
    parser.epilog = f"{parser.epilog or ''}{listed}"


def add_version(parser: argparse.ArgumentParser) -> None:
    """Add ``--version``."""
    parser.add_argument("--version", action=_Version, help="print the version, and exit")


class _Version(argparse.Action):
    """Print the version, which is looked up only then."""

    def __init__(self, *arguments: Any, **settings: Any) -> None:
        super().__init__(*arguments, nargs=0, default=argparse.SUPPRESS, **settings)

    def __call__(self, parser: argparse.ArgumentParser, *ignored: Any) -> None:
        print(version())
        parser.exit()
