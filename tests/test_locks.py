"""Locks, the environment that is made of one, and bills of materials."""

from __future__ import annotations

import hashlib
import json
import os
import re
import subprocess
import sys
import zipfile
from pathlib import Path

import locks
import pytest
import sbom

from clip_client import Unavailable
from clip_serve import environment


def test_they_fit_their_sources() -> None:
    assert [fault for lock in locks.LOCKS for fault in locks.faults_of(lock)] == []


def test_no_index_and_no_torch_is_written_down() -> None:
    for lock in locks.LOCKS:
        text = (locks.ROOT / lock.path).read_text()
        assert "://" not in text
        assert not re.search(r"^(torch|triton|nvidia-c[\w-]*)==", text, re.M)
        assert len(locks.pins(lock)) == len(re.findall(r"^[\w.-]+==", text, re.M))


@pytest.mark.parametrize(
    ("before", "after", "fault"),
    [
        ("anyio==", "anyioo==", None),  # nobody asks for it directly
        ("uvicorn==", "uvicorm==", "uvicorn.* is asked for by pyproject.toml, nothing is locked"),
        (r"uvicorn==[\d.]+", "uvicorn==0.1.0", "uvicorn.* is asked for by pyproject.toml, 0.1.0 is locked"),
        (r"(uvicorn==\S+)( \\\n +--hash=\S+)+", r"\1", "uvicorn has no hash"),
        (r"uvicorn==", "torch==2.13.0\nuvicorn==", "torch depends on the index"),
    ],
)
def test_one_that_doesnt_fit_is_told(
    before: str, after: str, fault: str | None, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    [lock] = [one for one in locks.LOCKS if one.path == "deploy/locks/search.txt"]
    (tmp_path / "deploy" / "locks").mkdir(parents=True)
    (tmp_path / "pyproject.toml").write_bytes((locks.ROOT / "pyproject.toml").read_bytes())
    text, count = re.subn(before, after, (locks.ROOT / lock.path).read_text())
    assert count == 1
    (tmp_path / lock.path).write_text(text)
    monkeypatch.setattr(locks, "ROOT", tmp_path)
    faults = list(locks.faults_of(lock))
    assert bool(faults) == bool(fault)
    assert not fault or re.search(fault, "\n".join(faults))


def test_the_images_have_the_versions_that_are_tested() -> None:
    tested = {pin.name: pin.version for pin in locks.pins(locks.LOCKS[0])}
    for lock in locks.LOCKS[2:]:
        for pin in locks.pins(lock):
            assert tested[pin.name] == pin.version, lock.path


def small_wheel(folder: Path) -> Path:
    """A wheel with one module."""
    path = folder / "flatbuffers-25.12.19-py2.py3-none-any.whl"
    with zipfile.ZipFile(path, "w") as wheel:
        info = "flatbuffers-25.12.19.dist-info"
        wheel.writestr("flatbuffers.py", "")
        wheel.writestr(f"{info}/METADATA", "Metadata-Version: 2.1\nName: flatbuffers\nVersion: 25.12.19\n")
        wheel.writestr(f"{info}/WHEEL", "Wheel-Version: 1.0\nRoot-Is-Purelib: true\nTag: py2-none-any\nTag: py3-none-any\n")
        wheel.writestr(f"{info}/RECORD", f"flatbuffers.py,,\n{info}/METADATA,,\n{info}/WHEEL,,\n{info}/RECORD,,\n")
    return path


def test_a_file_with_another_hash_isnt_installed(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    wheel = small_wheel(tmp_path)
    for name, value in {"PIP_NO_INDEX": "1", "PIP_FIND_LINKS": str(tmp_path), "PIP_CONFIG_FILE": os.devnull}.items():
        monkeypatch.setenv(name, value)
    monkeypatch.setattr(environment, "REQUIREMENTS", tmp_path / "requirements.txt")
    good, other = hashlib.sha256(wheel.read_bytes()).hexdigest(), "0" * 64
    (tmp_path / "requirements.txt").write_text(f"flatbuffers==25.12.19 \\\n    --hash=sha256:{other}\n")
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))
    with pytest.raises(Unavailable, match=f"isn't the file whose hash is locked .*{other}.*{good}"):
        environment.ensure(print)
    assert not list(tmp_path.rglob("complete"))


def test_a_bill_names_each_package_with_its_hashes(tmp_path: Path) -> None:
    sbom.write(locks.ROOT / "deploy/locks/build.txt", tmp_path / "bill.cdx.json")
    bill = json.loads((tmp_path / "bill.cdx.json").read_text())
    assert bill["metadata"]["component"]["name"] == "clipserve"
    named = {part["name"]: part for part in bill["components"]}
    [lock] = [one for one in locks.LOCKS if one.build]
    assert {(pin.name, pin.version) for pin in locks.pins(lock)} == {(name, part["version"]) for name, part in named.items()}
    for pin in locks.pins(lock):
        hashes = {each["content"] for link in named[pin.name]["externalReferences"] for each in link.get("hashes", [])}
        assert len(hashes) == pin.hashes
    assert {*sbom.TITLES} == {lock.path for lock in locks.LOCKS if not lock.build}


@pytest.mark.slow
def test_the_locks_are_what_uv_makes_of_their_sources() -> None:
    """Needs a package index."""
    before = {lock.path: (locks.ROOT / lock.path).read_bytes() for lock in locks.LOCKS}
    written = subprocess.run([sys.executable, locks.__file__], cwd=locks.ROOT, capture_output=True, text=True, check=False)
    after = {lock.path: (locks.ROOT / lock.path).read_bytes() for lock in locks.LOCKS}
    for path, content in before.items():
        (locks.ROOT / path).write_bytes(content)
    assert "can't be resolved" in written.stderr or before == after
