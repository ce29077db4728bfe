"""Shares of a run's parts: of this machine, of a task of a Slurm array, of a pod of an indexed Job."""

from __future__ import annotations

import argparse
import os
import re
from collections.abc import Mapping
from dataclasses import dataclass

from clip_client.errors import InvalidInput

_TASK = "SLURM_ARRAY_TASK_ID"
_SLURM = ("SLURM_ARRAY_TASK_MIN", "SLURM_ARRAY_TASK_MAX", "SLURM_ARRAY_TASK_STEP", "SLURM_ARRAY_TASK_COUNT")
"""Variables of a Slurm job array: https://slurm.schedmd.com/job_array.html"""
_INDEX, _COMPLETIONS = "JOB_COMPLETION_INDEX", "JOB_COMPLETIONS"
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
    match = re.fullmatch(r"([0-9]{1,9})/([0-9]{1,9})", text)
    if not match or not 1 <= int(match[1]) <= int(match[2]):
        raise argparse.ArgumentTypeError(f"{text} isn't a share: expected i/n with i from 1 to n, e.g. 3/8")
    return Share(int(match[1]) - 1, int(match[2]))


def scheduled_share(environment: Mapping[str, str] = os.environ) -> Share | None:
    """Return the share that a Slurm job array or an indexed Kubernetes Job gives this process; None outside of them.

    Raises:
        InvalidInput: an index without the number of all, or an array with gaps.
    """
    if _TASK in environment:
        return _of_array(environment)
    return _of_job(environment) if _INDEX in environment else None


def _of_array(environment: Mapping[str, str]) -> Share:
    task = _number(environment, _TASK)
    least, most, step, count = (_number(environment, name, default) for name, default in zip(_SLURM, _DEFAULTS, strict=True))
    of = (most - least) // max(step, 1) + 1
    if count not in (0, of):
        raise InvalidInput(
            f"the array of this task has gaps ({count} tasks from {least} to {most}), so that parts would be nobody's: submit "
            "the whole array again, since parts that are done cost nothing, or pass --part i/n"
        )
    return _checked(Share((task - least) // max(step, 1), of), f"{_TASK} is {task}")


def _of_job(environment: Mapping[str, str]) -> Share:
    index = _number(environment, _INDEX)
    if _COMPLETIONS not in environment:
        raise InvalidInput(
            f"{_INDEX} is {index}, but {_COMPLETIONS} isn't set: set it to the Job's completions, or pass --part i/n"
        )
    return _checked(Share(index, _number(environment, _COMPLETIONS)), f"{_INDEX} is {index}")


_DEFAULTS = (None, None, 1, 0)


def _number(environment: Mapping[str, str], name: str, default: int | None = None) -> int:
    """Return the number that a variable holds, or the default where it isn't set."""
    text = environment.get(name)
    if text is None and default is not None:
        return default
    if text is None or not re.fullmatch(r"[0-9]{1,9}", text):
        raise InvalidInput(f"{name} is {'not set' if text is None else repr(text[:50])}: expected a number, or pass --part i/n")
    return int(text)


def _checked(share: Share, told: str) -> Share:
    if not 0 <= share.number < share.of:
        raise InvalidInput(f"{told}, of {share.of} in all: expected one of them, counted from 0, or pass --part i/n")
    return share
