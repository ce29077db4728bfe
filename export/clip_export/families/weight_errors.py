"""Errors about weights that don't match their configuration, or aren't finite; each names the first tensor."""

from __future__ import annotations

import re
from collections.abc import Mapping
from typing import Any

from clip_client.errors import InvalidInput
from clip_client.spec import TOWERS
from clip_export.towers import Towers

_NUMBER = re.compile(r"(?<=\.)\d+(?=\.)")
_SIZES = re.compile(
    r"size mismatch for (\S+): copying a param with shape torch\.Size\((\[.*?\])\) from checkpoint, "
    r"the shape in current model is torch\.Size\((\[.*?\])\)"
)
_KEYS = re.compile(r"(Missing|Unexpected) key\(s\) in state_dict: (\".*\")")
"""Phrases of ``torch.nn.Module.load_state_dict``."""


def refuse_unsound(towers: Towers, unsound: Mapping[str, str], label: str) -> None:
    """Raise InvalidInput if a number that the towers compute with isn't finite; others may be what they like.

    Args:
        towers: with all weights in them.
        unsound: flaw by the name of a tensor in the checkpoint.
        label: of the checkpoint.
    """
    for tower in TOWERS:
        for place, tensor in towers[tower].state_dict().items():
            if tensor.is_floating_point() and not tensor.isfinite().all():
                name = max(unsound, key=lambda name: _common_end(name, place))
                raise InvalidInput(
                    f"{label}: the {tower} tower's {name} holds {unsound[name]}, expected finite numbers: its training failed "
                    "or the file is damaged, take another checkpoint"
                )


def refuse_mismatch(model: Any, loading: Mapping[str, Any], label: str, unread: str = "") -> None:
    """Raise InvalidInput where weights and configuration differ.

    Args:
        model: of transformers.
        loading: its loading info: names of missing and unexpected tensors, and shapes that differ.
        label: of the checkpoint.
        unread: prefix of the names of tensors that nobody reads, so that they may be missing.
    """
    order = {name: position for position, name in enumerate(model.state_dict())}
    if shapes := sorted(loading["mismatched_keys"], key=lambda entry: order.get(entry[0], len(order))):
        name, given, expected = shapes[0]
        raise InvalidInput(shapes_differ(label, name, [*given], [*expected], len(shapes)))
    layers = {_NUMBER.sub("#", name) for name in order}
    if deeper := sorted(name for name in loading["unexpected_keys"] if _NUMBER.sub("#", name) in layers):
        raise InvalidInput(
            f"{label}: the weights have {deeper[0]} and {len(deeper) - 1} more tensors of layers that config.json lacks: "
            "take the configuration that belongs to the weights"
        )
    if missing := [name for name in loading["missing_keys"] if not (unread and name.startswith(unread))]:
        raise InvalidInput(lacking(label, sorted(missing)))


def shapes_differ(label: str, name: str, given: Any, expected: Any, count: int) -> str:
    """Return a message about a tensor of another shape, the first of so many."""
    more = f", the first of {count} that differ" if count > 1 else ""
    return (
        f"{label}: {name} is {given} in the weights and {expected} by the configuration{more}: take the configuration that "
        "belongs to the weights"
    )


def lacking(label: str, missing: list[str]) -> str:
    """Return a message about missing tensors, which a library would fill with random numbers."""
    return f"{label}: the weights lack {len(missing)} tensors, the first is {missing[0]}: is the file whole?"


def not_loaded(label: str, problem: Exception, title: str) -> InvalidInput:
    """Return the error for an exception of ``load_state_dict``, whose message has a line for each tensor."""
    message = str(problem)
    if sizes := _SIZES.findall(message):
        name, given, expected = sizes[0]
        return InvalidInput(shapes_differ(label, name, given, expected, len(sizes)))
    keys = {kind: re.findall(r'"([^"]+)"', names) for kind, names in _KEYS.findall(message)}
    if missing := keys.get("Missing"):
        return InvalidInput(lacking(label, missing))
    if unexpected := keys.get("Unexpected"):
        return InvalidInput(
            f"{label}: the weights have {len(unexpected)} tensors that {title} has no place for, the first is {unexpected[0]}: "
            "take the configuration that belongs to the weights"
        )
    return InvalidInput(f"{label}: the weights don't load as {title}: {_first_line(message)}")


def _first_line(message: str) -> str:
    return next((line.strip() for line in message.splitlines() if line.strip()), "")


def _common_end(one_name: str, other: str) -> int:
    """Return the number of last parts that two names share: a tower calls a tensor by a longer or shorter name."""
    pairs = zip(reversed(one_name.split(".")), reversed(other.split(".")), strict=False)
    return next((count for count, (a, b) in enumerate(pairs) if a != b), len(other))
