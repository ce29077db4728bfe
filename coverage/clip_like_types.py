"""Model types of the installed transformers that embed pictures and texts."""

from __future__ import annotations

from pathlib import Path

import transformers

_METHODS = ("def get_image_features(", "def get_text_features(")


def names() -> list[str]:
    """Return the types whose modules define both methods, sorted; the modules are read and not imported."""
    modules = sorted((Path(transformers.__file__).parent / "models").glob("*/modeling_*.py"))
    return sorted({path.parent.name for path in modules if all(method in path.read_text("utf-8") for method in _METHODS)})
