"""Files that hold a token: on a command line everybody could read it."""

from pathlib import Path

from clip_client.errors import InvalidInput


def token_in(path: Path) -> str:
    """Return the token in a file; raise InvalidInput if it can't be read or is empty."""
    try:
        token = path.read_text(encoding="utf-8").strip()
    except (OSError, UnicodeDecodeError) as problem:
        raise InvalidInput(f"the token can't be read: {problem}") from problem
    if not token:
        raise InvalidInput(f"{path} is empty: write a token into it, e.g. openssl rand -hex 32 > {path}")
    return token
