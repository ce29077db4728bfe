"""pytest's own parser, for command lines in documents."""

from __future__ import annotations

import pytest

PARSERS: list[pytest.Parser] = []
"""Filled when pytest starts."""
