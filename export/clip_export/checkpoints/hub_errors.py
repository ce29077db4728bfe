"""Errors of huggingface_hub as ours: what the hub said, and what to do."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager

import httpx2 as httpx
from huggingface_hub import constants
from huggingface_hub.errors import (
    DisabledRepoError,
    EntryNotFoundError,
    FileMetadataError,
    GatedRepoError,
    HfHubHTTPError,
    HFValidationError,
    OfflineModeIsEnabled,
    RepositoryNotFoundError,
    RevisionNotFoundError,
)

from clip_client.errors import ClipError, InvalidInput, NotFound, Unauthorized, Unavailable
from clip_export.checkpoints.hub_client import endpoint
from clip_export.checkpoints.known import nearest


@contextmanager
def translated(name: str, revision: str | None) -> Iterator[None]:
    """Raise our errors for those of huggingface_hub; none shows a token, or an address with a signature in it.

    Args:
        name: id of the repository.
        revision: asked for; None for the main branch.
    """
    try:
        yield
    except ClipError:
        raise
    except HfHubHTTPError as problem:
        raise _answered(name, revision, problem) from problem
    except HFValidationError as problem:
        raise InvalidInput(f"{name!r} is no folder here, nor a hub id: {problem}") from problem
    except OfflineModeIsEnabled as problem:
        raise Unavailable("HF_HUB_OFFLINE is set") from problem
    except (FileMetadataError, EntryNotFoundError) as problem:
        raise _without_file(name, problem) from problem
    except UnicodeEncodeError as problem:
        raise InvalidInput("HF_TOKEN has a character that no token has: set it again, or unset it") from problem
    except httpx.HTTPError as problem:
        raise Unavailable(f"the hub at {endpoint()} can't be used ({type(problem).__name__})") from problem
    except OSError as problem:
        raise Unavailable(_local(name, problem)) from problem
    except (ValueError, KeyError, TypeError, AttributeError, AssertionError) as problem:
        raise Unavailable(_no_hub(type(problem).__name__)) from problem


def _answered(name: str, revision: str | None, problem: HfHubHTTPError) -> ClipError:
    status = problem.response.status_code
    if isinstance(problem, GatedRepoError):
        return Unauthorized(_gated(name, status))
    if isinstance(problem, RepositoryNotFoundError):
        near = ", ".join(known for known in nearest(name) if known != name)
        return NotFound(
            f"the hub has no {name}, or it is private: check the id{f' (the nearest known are {near})' if near else ''}, set "
            "HF_TOKEN if you may read it, or pass --model FOLDER"
        )
    if isinstance(problem, RevisionNotFoundError):
        return NotFound(f"{name} has no revision {revision or constants.DEFAULT_REVISION} on the hub: check --revision")
    if isinstance(problem, DisabledRepoError):
        return Unavailable(f"the hub has disabled {name}: take another checkpoint")
    if isinstance(problem, EntryNotFoundError):
        return _without_file(name, problem)
    if status == 401:
        return Unauthorized(f"the hub refuses HF_TOKEN (401): make a new one at {endpoint()}/settings/tokens, or unset it")
    if status == 403:
        return Unauthorized(f"the hub forbids {name} to this HF_TOKEN (403): give the token the right to read it")
    return Unavailable(f"the hub at {endpoint()} answers {status} for {name}: try again later")


def _gated(name: str, status: int) -> str:
    place = f"accept its licence at {endpoint()}/{name}"
    if status == 403:
        return f"{name} is gated, and the account of HF_TOKEN has no access to it: {place}, and wait until access is granted"
    return f"{name} is gated: {place} and set HF_TOKEN to a token of your account"


def _without_file(name: str, problem: Exception) -> ClipError:
    cause = problem.__cause__
    if isinstance(problem, FileMetadataError) or isinstance(cause, FileMetadataError):
        return Unavailable(_no_hub("headers of a hub are missing"))
    if isinstance(cause, HfHubHTTPError):
        return _answered(name, None, cause)
    return Unavailable(f"a file that the hub lists of {name} isn't there ({type(problem).__name__}): try again later")


def _no_hub(reason: str) -> str:
    return f"the answer of {endpoint()} isn't one of a hub ({reason}): check HF_ENDPOINT, and the proxy if there is one"


def _local(name: str, problem: OSError) -> str:
    if problem.strerror and problem.filename:
        return f"{name} can't be stored, {problem.strerror}: {problem.filename}; HF_HOME names the cache's folder"
    if problem.strerror:
        return f"{name} can't be stored, {problem.strerror} in {constants.HF_HUB_CACHE}; HF_HOME names the cache's folder"
    return f"the download of {name} ended early ({type(problem).__name__}): try again, it goes on where it stopped"
