"""Logs of the servers: a line a record, as text or JSON, written by a thread of its own.

A line is whole whatever a client sends: control characters are escaped. Whoever logs never waits for the reader of the log;
what doesn't fit meanwhile is counted, and the count is logged.
"""

from __future__ import annotations

import argparse
import contextlib
import json
import logging
import logging.handlers
import os
import queue
import threading
import time
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any, Literal, get_args

from clip_client.printable_text import printable
from clip_client.request_ids import RequestContext, current

Format = Literal["text", "json"]
LEVELS = ("debug", "info", "warning", "error")

_OURS = ("clip_client", "clip_search", "clip_serve")  # packages whose level is the option's; others only warn
_WAITING = 10_000  # records that wait to be written: some seconds of a busy server
_LAST_S = 2.0  # patience with the reader of the log at the end
_OWN_FIELDS = "fields"  # attribute of a record with the values of its own
_PLAIN = frozenset("ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789-_.:/{}+,@[]")


@dataclass(frozen=True)
class LogOptions:
    """Options of a log."""

    format: Format = "text"
    level: str = "info"


def add_log_options(parser: argparse.ArgumentParser, level: str, told: str) -> None:
    """Add the options of a server's log; ``told`` says what its level shows."""
    parser.add_argument("--log-format", choices=get_args(Format), default=LogOptions.format, help="of the log, a line a record")
    parser.add_argument("--log-level", choices=LEVELS, default=level, help=f"least level that is logged; {told}")


def log(logger: logging.Logger, level: int, message: str, fields: Mapping[str, Any]) -> None:
    """Log a message with values of its own."""
    if logger.isEnabledFor(level):
        logger.log(level, "%s", message, extra={_OWN_FIELDS: fields})


@contextmanager
def written(options: LogOptions, descriptor: int = 2) -> Iterator[None]:
    """Write all logs of this process to a file descriptor, standard error, until the end; then what still waits is written."""
    writer = _Writer(descriptor, _Json() if options.format == "json" else _Text())
    root, own = logging.getLogger(), [logging.getLogger(name) for name in _OURS]
    before = root.handlers[:]
    root.handlers[:] = [_NeverWaiting(writer.waiting)]
    root.setLevel(max(options.level.upper(), "WARNING", key=logging.getLevelName))
    for logger in own:
        logger.setLevel(options.level.upper())
    try:
        yield
    finally:
        root.handlers[:] = before
        writer.end()


class _Writer:
    """Thread that writes records, straight to a descriptor: blocked there, it holds no lock that the process' end wants."""

    def __init__(self, descriptor: int, formatter: logging.Formatter) -> None:
        self.waiting: queue.Queue[logging.LogRecord | None] = queue.Queue(_WAITING)
        self._descriptor, self._formatter = descriptor, formatter
        self._thread = threading.Thread(target=self._work, name="log", daemon=True)
        self._thread.start()

    def end(self) -> None:
        """Write what waits, as far as somebody reads it in time."""
        with contextlib.suppress(queue.Full):
            self.waiting.put(None, timeout=_LAST_S)
            self._thread.join(_LAST_S)

    def _work(self) -> None:
        while (record := self.waiting.get()) is not None:
            try:
                line = self._formatter.format(record)
            except Exception as problem:  # of a message with other arguments than it wants, say
                line = f"a line can't be logged ({type(problem).__name__}): {record.pathname}:{record.lineno}"
            content = f"{line}\n".encode("utf-8", "backslashreplace")
            with contextlib.suppress(OSError):  # nobody listens any more
                while content:
                    content = content[os.write(self._descriptor, content) :]


class _NeverWaiting(logging.handlers.QueueHandler):
    """Handler that drops a record where a waiting writer would be waited for."""

    def __init__(self, waiting: queue.Queue[Any]) -> None:
        super().__init__(waiting)
        self._dropped = 0

    def prepare(self, record: logging.LogRecord) -> logging.LogRecord:
        """Note the request that the record belongs to, which the writing thread can't know."""
        record.request = current()
        return record

    def enqueue(self, record: logging.LogRecord) -> None:
        """Hand a record over; called with the handler's lock."""
        waiting: queue.Queue[Any] = self.queue  # type: ignore[assignment]
        try:
            if self._dropped and waiting.qsize() < _WAITING // 2:
                told = f"{self._dropped} lines were left out: the log wasn't read fast enough"
                waiting.put_nowait(logging.makeLogRecord({"levelno": logging.WARNING, "levelname": "WARNING", "msg": told}))
                self._dropped = 0
            waiting.put_nowait(record)
        except queue.Full:
            self._dropped += 1


def _fields(record: logging.LogRecord) -> dict[str, Any]:
    """Return the values of a record: those of its own, and the ids of its request."""
    context: RequestContext = getattr(record, "request", RequestContext())
    ids = {"request_id": context.id, "trace_id": context.trace_id}
    return {**{name: text for name, text in ids.items() if text}, **getattr(record, _OWN_FIELDS, {})}


class _Json(logging.Formatter):
    """JSON object a line; ASCII, so that every control character is escaped."""

    def format(self, record: logging.LogRecord) -> str:
        line = {
            "time": f"{time.strftime('%Y-%m-%dT%H:%M:%S', time.gmtime(record.created))}.{int(record.msecs):03d}Z",
            "level": record.levelname.lower(),
            "logger": record.name,
            "message": record.getMessage(),
            **_fields(record),
        }
        if record.exc_info:
            line["exception"] = self.formatException(record.exc_info)
        return json.dumps(line, default=str)


class _Text(logging.Formatter):
    """Time, level, message and values on a line; lines of a traceback are indented, so that none passes for a record."""

    def format(self, record: logging.LogRecord) -> str:
        values = [f"{name}={_shown(value)}" for name, value in _flat(_fields(record))]
        line = " ".join([self.formatTime(record), record.levelname, printable(record.getMessage()), *values])
        if record.exc_info:
            line += "".join(f"\n    {printable(each)}" for each in self.formatException(record.exc_info).splitlines())
        return line


def _flat(fields: Mapping[str, Any]) -> Iterator[tuple[str, Any]]:
    """Yield values by name; those of a mapping under both names."""
    for name, value in fields.items():
        if isinstance(value, Mapping):
            yield from ((f"{name}.{below}", each) for below, each in value.items())
        else:
            yield name, value


def _shown(value: Any) -> str:
    text = str(value)
    return text if text and _PLAIN.issuperset(text) else json.dumps(text)
