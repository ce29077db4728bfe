"""Token of clients, read from a file: on a command line everybody could read it."""

from pathlib import Path

from clip_client.errors import InvalidInput


def read_token(path: Path | None) -> str:
    """Return the token in a file, empty for no file; raise InvalidInput if it can't be read or is empty."""
    if path is None:
        return ""
    try:
        token = path.read_text(encoding="utf-8").strip()
    except (OSError, UnicodeDecodeError) as problem:
        raise InvalidInput(f"the token can't be read: {problem}") from problem
    if not token:
        raise InvalidInput(f"{path} is empty: write a token into it, e.g. openssl rand -hex 32 > {path}")
    return token
