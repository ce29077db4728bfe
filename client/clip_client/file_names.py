"""Names of files as text: ids, sources, and the names that people write into tables."""

import os
import posixpath
import unicodedata
from collections.abc import Iterable
from pathlib import Path
from urllib.parse import quote, unquote_to_bytes

_URI = "file://"
UNSHOWABLE = frozenset(("Cc", "Cs", "Zl", "Zp"))
"""Unicode categories that no id may have: control characters, lone surrogates, line and paragraph separators."""


def is_text(name: str) -> bool:
    """Return true if a name can be sent and shown unchanged."""
    return name.isprintable() or not any(unicodedata.category(char) in UNSHOWABLE for char in name)


def as_id(name: str) -> str:
    r"""Return a file's name as an id: itself, or with ``\xe9`` for each byte or character that can't be in one."""
    if is_text(name):
        return name
    text = os.fsencode(name).decode("utf-8", "backslashreplace")
    return "".join(_escaped(char) if unicodedata.category(char) in UNSHOWABLE else char for char in text)


def as_source(path: str) -> str:
    """Return an absolute path as text: itself, or a ``file:`` URI where it isn't UTF-8 or has control characters."""
    return path if is_text(path) else _URI + quote(os.fsencode(path))


def source_path(source: str) -> str:
    """Return the path that :func:`as_source` was given."""
    return os.fsdecode(unquote_to_bytes(source.removeprefix(_URI))) if source.startswith(_URI) else source


class Names:
    """Finder of files by the names that people and programs write into tables.

    The exact name is looked for first; then one that differs in its Unicode form (NFC, NFD), in ``./``, backslashes or the
    folder in front; then a name that differs in case, if there is just one.
    """

    def __init__(self, names: Iterable[str], folder: Path) -> None:
        self._exact = set(names)
        self._folders = tuple(_slashed(form) + "/" for form in (os.path.abspath(folder), os.path.realpath(folder)))
        self._composed: dict[str, list[str]] = {}
        self._folded: dict[str, list[str]] = {}
        for name in sorted(self._exact):
            self._composed.setdefault(_composed(name), []).append(name)
            self._folded.setdefault(_composed(name).casefold(), []).append(name)

    def match(self, written: str) -> str | None:
        """Return the file that is meant; None where there is none, or it could be several."""
        if written in self._exact:
            return written
        for key in self._keys(written):
            for names, form in ((self._composed, key), (self._folded, key.casefold())):
                if len(matches := names.get(form, [])) == 1:
                    return matches[0]
        return None

    def _keys(self, written: str) -> list[str]:
        """Return the name as paths below the folder; a relative one may also start at the working directory."""
        path = _composed(source_path(written.strip()))
        slashed = _composed(path.replace("\\", "/"))
        keys = []
        for form in dict.fromkeys((path, slashed)):
            absolute = form if form.startswith("/") else _slashed(os.path.abspath(form))
            keys += [] if os.path.isabs(form) else [form]
            keys += [absolute.removeprefix(folder) for folder in self._folders if absolute.startswith(folder)]
        return keys


def _slashed(path: str) -> str:
    """Return an absolute path of this system with slashes."""
    return _composed(path.replace(os.sep, "/"))


def _composed(name: str) -> str:
    return posixpath.normpath(unicodedata.normalize("NFC", name))


def _escaped(char: str) -> str:
    return f"\\x{ord(char):02x}" if ord(char) < 256 else f"\\u{ord(char):04x}"
