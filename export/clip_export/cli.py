"""``clipserve export``: checkpoint -> variants -> gate -> model repository."""

from __future__ import annotations

import json
import sys
from collections.abc import Sequence
from typing import TYPE_CHECKING

from clip_client import command_runner, notices
from clip_client.errors import ClipError
from clip_client.help_texts import program
from clip_client.terminal import Console
from clip_export.artifact_files import REPORT_MD
from clip_export.library_errors import quiet_libraries
from clip_export.options import Options, parsed
from clip_export.options import parser as parser
from clip_export.report import inventory, known

if TYPE_CHECKING:
    from clip_export.pipeline import Outcome

BAD_INPUT, REFUSED, INTERRUPTED = 2, 3, command_runner.INTERRUPTED
"""Exit statuses: bad input; a tower below the gate, no gain over the baseline, other embeddings than its library; Ctrl-C."""


def main(argv: Sequence[str] | None = None) -> int:
    """Run the command; return the exit status: 0, 2 for bad input, 3 if nothing was published."""
    console = Console(stderr=True)
    try:
        options = parsed(argv)
        if options.list:
            inventory.show(options.artifacts, options.repository)
            return 0
        if options.known is not None:
            known.show(options.known)
            return 0
        return _run(options, console)
    except BrokenPipeError:  # nobody reads the report
        raise
    except (ClipError, OSError) as problem:
        console.print(f"error: {problem}", style="red", markup=False, highlight=False, soft_wrap=True)
        return BAD_INPUT
    except KeyboardInterrupt:
        console.print("interrupted: nothing was published; what was built is kept", highlight=False)
        return INTERRUPTED


def _run(options: Options, console: Console) -> int:
    """Export, show the report, and say where it is."""
    quiet_libraries()
    from clip_export import pipeline  # which imports torch: help and wrong options are told without

    outcome = pipeline.export(options, console)
    _show(outcome, options, console)
    if options.json:
        options.json.write_text(json.dumps(outcome.content, indent=1) + "\n", encoding="utf-8")
    for objection in outcome.objections:
        console.print(objection, style="red", markup=False, soft_wrap=True)
    if outcome.objections:
        return REFUSED
    if not command_runner.is_part():
        _tell_next(outcome, options, console)
    return 0


def _show(outcome: Outcome, options: Options, console: Console) -> None:
    """Print the tables, and where they are kept; whoever runs this as a part shows none."""
    if outcome.report and not command_runner.is_part():
        from clip_export.report import report

        report.show(outcome.report)
        with_plots = "" if options.quick else ", with plots"
        _print(console, f"report{with_plots}: {outcome.folder / REPORT_MD}")


def _tell_next(outcome: Outcome, options: Options, console: Console) -> None:
    """Print what was published, the command that serves it, and the checkpoint's notice."""
    elsewhere = "" if options.repository == Options.repository else f" --repository {options.repository}"
    _print(console, f"published {options.name!r} in {options.repository}; start it with: {program()} serve{elsewhere}")
    if notice := notices.told(outcome.content["spec"].get(notices.KEY, "")):
        _print(console, f"notice: {notice}")


def _print(console: Console, line: str) -> None:
    console.print(line, markup=False, highlight=False, soft_wrap=True)


if __name__ == "__main__":
    sys.exit(command_runner.run("clipserve export", main))
