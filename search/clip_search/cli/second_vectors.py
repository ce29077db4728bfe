"""State of a second set of vectors in a line."""

from collections.abc import Mapping
from typing import Any

from clip_client.counting import counted
from clip_client.terminal import printable


def told(state: Mapping[str, Any]) -> str:
    """Return the state in a line."""
    model, serving = printable(state["model"]), printable(state["serving"])
    if state["state"] == "kept":
        return f"model {serving} answers, the vectors of {model} are kept, {counted(state['embedded'], 'row')}"
    reason = f"; {printable(state['reason'])}" if state["reason"] else ""
    return (
        f"{state['state']} with model {model}, {counted(state['rows'], 'row')} = {state['embedded']:,} embedded + "
        f"{state['left_out']:,} left out + {state['pending']:,} to come{reason}"
    )
