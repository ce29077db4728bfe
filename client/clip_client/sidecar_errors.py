"""Errors that answers of a search sidecar stand for."""

from __future__ import annotations

import json

from clip_client.connection import refused_token
from clip_client.errors import (
    CONTRACT,
    ClipError,
    ContractMismatch,
    InvalidInput,
    Timeout,
    Unauthorized,
    Unavailable,
    error_class,
)


def answered_error(url: str, status: int, body: bytes, *, had_token: bool) -> ClipError:
    """Return the error that a sidecar's answer stands for, or a proxy's in front of it."""
    try:
        details = json.loads(body)["error"]
        message, kind = details["message"], details["type"]
        reasons = {int(n): reason for n, reason in details.get("errors", {}).items()}
    except (ValueError, KeyError, TypeError, AttributeError):
        if status in (401, 403):  # of a proxy
            return Unauthorized(refused_token(url, had_token=had_token, is_forbidden=status == 403, answer=""))
        return foreign(status)
    if kind in CONTRACT:
        return ContractMismatch(message)
    error = error_class(status)
    if issubclass(error, Unavailable | Timeout) and not issubclass(error, InvalidInput):  # its Triton's, say, not ours
        return error(f"the sidecar at {url} answers: {message}")
    if issubclass(error, InvalidInput):
        return error(message, errors=reasons)
    return error(message)


def foreign(status: int) -> Unavailable:
    """Return the error for an answer that isn't a sidecar's."""
    return Unavailable(f"the sidecar answers {status}: is something else listening there?")
