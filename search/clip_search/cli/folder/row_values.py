"""Metadata and state of a row, from the present and the former description of its file."""

from dataclasses import replace
from typing import Any

from clip_search.cli.folder.descriptions import Description
from clip_search.cli.folder.sync import State, described


def metadata_of(said: Description, before: State | None) -> dict[str, Any]:
    """Return values by column; None for one that the folder gave before and no longer does.

    What another table gave goes first, also where it isn't named this time.
    """
    others = before.given_fields if before and said.given is None else ()
    values = {name: value for name, value in said.own.items() if name not in others} | (said.given or {})
    lost = before.fields if before and said.whole else ()
    return dict.fromkeys(name for name in lost if name not in others) | values


def with_description(state: State, said: Description, before: State | None) -> State:
    """Return a state with the file's description; keep the former one of what couldn't be read this time."""
    before = before or State("", 0, 0)
    fields = {*said.own, *(() if said.whole else before.fields)}
    return replace(
        state,
        described=described(said.own),
        fields=tuple(sorted(fields)),
        given=before.given if said.given is None else described(said.given),
        given_fields=tuple(sorted({*(said.given or ()), *before.given_fields})),
    )
