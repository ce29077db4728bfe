"""Request to add rows -> items, each with an error of its own: a row that can't be read doesn't touch its neighbours."""

import json
import math
from collections.abc import Sequence
from typing import Annotated, Any

from pydantic import Field, ValidationError
from pydantic_core import from_json

from clip_client.errors import ClipError, InvalidInput
from clip_search.items import AddOptions, Item
from clip_search.storage.kinds import shown
from clip_search.storage.schema import check_kind
from clip_search.web.fault_places import place
from clip_search.web.request_models import MAX_ROWS, NewItem, NewItems, validated

Rows = tuple[Sequence[Item | ClipError], AddOptions]
"""Items or their errors by position, and the options of all."""

_MAX_DIGITS = 400


class _Request(NewItems):
    """Request whose rows aren't read yet."""

    rows: Annotated[list[Any], Field(min_length=1, max_length=MAX_ROWS)]


def parsed_rows(body: bytes) -> Rows:
    """Read a request to add rows.

    Raises:
        InvalidInput: if there is no JSON object with a list of rows, or an option is wrong.
    """
    content = _json(body)
    if not isinstance(content, dict):
        raise InvalidInput(f"the body is {shown(content)}: expected a JSON object with rows; /docs tells what is accepted")
    sent = validated(_Request.model_validate, content)
    for name, kind in sent.columns.items():
        check_kind(name, kind)
    return [_item(row) for row in sent.rows], AddOptions(sent.on_conflict, sent.fingerprint, sent.columns)


def _json(body: bytes) -> Any:
    """Read JSON, and what programs write for it: NaN, Infinity, numbers of any length, lone surrogates."""
    try:
        return from_json(body or b"null")
    except ValueError:
        return _lenient(body)


def _lenient(body: bytes) -> Any:
    try:
        return json.loads(body.decode("utf-8-sig", "surrogateescape"), parse_int=_whole_number)
    except (ValueError, RecursionError) as problem:
        raise InvalidInput(f"the body: Invalid JSON ({problem}); /docs tells what is accepted") from problem


def _whole_number(digits: str) -> float:
    return int(digits) if len(digits) <= _MAX_DIGITS else math.inf


def _item(row: Any) -> Item | ClipError:
    try:
        item = NewItem.model_validate(row)
        return item.item()
    except ValidationError as problem:
        return _told(problem, row)
    except InvalidInput as problem:
        return problem


def _told(problem: ValidationError, row: Any) -> InvalidInput:
    """Return the first fault of a row."""
    first = problem.errors(include_url=False)[0]
    where = place(first, row) or "the row"
    got = "" if first["type"] in ("missing", "extra_forbidden") else f", got {shown(first['input'])}"
    return InvalidInput(
        f"{where.encode('ascii', 'backslashreplace').decode()}: {first['msg']}{got}; /docs tells what is accepted"
    )
