"""Pictures of results, as matplotlib figures: probabilities, hits, similarities, scores (extra ``plots``).

Each function returns a figure of its own. None touches pyplot or a style, so they draw the same in a notebook, in a server and
in a thread. ``figure.savefig("hits.png")`` writes a file; a notebook shows the last value of a cell.

>>> from clip_client import plots
>>> plots.probabilities("cat.jpg", ["a cat", "a dog"], clip).savefig("cat.png")

matplotlib is loaded when a function is first looked up.
"""

from importlib import import_module
from typing import TYPE_CHECKING, Any

from clip_client.errors import Unavailable

if TYPE_CHECKING:
    from clip_client.plots.bars import probabilities
    from clip_client.plots.grids import grid, hits
    from clip_client.plots.heat_maps import similarity
    from clip_client.plots.rankings import scores

__all__ = ["grid", "hits", "probabilities", "scores", "similarity"]

_MODULES = {"grid": "grids", "hits": "grids", "probabilities": "bars", "scores": "rankings", "similarity": "heat_maps"}


def __getattr__(name: str) -> Any:
    if name not in _MODULES:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    try:
        module = import_module(f"{__name__}.{_MODULES[name]}")
    except ModuleNotFoundError as problem:
        raise Unavailable(f"plots need another package ({problem}): pip install 'clipserve[plots]'") from problem
    return getattr(module, name)


def __dir__() -> list[str]:
    return sorted(__all__)
