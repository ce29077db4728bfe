"""axe-core, run in a page: what it has to say about accessibility."""

from __future__ import annotations

from importlib.resources import files

from playwright.sync_api import Page

_SCRIPT = files("axe_playwright_python").joinpath("axe.min.js").read_text(encoding="utf-8")
_RULES = {"target-size": {"enabled": True}}


def violations(page: Page, *rules: str) -> list[str]:
    """Return the violations of these rules, or of all, each with the elements concerned."""
    if not page.evaluate("'axe' in window"):
        page.evaluate(_SCRIPT)
    options = {"resultTypes": ["violations"], **({"runOnly": rules} if rules else {"rules": _RULES})}
    outcome = page.evaluate("(options) => axe.run(document, options)", options)
    return [
        f"{each['id']}: {node['html'][:160]} {node['failureSummary'][:300]}"
        for each in outcome["violations"]
        for node in each["nodes"]
    ]
