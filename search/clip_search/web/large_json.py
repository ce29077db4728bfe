"""JSON of large bodies, read row by row: read whole, it would hold Python for a second, and all other requests with it."""

from __future__ import annotations

import itertools
import re
from collections.abc import Iterator
from typing import Any

from pydantic_core import from_json

_LARGE = 2**20
_MARK = re.compile(rb'["{}\[\]]')
_MOST_MARKS = 10**6  # a body with more of them than rows that anybody sends is read whole
_LONGEST_LIST = 2**15  # bytes of a list of numbers that is looked through at once: some 1,500 of them
_SPACE = b" \t\r\n"
_KEY, _BACKSLASH = b'"rows"', ord("\\")


def read(body: bytes) -> Any:
    """Return the value of a body of JSON; raise ValueError if it is none."""
    content = _by_rows(body) if len(body) >= _LARGE else None
    return from_json(body or b"null") if content is None else content


def _by_rows(body: bytes) -> dict[str, Any] | None:
    """Return an object whose ``rows`` are read one by one; None for any other form, or a fault: it is read whole then."""
    spans = _spans(body)
    if not spans:
        return None
    head, tail = body[: spans[0][0]], body[spans[-1][1] :]
    gaps = (body[before[1] : after[0]] for before, after in itertools.pairwise(spans))
    if b"\\" in tail or _KEY in tail or any(gap.strip(_SPACE) != b"," for gap in gaps):
        return None
    try:
        content = from_json(head + b"null" + tail)
        if not isinstance(content, dict) or content.get("rows") != [None]:
            return None
        return {**content, "rows": [from_json(body[start:end]) for start, end in spans]}
    except ValueError:
        return None


def _spans(body: bytes) -> list[tuple[int, int]]:
    """Return start and end of each object in the list ``rows`` of the outermost object; none if that can't be told."""
    spans, depth, start, is_rows = [], 0, 0, False
    for count, (kind, first, last) in enumerate(_marks(body)):
        if count > _MOST_MARKS:
            return []
        if kind == b'"':
            is_rows = is_rows or (
                depth == 1 and body[first:last] == _KEY and body[last : last + 16].lstrip(_SPACE + b":")[:1] == b"["
            )
        elif kind in b"{[":
            depth += 1
            start = first if depth == 3 else start
        else:
            depth -= 1
            if is_rows and depth == 2:
                spans.append((start, last))
            elif is_rows and depth < 2:
                return spans
    return []


def _marks(body: bytes) -> Iterator[tuple[bytes, int, int]]:
    """Yield strings, and brackets outside of them, with their start and end."""
    at = 0
    while mark := _MARK.search(body, at):
        first, at = mark.span()
        if mark[0] == b'"':
            at = _end_of_string(body, at)
            if not at:
                return
        yield mark[0], first, at
        if mark[0] == b"[":
            at = _end_of_numbers(body, at)


def _end_of_numbers(body: bytes, at: int) -> int:
    """Return the place of a list's closing bracket if it has numbers alone, else its start: a pattern takes longer."""
    end = body.find(b"]", at, at + _LONGEST_LIST)
    return at if end < 0 or any(body.find(mark, at, end) >= 0 for mark in (b'"', b"[", b"{")) else end


def _end_of_string(body: bytes, at: int) -> int:
    """Return the position behind a string's closing quote; 0 if there is none."""
    while (quote := body.find(b'"', at)) >= 0:
        before = quote
        while before > at and body[before - 1] == _BACKSLASH:
            before -= 1
        at = quote + 1
        if (quote - before) % 2 == 0:
            return at
    return 0
