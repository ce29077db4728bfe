"""``clipserve learn``: feedback on searches -> a better checkpoint."""

from __future__ import annotations

import os
import sys
from collections.abc import Sequence

from clip_client import command_runner
from clip_client.errors import ClipError
from clip_client.help_texts import program
from clip_client.terminal import Console
from clip_export.checkpoints.root_logger import without_warnings
from clip_export.learning.options import Options, parsed
from clip_export.learning.options import parser as parser
from clip_export.library_errors import quiet_libraries

BAD_INPUT, INTERRUPTED = 2, command_runner.INTERRUPTED
"""Exit statuses: unusable input; Ctrl-C."""


def main(argv: Sequence[str] | None = None) -> int:
    """Run the command; return the exit status."""
    console = Console(stderr=True)
    try:
        options = parsed(argv)
        _run(options, console)
        return 0
    except BrokenPipeError:  # nobody reads
        raise
    except (ClipError, OSError) as problem:
        console.print(f"error: {problem}", style="red", markup=False, highlight=False, soft_wrap=True)
        return BAD_INPUT
    except KeyboardInterrupt:
        console.print("interrupted: the same command goes on", highlight=False)
        return INTERRUPTED


def _run(options: Options, console: Console) -> None:
    os.environ.setdefault("OMP_WAIT_POLICY", "passive")  # or torch's threads spin while others want the cores
    quiet_libraries()
    from clip_export.learning import run

    def say(line: str) -> None:
        console.print(line, markup=False, highlight=False, soft_wrap=True)

    with without_warnings():
        lineage = run.learn(options, say)
    gain = lineage["held_out_gain"]
    if gain:
        figure = "weighted 1 / log2(1 + rank) of the chosen"
        say(f"held-out queries, {figure}: {gain['before']:.3f} before, {gain['after']:.3f} after")
    say(f"learned {options.output}; learning curve: {options.output / run.CURVE}")
    say(f"judge and publish it: {program()} export --model {options.output} --baseline {options.checkpoint} --eval FOLDER")


if __name__ == "__main__":
    sys.exit(command_runner.run("clipserve learn", main))
