"""Token of clients, read from a file or the environment: on a command line everybody could read it."""

from pathlib import Path

from clip_client.client_variables import SEARCH_TOKEN
from clip_client.connection_options import sent_token
from clip_client.errors import InvalidInput


def read_token(path: Path | None) -> str:
    """Return the token in a file, or that of the environment for no file; raise InvalidInput if it can't be read or is empty.

    The variable means the same on both sides: the sidecar asks for it, and its clients send it.
    """
    if path is None:
        return sent_token(None, SEARCH_TOKEN)
    try:
        token = path.read_text(encoding="utf-8").strip()
    except (OSError, UnicodeDecodeError) as problem:
        raise InvalidInput(f"the token can't be read: {problem}") from problem
    if not token:
        raise InvalidInput(f"{path} is empty: write a token into it, e.g. openssl rand -hex 32 > {path}")
    return token
