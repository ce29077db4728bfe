"""Connection to a Milvus server: its version, deadlines, and its errors as ours."""

import contextlib
import logging
import os
from collections.abc import Callable, Iterator
from typing import Any, TypeVar
from urllib.parse import urlsplit

from clip_client.errors import InvalidInput, Unavailable
from clip_search.options import MilvusOptions

_OLDEST, _NEWER = (2, 3), 3
_CONNECT_S = 5.0
_Out = TypeVar("_Out")


def client(options: MilvusOptions) -> Any:
    """Return a connected client of pymilvus.

    Raises:
        InvalidInput: pymilvus isn't installed.
        Unavailable: the server doesn't answer, refuses the token, or is of a version that doesn't do.
    """
    pymilvus = _library()
    with translated(options, "can't be reached"):
        made = pymilvus.MilvusClient(options.uri, token=options.token, timeout=_CONNECT_S, dedicated=True)
        version = str(made.get_server_version(timeout=_CONNECT_S))
    if not _fits(version):
        made.close()
        raise Unavailable(f"Milvus at {shown(options)} is {version[:40]}: expected 2.3 or later, below 3")
    return made


def _library() -> Any:
    """Import pymilvus without its search for a file ``.env``, and without its own log, which repeats errors with tracebacks."""
    before = os.environ.get("PYTHON_DOTENV_DISABLED")
    os.environ["PYTHON_DOTENV_DISABLED"] = "1"
    try:
        import pymilvus
    except ImportError as problem:
        raise InvalidInput(f"--engine milvus needs a library ({problem}): pip install 'clipserve[search,milvus]'") from problem
    finally:
        if before is None:
            os.environ.pop("PYTHON_DOTENV_DISABLED")
        else:
            os.environ["PYTHON_DOTENV_DISABLED"] = before
    logging.getLogger("pymilvus").setLevel(logging.CRITICAL + 1)
    return pymilvus


def _fits(version: str) -> bool:
    numbers = [int(part) if part.isdecimal() else -1 for part in version.lstrip("v").split("-")[0].split(".")[:2]]
    return _OLDEST <= tuple(numbers) < (_NEWER,)


def shown(options: MilvusOptions) -> str:
    """Return the address without anything else that may stand in it."""
    parts = urlsplit(options.uri)
    return f"{parts.scheme}://{parts.netloc.rpartition('@')[2]}"


@contextlib.contextmanager
def translated(options: MilvusOptions, failure: str) -> Iterator[None]:
    """Raise Unavailable for whatever a call raises: pymilvus and gRPC raise anything."""
    try:
        yield
    except Unavailable:
        raise
    except Exception as problem:
        told = str(getattr(problem, "message", "") or problem) or type(problem).__name__
        told = told.replace(options.token, "…") if options.token else told
        raise Unavailable(
            f"Milvus at {shown(options)} {failure} ({' '.join(told.split())[:300]}): searches and changes go on once it does"
        ) from problem


def call(options: MilvusOptions, function: Callable[..., _Out], *arguments: Any, timeout_s: float, **more: Any) -> _Out:
    """Call a function of a client with a deadline; raise Unavailable if it fails."""
    with translated(options, "doesn't do what it should"):
        return function(*arguments, timeout=timeout_s, **more)
