"""Sentencepiece models, which transformers parses with classes of protobuf's."""

from __future__ import annotations

import sys

_CLASSES = "sentencepiece_model_pb2"


def make_readable() -> None:
    """Let transformers use the classes that it carries itself where sentencepiece's want a newer protobuf than there is."""
    import sentencepiece

    try:
        from sentencepiece import sentencepiece_model_pb2  # noqa: F401
    except Exception:  # protobuf's VersionError, of a module that not every version has
        from transformers.utils import sentencepiece_model_pb2_new as carried

        setattr(sentencepiece, _CLASSES, carried)
        sys.modules[f"{sentencepiece.__name__}.{_CLASSES}"] = carried
