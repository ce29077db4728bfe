"""Origins of answers: the space and the checkpoint that embeddings came from, as contract 2 names them."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt

from clip_client.errors import ContractMismatch, SpaceChanged
from clip_client.spec import ModelSpec


@dataclass(frozen=True)
class Origin:
    """Source of embeddings."""

    space: str  # fingerprint of the space
    fingerprint: str  # of the checkpoint


def origin_tensor(origin: str, rows: int) -> npt.NDArray[np.object_]:
    """Return the BYTES tensor [N, 1] by which a batch names its origin, see :attr:`ModelSpec.origin`."""
    return np.full((rows, 1), origin.encode(), np.object_)


def origins(answer: npt.NDArray[Any]) -> list[Origin]:
    """Return the distinct origins in an answered tensor; raise ContractMismatch if it holds anything else."""
    found = []
    for told in dict.fromkeys(answer.ravel().tolist()):
        space, _, fingerprint = bytes(told).decode("ascii", "replace").partition(" ")
        if not space or not fingerprint:
            raise ContractMismatch(f"an answer names {bytes(told)!r} as its origin, expected a space and a fingerprint")
        found.append(Origin(space, fingerprint))
    return found


def check_space(found: Iterable[str], spec: ModelSpec, address: str) -> None:
    """Raise SpaceChanged for embeddings of another space than a client began with."""
    for space in found:
        if space != spec.space:
            raise SpaceChanged(
                f"{address} answers in space {space}, this client began with {spec.space} (model {spec.fingerprint}): "
                "make a new client, and embed again what is kept"
            )
