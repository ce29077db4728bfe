"""Shares of a run's parts: of this machine, of a task of a Slurm array, of a pod of an indexed Job."""

from __future__ import annotations

import argparse
import os
import re
from collections.abc import Mapping
from dataclasses import dataclass

from clip_client.errors import InvalidInput

_SLURM = ("SLURM_ARRAY_TASK_ID", "SLURM_ARRAY_TASK_MIN", "SLURM_ARRAY_TASK_MAX", "SLURM_ARRAY_TASK_STEP")
"""Variables of a Slurm job array: https://slurm.schedmd.com/job_array.html"""
_INDEXED = ("JOB_COMPLETION_INDEX", "JOB_COMPLETIONS")
"""Index of a pod of an indexed Job, which Kubernetes sets, and the number of them, which the Job's template passes on."""


@dataclass(frozen=True)
class Share:
    """Share of the parts: every ``of``-th, from ``number`` on; numbers start at 0."""

    number: int = 0
    of: int = 1

    def parts(self, count: int) -> range:
        """Return the numbers of the share's parts."""
        return range(self.number, count, self.of)


def share_of(text: str) -> Share:
    """Parse ``i/n``, with i from 1 to n."""
    match = re.fullmatch(r"(\d+)/(\d+)", text)
    if not match or not 1 <= int(match[1]) <= int(match[2]):
        raise argparse.ArgumentTypeError(f"{text} isn't a share: expected i/n with i from 1 to n, e.g. 3/8")
    return Share(int(match[1]) - 1, int(match[2]))


def scheduled_share(environment: Mapping[str, str] = os.environ) -> Share | None:
    """Return the share that a Slurm job array or an indexed Kubernetes Job gives this process; None outside of them.

    Raises:
        InvalidInput: an index without the number of all.
    """
    task, first, last, step = (environment.get(name) for name in _SLURM)
    if task is not None:
        if first is None or last is None:
            raise InvalidInput(f"{_SLURM[0]} is {task}, but {_SLURM[1]} or {_SLURM[2]} isn't set: pass --part i/n")
        stride = int(step or 1)
        return Share((int(task) - int(first)) // stride, (int(last) - int(first)) // stride + 1)
    index, count = (environment.get(name) for name in _INDEXED)
    if index is None:
        return None
    if count is None:
        raise InvalidInput(
            f"{_INDEXED[0]} is {index}, but {_INDEXED[1]} isn't set: set it to the Job's completions, or pass --part i/n"
        )
    return Share(int(index), int(count))
