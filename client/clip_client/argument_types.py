"""Types of command-line arguments that several commands take."""

from argparse import ArgumentTypeError


def count(text: str) -> int:
    """Parse a count, at least 1."""
    if int(text) < 1:
        raise ArgumentTypeError(f"{text} is below 1")
    return int(text)


def port(text: str) -> int:
    """Parse a TCP port."""
    if not 1 <= int(text) <= 65535:
        raise ArgumentTypeError(f"{text} isn't between 1 and 65535")
    return int(text)


def ports(text: str) -> range:
    """Parse a TCP port, or several from the first to the last: ``8080``, ``8000-8999``."""
    first, _, last = text.partition("-")
    numbers = range(port(first), port(last or first) + 1)
    if not numbers:
        raise ArgumentTypeError(f"{text} ends before it begins: expected e.g. 8000-8999")
    return numbers
