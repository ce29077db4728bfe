"""Processor and GPU of this machine, as far as the choice of a variant depends on them."""

from __future__ import annotations

import platform
import subprocess
from functools import cache
from importlib.util import find_spec
from pathlib import Path

from clip_client.cores import cores


@cache
def cpu_name() -> str:
    """Return the processor's own name, or its architecture where it has none."""
    names = [value for key, value in _cpu_fields() if key in ("model name", "Model Name")]
    return names[0] if names else platform.machine()


@cache
def cpu_flags() -> frozenset[str]:
    """Return the instruction sets, as Linux names them: ``avx512_bf16``, ``amx_int8``, …"""
    return frozenset(flag for key, value in _cpu_fields() if key in ("flags", "Features") for flag in value.split())


def has_bf16() -> bool:
    """Return True if the CPU multiplies bfloat16."""
    return bool(cpu_flags() & {"avx512_bf16", "amx_bf16", "avx_ne_convert", "bf16"})


def has_int8() -> bool:
    """Return True if the CPU has dot products of 8-bit integers: VNNI, AMX, or Arm's."""
    return bool(cpu_flags() & {"avx512_vnni", "avx_vnni", "amx_int8", "asimddp"})


@cache
def gpu() -> str:
    """Return the name of the first NVIDIA GPU; empty where there is none."""
    try:
        listed = subprocess.run(  # whichever the PATH has is the driver's own
            ["nvidia-smi", "--query-gpu=name", "--format=csv,noheader"],  # noqa: S607
            capture_output=True,
            text=True,
            timeout=20,
            check=True,
        )
    except (OSError, subprocess.SubprocessError):
        return ""
    return listed.stdout.split("\n")[0].strip()


def has_package(name: str) -> bool:
    """Return True if a Python package can be imported here; it isn't imported."""
    return find_spec(name) is not None


def description() -> dict[str, str | int]:
    """Return the machine's fields for a report."""
    return {"cpu": cpu_name(), "cores": cores(), "gpu": gpu(), "python": platform.python_version()}


def _cpu_fields() -> list[tuple[str, str]]:
    lines = Path("/proc/cpuinfo").read_text(encoding="utf-8").splitlines()
    return [(key.strip(), value.strip()) for key, _, value in (line.partition(":") for line in lines)]
