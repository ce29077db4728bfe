"""Token of clients, read from a file or the environment: on a command line everybody could read it."""

from pathlib import Path

from clip_client.client_variables import SEARCH_TOKEN
from clip_client.connection_options import sent_token
from clip_client.token_files import token_in


def read_token(path: Path | None) -> str:
    """Return the token in a file, or that of the environment for no file; raise InvalidInput if it can't be read or is empty.

    The variable means the same on both sides: the sidecar asks for it, and its clients send it.
    """
    return sent_token(None, SEARCH_TOKEN) if path is None else token_in(path)
