"""Interface of what runs the published models: a Triton, or this process."""

from collections.abc import Sequence
from typing import Any, Protocol

import numpy as np
import numpy.typing as npt

from clip_client.errors import InvalidInput

LOADING = "the server is loading models"
"""Reason of a server that is live and not ready."""


class ModelHost(Protocol):
    """Models that are asked by their names: awaited on an event loop, or in threads by those that never suspend.

    Attributes:
        address: of the host in messages.
        outages: times that it was unavailable; another checkpoint may have come up since.
    """

    @property
    def address(self) -> str:
        """Address in messages."""

    @property
    def outages(self) -> int:
        """Times that it was unavailable."""

    async def config(self, model: str) -> Any:
        """Return a model's configuration: Triton's ``ModelConfig``, or some of its fields."""

    async def not_ready(self, models: Sequence[str], *, timeout_s: float) -> str:
        """Return a reason if a model isn't ready; empty if all are."""

    async def server(self) -> tuple[str, str, Sequence[str]]:
        """Return the host's own name, its version, and the extensions of its protocol."""

    async def infer(
        self, model: str, rows: Sequence[bytes] | npt.NDArray[np.uint8], name: str, outputs: Sequence[str]
    ) -> list[npt.NDArray[Any]]:
        """Send N byte strings as the tensor ``name`` [N, 1], or an array unchanged; return the outputs in order."""

    async def close(self) -> None:
        """Give back what the host holds; later calls raise Unavailable."""


MOST_S = 1e6
"""Longest bound that libraries are given: a fortnight; of longer ones some make none, others one in the past."""


def check_timeout(timeout_s: float, name: str = "timeout_s") -> None:
    """Raise InvalidInput for a bound on a wait that isn't a number of seconds."""
    if not isinstance(timeout_s, int | float) or isinstance(timeout_s, bool) or not timeout_s > 0:
        raise InvalidInput(f"{name} is {timeout_s!r}: expected a number of seconds above 0")


def check_wait(timeout_s: float) -> None:
    """Raise InvalidInput for the length of a wait that isn't a number of seconds; 0 is to look once."""
    if timeout_s != 0 or isinstance(timeout_s, bool):
        check_timeout(timeout_s)
