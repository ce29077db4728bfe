"""Amounts of tests: `make test` takes what every change can pay for, CI the long ones too, `make test-all` all there is."""

from __future__ import annotations

import os

ALL = os.environ.get("CLIPSERVE_TESTS") == "all"
LONG = ALL or os.environ.get("CLIPSERVE_TESTS") == "long"


def amount(usual: int, all_there_is: int, variable: str = "") -> int:
    """A number of cases or steps: an environment variable's if it is set, else by the amount of tests."""
    return int(os.environ.get(variable) or (all_there_is if ALL else usual))
