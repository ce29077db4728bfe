"""Start of the process that reads a pickle, and its outcome.

It inherits no file but its pipes and no variable that could hold a token, and may write to one folder of its own.
"""

from __future__ import annotations

import json
import os
import subprocess
import sys
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from clip_client.errors import InvalidInput
from clip_export.checkpoints import pickle_rules

_READER = "clip_export.checkpoints.pickle_reader"
_KEPT = ("PATH", "LD_LIBRARY_PATH", "LANG", "LC_ALL", "TZ")
_ONE_THREAD = {f"{library}_NUM_THREADS": "1" for library in ("OMP", "OPENBLAS", "MKL")}  # unshare allows no second one


@dataclass(frozen=True)
class Outcome:
    """Outcome of reading.

    Attributes:
        notes: on what was left out.
        offline: the process had no network.
        confined: the process could write to its own folder only.
    """

    notes: tuple[str, ...]
    offline: bool
    confined: bool


def convert(files: Sequence[Path], output: Path, title: str) -> Outcome:
    """Read a state dict from pickles into a safetensors file, in a process of its own.

    Args:
        files: of one model, in order.
        output: in an empty folder.
        title: of the files, for messages.

    Raises:
        InvalidInput: if they can't be read, ask for anything but weights, or for too much memory or time.
    """
    size = sum(file.stat().st_size for file in files)
    command = [sys.executable, "-m", _READER, str(output), *(str(file.resolve()) for file in files)]
    limit_s = pickle_rules.timeout_s(size)
    try:
        ended = subprocess.run(
            command,
            cwd=output.parent,
            env=_environment(output.parent),
            stdin=subprocess.DEVNULL,
            capture_output=True,
            timeout=limit_s,
        )
    except subprocess.TimeoutExpired as problem:
        raise InvalidInput(f"{title}: it isn't read within {limit_s:.0f} s: get it again from its author") from problem
    return _outcome(ended, title)


def _outcome(ended: subprocess.CompletedProcess[bytes], title: str) -> Outcome:
    try:
        fields = json.loads(ended.stdout.splitlines()[-1])
    except (IndexError, ValueError) as problem:
        raise InvalidInput(f"{title}: the process that reads it ended {_ending(ended)}: is the file whole?") from problem
    if "error" in fields:
        raise InvalidInput(f"{title}: {fields['error']}")
    return Outcome(tuple(fields["notes"]), fields["offline"], fields["confined"])


def _ending(ended: subprocess.CompletedProcess[bytes]) -> str:
    last = ended.stderr.decode(errors="replace").strip().splitlines()[-1:]
    how = f"by signal {-ended.returncode}" if ended.returncode < 0 else f"with status {ended.returncode}"
    return " ".join([how, *(f"({line[:200]})" for line in last)])


def _environment(home: Path) -> dict[str, str]:
    """Return variables without anybody's tokens; modules come from where this process has them."""
    kept = {name: os.environ[name] for name in _KEPT if name in os.environ}
    return {**kept, **_ONE_THREAD, "HOME": str(home), "PYTHONPATH": os.pathsep.join(filter(None, sys.path))}
