"""Counts in messages."""


def counted(number: int, noun: str, plural: str = "") -> str:
    """Return a number with its noun: ``1 row``, ``1234 rows``, ``2 matches`` for a plural of its own."""
    return f"{number} {noun if number == 1 else plural or f'{noun}s'}"
