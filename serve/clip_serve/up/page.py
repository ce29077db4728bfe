"""The page in the user's browser, where there is one."""

import os
import sys
import threading
import webbrowser
from urllib.parse import quote

from clip_client.command_runner import is_terminal

_DISPLAYS = ("DISPLAY", "WAYLAND_DISPLAY", "BROWSER")


def address(url: str, collection: str | None) -> str:
    """Return the address of the page, for a collection."""
    return f"{url}/#collection={quote(collection)}" if collection else url


def open_page(url: str, wanted: bool) -> None:
    """Open a page if it is wanted and somebody sits at a terminal and has a display; a browser that isn't there is no error."""
    if wanted and is_terminal(sys.stdout) and any(os.environ.get(name) for name in _DISPLAYS):
        threading.Thread(target=_open, args=(url,), daemon=True).start()  # some browsers return only when they are closed


def _open(url: str) -> None:
    try:
        webbrowser.open(url)
    except (webbrowser.Error, OSError, ValueError):
        return
