"""pyarrow without pandas, which it imports at its first conversion wherever pandas is installed.

The sidecar hands it no frame: half a second of processor time at each start, and the memory, went into nothing.
"""

import sys
from collections.abc import Sequence
from importlib.abc import MetaPathFinder


class _NoPandas(MetaPathFinder):
    """A finder that lets an import of pandas fail."""

    def find_spec(self, name: str, path: Sequence[str] | None = None, target: object = None) -> None:
        if name == "pandas":
            raise ModuleNotFoundError(f"no module named {name!r} is looked for yet", name=name)


def settle() -> None:
    """Let pyarrow look for pandas, once, and find none; whoever imports pandas later has it."""
    if "pandas" in sys.modules:
        return
    blocking = _NoPandas()
    sys.meta_path.insert(0, blocking)
    try:
        import pyarrow

        pyarrow.array([])
    finally:
        sys.meta_path.remove(blocking)
