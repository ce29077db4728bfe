"""Variants: each turns a tower into an artefact, runs it, and says how Triton should."""

from __future__ import annotations

import difflib

from clip_client.errors import InvalidInput
from clip_export.variants.base import Variant
from clip_export.variants.onnx_fp32 import OnnxFp32
from clip_export.variants.openvino_fp16 import OpenVinoFp16

ONNX = OnnxFp32()
"""The variant that others are made from."""

VARIANTS: dict[str, Variant] = {variant.name: variant for variant in (ONNX, OpenVinoFp16())}


def named(name: str) -> Variant:
    """The variant of that name.

    Raises:
        InvalidInput: there is none; the message lists those there are, nearest first.
    """
    if name not in VARIANTS:
        nearest = difflib.get_close_matches(name, VARIANTS, n=len(VARIANTS), cutoff=0)
        raise InvalidInput(f"no variant {name!r}, expected one of: {', '.join(nearest)}")
    return VARIANTS[name]
