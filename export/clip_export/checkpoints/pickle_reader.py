"""Program that reads one pickled state dict and writes it as safetensors, cut off from everything else.

``python -m clip_export.checkpoints.pickle_reader OUTPUT FILE ...`` prints one line of JSON: the notes and the confinement, or
an error. :mod:`clip_export.checkpoints.pickle_process` starts it.
"""

from __future__ import annotations

import json
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from clip_client.library_errors import one_line
from clip_export.checkpoints import pickle_rules, sandbox
from clip_export.checkpoints.pickle_rules import Refused


def main(argv: Sequence[str]) -> None:
    """Read the files that ``argv`` names behind the output, and print the outcome."""
    output, *files = map(Path, argv)
    offline = sandbox.cut_off()
    try:
        outcome = {"offline": offline, **_converted(files, output)}
    except Exception as problem:  # of a file that was made to provoke it
        outcome = {"error": told(problem)}
    print(json.dumps(outcome))


def told(problem: Exception) -> str:
    """Return one line on a file that can't be read, and what to do."""
    if isinstance(problem, Refused):
        return str(problem)
    message = one_line(problem)
    if isinstance(problem, MemoryError) or "allocate memory" in message:
        most = f"{pickle_rules.MEMORY_TIMES} times its size and {pickle_rules.MEMORY_BYTES >> 20} MB"
        return f"it asks for more memory than {most}, so it isn't what torch.save made of a model: get it again from its author"
    return f"it can't be read ({message}): is the file whole?"


def _converted(files: Sequence[Path], output: Path) -> dict[str, Any]:
    from clip_export.checkpoints import state_dicts  # torch, which starts threads: only behind cut_off

    size = sum(file.stat().st_size for file in files)
    sandbox.limit(pickle_rules.memory_bytes(size), pickle_rules.output_bytes(size))
    confined = sandbox.confine(output.parent)
    return {"confined": confined, "notes": state_dicts.convert(files, output)}


if __name__ == "__main__":
    main(sys.argv[1:])
