"""Processes of servers under load: families, CPU time, the model that a process of Triton's Python backend runs."""

import contextlib
import re

import psutil

_INSTANCE = re.compile(r"(.+)_\d+_\d+")  # Triton's name for the process of an instance: <model>_<group>_<number>


def family(process: psutil.Process) -> list[psutil.Process]:
    """Return a process and all that it started."""
    return [process, *process.children(recursive=True)]


def cpu_s(process: psutil.Process) -> float:
    """Return the CPU seconds, user and system, of a process so far."""
    return float(sum(process.cpu_times()[:2]))


def model_of(process: psutil.Process) -> str:
    """Return the model that a process of Triton's Python backend runs; empty for any other process."""
    with contextlib.suppress(psutil.NoSuchProcess):
        if process.name().startswith("triton_python"):
            return next((instance[1] for part in process.cmdline() if (instance := _INSTANCE.fullmatch(part))), "")
    return ""
