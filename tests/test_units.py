"""systemd's units, judged by systemd-analyze."""

from __future__ import annotations

import os
import re
import shutil
import subprocess
from pathlib import Path

import pytest
from command_lines import check
from snippets import Command

UNITS = sorted((Path(__file__).parents[1] / "deploy" / "systemd").glob("*.service"))


def analyzed(*arguments: str | Path) -> subprocess.CompletedProcess[str]:
    """Run systemd-analyze; without it the test is left out, but not in CI."""
    if not shutil.which("systemd-analyze") and "CI" not in os.environ:
        pytest.skip("no systemd-analyze on this machine")
    return subprocess.run(["systemd-analyze", *arguments], capture_output=True, text=True, check=False)


@pytest.fixture(params=UNITS, ids=lambda unit: unit.stem)
def unit(request: pytest.FixtureRequest) -> Path:
    return request.param


def test_systemd_takes_it(unit: Path, tmp_path: Path) -> None:
    here = tmp_path / unit.name
    here.write_text(unit.read_text().replace("/opt/clipserve/bin/clipserve", "/bin/true"))
    others = [one for one in UNITS if one != unit]
    for other in others:
        (tmp_path / other.name).write_text(other.read_text().replace("/opt/clipserve/bin/clipserve", "/bin/true"))
    verified = analyzed("verify", here)
    assert (verified.returncode, verified.stderr.strip()) == (0, "")
    here.write_text(here.read_text().replace("ProtectSystem=", "ProtectSistem="))
    assert "ProtectSistem" in analyzed("verify", here).stderr


def test_it_is_hardened(unit: Path) -> None:
    judged = analyzed("security", "--offline=true", "--no-pager", unit).stdout
    assert float(re.search(r"exposure level for \S+: (\d+\.\d)", judged)[1]) < 2


def test_it_starts_a_command_that_there_is(unit: Path) -> None:
    [start] = re.findall(r"^ExecStart=/opt/clipserve/bin/(.*)$", unit.read_text(), re.M)
    check(Command({}, tuple(start.split())))
