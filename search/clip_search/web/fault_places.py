"""Places of faults in bodies, as their senders wrote them."""

from collections.abc import Mapping
from typing import Any


def place(fault: Mapping[str, Any], content: Any) -> str:
    """Return the keys and positions that lead to a fault, with dots between them; an empty text for the body itself.

    Pydantic also notes which form of a field it tried, such as ``list[float]``; nobody sent that.

    Args:
        fault: one of ``ValidationError.errors()``.
        content: the body, as JSON has it.
    """
    kept = []
    for part in fault["loc"]:
        if (isinstance(content, dict) and part in content) or (isinstance(content, list) and isinstance(part, int)):
            kept.append(str(part))
            content = content[part]
    if fault["type"] == "missing":
        kept.append(str(fault["loc"][-1]))
    return ".".join(kept)
