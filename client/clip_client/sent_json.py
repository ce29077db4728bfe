"""JSON of requests, and how large it gets."""

import json
from typing import Any


def dumped(content: Any) -> bytes:
    """Return JSON."""
    return json.dumps(content).encode()


def about_size(content: Any) -> int:
    """Return about as many bytes as the large strings of a request have."""
    if isinstance(content, str):
        return len(content)
    values = content.values() if isinstance(content, dict) else content if isinstance(content, list) else ()
    return sum(map(about_size, values)) + 1
