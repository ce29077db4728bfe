"""Inventory of built and published variants, from the folders alone."""

from __future__ import annotations

import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from clip_client.model_repository import ENCODER, VERSION, encoder
from clip_client.model_versions import version_of
from clip_client.spec import SPEC_FILE, TOWERS, ModelSpec
from clip_client.terminal import print_table
from clip_export.artifact_files import BUILD_RECORD, REPORT_JSON


def show(artifacts: Path, repository: Path) -> None:
    """Print a row per tower and variant that was built, with the names under which it is published."""
    rows = []
    published = list(_published(repository))
    for path in sorted(artifacts.glob(f"*/{REPORT_JSON}")):
        report = json.loads(path.read_text(encoding="utf-8"))
        for row in report["variants"]:
            names = [name for name, *identity in published if identity == _identity(report, row)]
            rows.append((path.parent.name, row["tower"], row["variant"], _state(row), ", ".join(names)))
    if rows:
        print_table(("checkpoint", "tower", "variant", "built", "published as"), rows)
    else:
        print(f"nothing was built in {artifacts} yet: clipserve export")


def _published(repository: Path) -> Iterator[tuple[str, str, str, str]]:
    """Yield (name, fingerprint, tower, variant) of each encoder in a repository."""
    for path in sorted(repository.glob(f"*_{ENCODER}/{VERSION}/{BUILD_RECORD}")):
        spec = ModelSpec.load(path.with_name(SPEC_FILE))
        for tower in TOWERS:
            version = version_of(path.parents[1].name)
            if path.parents[1].name == encoder(version or spec.name, tower):
                yield version or spec.name, spec.fingerprint, tower, json.loads(path.read_text(encoding="utf-8"))["variant"]


def _identity(report: dict[str, Any], row: dict[str, Any]) -> list[str]:
    return [report["spec"]["fingerprint"], row["tower"], row["variant"]]


def _state(row: dict[str, Any]) -> str:
    if "missing" in row:
        return f"no: {row['missing']}"
    size = f"{row['size_bytes'] / 1e6:,.0f} MB"
    return f"{size}, below the gate: {'; '.join(row['failures'])}" if row["failures"] else size
