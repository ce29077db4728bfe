"""Names of types, in messages."""


def a_type(value: object) -> str:
    """Return the name of a value's type with its article: ``an int``, ``a list``; ``None`` for None."""
    if value is None:
        return "None"
    name = type(value).__name__
    return f"{'an' if name[0].lower() in 'aeio' else 'a'} {name}"
