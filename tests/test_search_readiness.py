"""Readiness of a server that is busy, silent or gone."""

from __future__ import annotations

import pytest

from clip_search import server_state
from clip_search.server_state import Readiness


def test_a_busy_server_is_ready_while_it_answers_something(monkeypatch: pytest.MonkeyPatch) -> None:
    now = 100.0
    monkeypatch.setattr(server_state.time, "monotonic", lambda: now)
    answers = iter(
        ["no answer in time", "", "no answer in time", "no answer in time", "no answer in time", "no answer in time"]
    )
    readiness = Readiness(lambda: next(answers))
    assert readiness.ask() == "no answer in time"  # it never answered anything
    now += 1
    assert readiness.ask() == ""
    now += 1
    assert readiness.ask() == ""  # late once
    now += 1
    assert readiness.ask() == "no answer in time"
    readiness.heard()  # an embedding
    now += 1
    assert readiness.ask() == ""
    now += 1
    assert readiness.ask() == "no answer in time"
