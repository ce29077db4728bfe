"""State of the stand-in hub: its repositories, the faults that it was told to have, the requests that came."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path

import pytest
from hub_repositories import Repository


@dataclass
class Fault:
    """A fault of the next requests that match.

    Attributes:
        path: regular expression that is searched in ``METHOD /path``, unquoted.
        times: requests that have it.
        status: answered in place of the real answer, if not 0.
        retry_after_s: header of the answer.
        cut_after: bytes of the body after which the connection ends; the client keeps whole chunks of 10 MB.
        tampered: a byte in the body's middle is another.
        delay_s: before the answer, and before each 16 KiB of a file.
    """

    path: str
    times: int = 10**9
    status: int = 0
    retry_after_s: int | None = None
    cut_after: int | None = None
    tampered: bool = False
    delay_s: float = 0.0


@dataclass(frozen=True)
class Request:
    """A request that came, its path unquoted; the status that it was answered with."""

    method: str
    path: str
    query: str
    headers: Mapping[str, str]
    status: int
    file: tuple[str, str] | None = None
    """Repository and file whose content was sent."""


@dataclass
class Hub:
    """A running stand-in; its repositories, renames and faults may be changed at any time.

    Attributes:
        repositories: by id, as it is spelled on the hub.
        renamed: old id -> id of now.
        listed: entries of a page of files, which the hub keeps at 1000.
        discussed: threads of a page.
    """

    address: str
    repositories: dict[str, Repository]
    renamed: dict[str, str] = field(default_factory=dict)
    faults: list[Fault] = field(default_factory=list)
    requests: list[Request] = field(default_factory=list)
    listed: int = 1000
    discussed: int = 50

    def fetched(self, name: str) -> list[str]:
        """Return the files of a repository whose content was sent, in order of name, each once."""
        return sorted({request.file[1] for request in self.requests if request.file and request.file[0] == name})

    def environment(self, home: Path) -> dict[str, str]:
        """Return the variables with which a process of its own uses this hub and an empty cache."""
        return {"HF_ENDPOINT": self.address, "HF_HOME": str(home), "HF_HUB_DISABLE_XET": "1", "HF_HUB_DISABLE_TELEMETRY": "1"}

    def use(self, patch: pytest.MonkeyPatch, home: Path) -> None:
        """Make this process use the hub: huggingface_hub has read its variables when it was imported."""
        from huggingface_hub import constants
        from transformers.utils import hub as transformers_hub

        for name, value in self.environment(home).items():
            patch.setenv(name, value)
        patch.setattr(constants, "ENDPOINT", self.address)
        patch.setattr(constants, "HUGGINGFACE_CO_URL_TEMPLATE", self.address + "/{repo_id}/resolve/{revision}/{filename}")
        patch.setattr(constants, "HF_HOME", str(home))
        patch.setattr(constants, "HF_HUB_CACHE", str(home / "hub"))
        patch.setattr(constants, "HF_TOKEN_PATH", str(home / "token"))
        patch.setattr(constants, "HF_HUB_DISABLE_XET", True)
        patch.setattr(transformers_hub, "_hf_api", None)  # it keeps the address of its first call
