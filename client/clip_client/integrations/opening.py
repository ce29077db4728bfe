"""Clients that an object of another library opens from its own fields."""

from __future__ import annotations

from typing import Any

from clip_client.clip import Clip
from clip_client.search import Search


def opened_clip(address: str | None, name: str, timeout_s: float) -> Clip:
    """Return a client of a Triton; without an address, of the default one."""
    where: dict[str, Any] = {"address": address} if address else {}
    return Clip(**where, name=name, timeout_s=timeout_s)


def opened_search(url: str | None, timeout_s: float) -> Search:
    """Return a client of a sidecar; without a URL, of the default one."""
    where: dict[str, Any] = {"url": url} if url else {}
    return Search(**where, timeout_s=timeout_s)
