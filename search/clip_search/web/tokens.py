"""Tokens that the sidecar takes: names, scopes and hashes, from a file that is read again while it runs."""

from __future__ import annotations

import hashlib
import hmac
import logging
import re
import threading
from collections.abc import Iterable
from dataclasses import dataclass, field
from pathlib import Path

from clip_client.errors import ClipError, InvalidInput
from clip_client.token_files import token_in
from clip_search.options import SCOPES, HttpOptions

_LOG = logging.getLogger(__name__)
_LOOK_S = 1.0  # between two looks at the file
_MOST_BYTES = 2**20
_LINE = re.compile(r"([A-Za-z0-9][A-Za-z0-9._-]{0,63}):([a-z]+(?:,[a-z]+)*):([\x21-\x7e]+)")
_HASH = re.compile(r"sha256:([0-9a-f]{64})")
_LONE = "token"  # name of a token that has none of its own


@dataclass(frozen=True)
class Caller:
    """Owner of a token: the name is shown in logs and messages, the digest nowhere."""

    name: str
    scopes: frozenset[str]
    digest: bytes = field(repr=False)  # SHA-256 of the token


class Tokens:
    """Tokens in force; a file of them is read every second.

    Raises:
        InvalidInput: the file can't be read, or a line of it can't be used. Later such a file is logged, and the tokens
            stay as they were.
    """

    def __init__(self, options: HttpOptions) -> None:
        self._file, self._stopping = options.token_file, threading.Event()
        self._content = b""
        self._problem = ""
        self._callers: tuple[Caller, ...] = (_lone(options.token),) if options.token else ()
        if self._file:
            self._content = _content(self._file)
            self._callers = parsed(self._content, self._file)
        self.are_asked_for = bool(self._callers)

    def start(self) -> None:
        """Watch the file from now on."""
        if self._file:
            threading.Thread(target=self._watch, args=(self._file,), name="tokens", daemon=True).start()

    def stop(self) -> None:
        """End the watch."""
        self._stopping.set()

    def caller(self, header: str) -> Caller | None:
        """Return the owner of the token in a header ``Authorization``, in a time that tells nothing; None if there is none."""
        kind, _, token = header.partition(" ")
        digest = hashlib.sha256(token.strip().encode("utf-8", "surrogateescape")).digest()
        matching = [caller for caller in self._callers if hmac.compare_digest(caller.digest, digest)]
        return matching[0] if matching and kind.lower() == "bearer" else None

    def _watch(self, file: Path) -> None:
        while not self._stopping.wait(_LOOK_S):
            try:
                self._look(file)
                self._problem = ""
            except ClipError as problem:
                if str(problem) != self._problem:
                    _LOG.error("%s; the tokens stay as they were", problem)
                self._problem = str(problem)

    def _look(self, file: Path) -> None:
        content = _content(file)
        if content == self._content:
            return
        callers = parsed(content, file)
        names = ", ".join(caller.name for caller in callers)
        self._content, self._callers = content, callers
        _LOG.warning("%s has changed: tokens of %s are taken now", file, names)


def parsed(content: bytes, file: Path) -> tuple[Caller, ...]:
    """Return the tokens of a file: lines ``NAME:SCOPES:TOKEN``, or one token for everything, which is all of the file.

    Raises:
        InvalidInput: with the number of the line and never its content, which may be a secret.
    """
    lines = [(n, line.strip()) for n, line in enumerate(content.decode("utf-8", "replace").splitlines(), 1)]
    lines = [(n, line) for n, line in lines if line]
    if len(lines) == 1 and not _is_named(lines[0][1]):
        if lines[0][1].count(":") > 1:
            _LOG.warning("%s has one line, which isn't NAME:SCOPES:TOKEN: all of it is one token, for everything", file)
        return (_lone(lines[0][1]),)
    callers = tuple(_named(line, f"{file}, line {n}") for n, line in lines if not line.startswith("#"))
    if not callers:
        raise InvalidInput(f"{file} has no token: write a line NAME:SCOPES:TOKEN into it, e.g. all:{','.join(SCOPES)}:TOKEN")
    for what, values in (("name", [caller.name for caller in callers]), ("token", [caller.digest for caller in callers])):
        if len(set(values)) < len(values):
            raise InvalidInput(f"{file} has {_twice(callers, values)} with the same {what}: give each line a {what} of its own")
    return callers


def _content(file: Path) -> bytes:
    token_in(file)  # says how it can't be read
    with file.open("rb") as opened:
        content = opened.read(_MOST_BYTES + 1)
    if len(content) > _MOST_BYTES:
        raise InvalidInput(f"{file} has more than {_MOST_BYTES:,} bytes: is it a file of tokens?")
    return content


def _is_named(line: str) -> bool:
    """Tell a line ``NAME:SCOPES:TOKEN`` from a token that has colons."""
    match = _LINE.fullmatch(line)
    return bool(match and set(match[2].split(",")) <= set(SCOPES))


def _named(line: str, place: str) -> Caller:
    if not _is_named(line):
        raise InvalidInput(f"{place}: expected NAME:SCOPES:TOKEN, with scopes of {', '.join(SCOPES)} joined by commas")
    name, scopes, token = line.split(":", 2)
    hashed = _HASH.fullmatch(token)
    if token.startswith("sha256:") and not hashed:
        raise InvalidInput(f"{place}: expected 64 small hexadecimal digits behind sha256:")
    return Caller(name, frozenset(scopes.split(",")), bytes.fromhex(hashed[1]) if hashed else _digest(token))


def _lone(token: str) -> Caller:
    return Caller(_LONE, frozenset(SCOPES), _digest(token))


def _digest(token: str) -> bytes:
    return hashlib.sha256(token.encode()).digest()


def _twice(callers: Iterable[Caller], values: list[str] | list[bytes]) -> str:
    return " and ".join(caller.name for caller, value in zip(callers, values, strict=True) if values.count(value) > 1)  # type: ignore[arg-type]
