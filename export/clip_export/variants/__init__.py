"""Registry of the variants: each turns a tower into an artefact, runs it, and configures Triton for it.

A variant's module, and the libraries that it needs, are imported when the variant is first asked for.
"""

from __future__ import annotations

import difflib
import importlib
from collections.abc import Iterable, Iterator, Mapping
from functools import cache
from typing import TYPE_CHECKING, Any

from clip_client.errors import InvalidInput
from clip_export.variants.base import Variant

if TYPE_CHECKING:
    REFERENCE: Variant

_REFERENCE = "torch-fp32"
"""Reference for all others; always built."""

NAMES = (
    _REFERENCE,
    "torch-bf16",
    "torch-compile",
    "onnx-fp32",
    "onnx-fp16",
    "onnx-int8",
    "openvino-fp16",
    "openvino-bf16",
    "openvino-int8",
    "openvino-int8-merged",
    "tensorrt-fp16",
    "tensorrt-int8",
)
"""Names of all variants, in the order of tables; each is its module's too."""


class _Registry(Mapping[str, Variant]):
    """All variants by name."""

    def __getitem__(self, name: str) -> Variant:
        if name not in NAMES:
            raise KeyError(name)
        return _made(name)

    def __iter__(self) -> Iterator[str]:
        return iter(NAMES)

    def __len__(self) -> int:
        return len(NAMES)


VARIANTS: Mapping[str, Variant] = _Registry()

ALL = "all"
DEFAULT = "onnx-fp32,openvino-fp16,openvino-bf16,openvino-int8"
"""Useful variants on most machines; a GPU's owner adds TensorRT."""


def __getattr__(name: str) -> Any:
    if name == "REFERENCE":
        return VARIANTS[_REFERENCE]
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")


def module(name: str) -> str:
    """Return the module of the variant of that name."""
    return f"{__name__}.{name.replace('-', '_')}"


@cache
def _made(name: str) -> Variant:
    """Import a variant's module, and make the variant of that name."""
    members = vars(importlib.import_module(module(name))).values()
    kinds = [kind for kind in members if isinstance(kind, type) and issubclass(kind, Variant)]
    variant: Variant = next(kind for kind in kinds if getattr(kind, "name", "") == name)()
    return variant


def named(name: str, also: Iterable[str] = ()) -> Variant:
    """Return the variant of that name.

    Raises:
        InvalidInput: if there is none; the message lists the known names, and the words that may stand for them, nearest first.
    """
    if name not in NAMES:
        known = [*NAMES, *also]
        nearest = difflib.get_close_matches(name, known, n=len(known), cutoff=0)
        raise InvalidInput(f"no variant {name!r}, expected one of: {', '.join(nearest)}")
    return VARIANTS[name]


def listed(names: str) -> list[Variant]:
    """Return the variants of a comma-separated list, or all; the reference comes first and needn't be named.

    Raises:
        InvalidInput: if one isn't known.
    """
    if names == ALL:
        return list(VARIANTS.values())
    chosen = [named(name.strip(), also=[ALL]) for name in names.split(",")]
    return list(dict.fromkeys([VARIANTS[_REFERENCE], *chosen]))
