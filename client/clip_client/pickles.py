"""Pickles of clients: the call that makes such a client again, without secrets."""

from collections.abc import Callable, Sequence
from typing import Any

from clip_client.errors import InvalidInput


def secrets(**arguments: Any) -> list[str]:
    """Return the names of the arguments that were given and that nobody may read."""
    return [name for name, value in arguments.items() if value]


def reduced(opening: Callable[[], Any], names: Sequence[str], variable: str) -> tuple[Any, ...]:
    """Return the outcome of ``__reduce__``.

    Args:
        opening: makes such a client.
        names: of the secret arguments that this one was made with.
        variable: of the environment, which holds the token for every process.

    Raises:
        InvalidInput: it was made with secrets.
    """
    if names:
        raise InvalidInput(
            f"a client that was given {' and '.join(names)} can't be pickled, for others could read that: "
            f"set {variable}, which each process reads, or make a client there"
        )
    return opening, ()
