"""axe-core, run in a page: what it has to say about accessibility."""

from __future__ import annotations

from importlib.resources import files

from playwright.sync_api import Page

_SCRIPT = files("axe_playwright_python").joinpath("axe.min.js").read_text(encoding="utf-8")
_RULES = {"target-size": {"enabled": True}}


def violations(page: Page) -> list[str]:
    """Return the violations, each with the elements concerned."""
    page.evaluate(_SCRIPT)
    outcome = page.evaluate("(rules) => axe.run(document, { resultTypes: ['violations'], rules })", _RULES)
    return [f"{each['id']}: {node['html'][:160]} {node['failureSummary'][:300]}" for each in outcome["violations"] for node in each["nodes"]]
