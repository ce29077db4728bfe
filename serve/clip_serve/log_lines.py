"""Lines of the launcher's log: its own notices, and Triton's lines, as they are or as JSON."""

import contextlib
import json
import logging
import os
import re
import sys

from clip_client.logs import Format, log
from clip_client.request_lines import MARK

_STDERR = 2
_TRITON = re.compile(r"([IWEF])\d{4} [\d:.]+ \d+ ([^\]]*)\] (.*)", re.DOTALL)  # of glog: level, time, process, place, message
_TABLE = re.compile(r"[+|]|$")  # Triton's tables of models and options, and empty lines
_LEVELS = {"I": logging.INFO, "W": logging.WARNING, "E": logging.ERROR, "F": logging.CRITICAL}
_OWN, _OF_TRITON = logging.getLogger("clip_serve"), logging.getLogger("clip_serve.triton")


class LogLines:
    """Writer of lines to standard error; Triton's pass through it unchanged in the format ``text``."""

    def __init__(self, form: Format) -> None:
        self._is_text = form == "text"

    def notice(self, text: str) -> None:
        """Write a notice of the launcher's."""
        if self._is_text:
            print(text, file=sys.stderr, flush=True)
        else:
            _OWN.warning("%s", text)

    def triton(self, line: bytes) -> None:
        """Write a line of Triton's."""
        if self._is_text:
            with contextlib.suppress(OSError):  # nobody listens any more, but the server must not wait for a reader
                os.write(_STDERR, line)
            return
        text = line.decode("utf-8", "backslashreplace").rstrip("\n")
        match = _TRITON.fullmatch(text)
        if match is None:
            return _OF_TRITON.log(logging.INFO if _TABLE.match(text) else logging.WARNING, "%s", text)
        message, fields = _parsed(match[3])
        log(_OF_TRITON, _LEVELS[match[1]], message, {"place": match[2], **fields})


def _parsed(message: str) -> tuple[str, dict[str, object]]:
    """Return a message without Triton's quotes, and the values of a model's line about its requests."""
    with contextlib.suppress(ValueError):
        message = str(json.loads(message)) if message.startswith('"') else message
    start = message.find(MARK)
    with contextlib.suppress(ValueError):
        if start >= 0:
            return "requests", {**json.loads(message[start + len(MARK) :])}
    return message, {}
