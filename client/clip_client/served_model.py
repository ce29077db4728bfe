"""A checkpoint as its host holds it, read from the configurations of the published models."""

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any, Protocol

from clip_client.errors import ContractMismatch
from clip_client.model_repository import NUMBER, PUBLISH, preparer
from clip_client.preprocess import Limits, Preprocessing
from clip_client.spec import CHECKSUMS, ORIGIN, PREPARED_CHECKSUMS, TOWERS, ModelSpec, Tower, ensemble


@dataclass(frozen=True)
class ServedModel:
    """A published checkpoint."""

    name: str  # it was published as
    spec: ModelSpec  # of the checkpoint
    max_batch: int  # most items of one request
    limits: Limits  # bounds on an image
    preprocessing: Preprocessing  # the host's, which the client repeats if it prepares images itself
    number: int = 1  # of the version that serves
    names_origin: bool = False  # its ensembles name the space of each answer: contract 2
    checksums: Mapping[Tower, tuple[str, ...]] = field(
        default_factory=dict
    )  # outputs of each ensemble that have some, in order


class Rolling(ContractMismatch):
    """The models are of two checkpoints, as for a moment while a server goes over to another."""


class Configured(Protocol):
    """Host, as far as its configurations are asked for."""

    async def config(self, model: str) -> Any:
        """Return a model's configuration."""


async def served_model(host: Configured, name: str) -> ServedModel:
    """Ask a host for a published checkpoint.

    Raises:
        ContractMismatch: the models aren't clipserve's, or image and text come from different checkpoints.
    """
    configs = [await host.config(ensemble(name, tower)) for tower in TOWERS]
    image, text = (ModelSpec.from_parameters(_parameters(config)) for config in configs)
    if image.fingerprint != text.fingerprint:
        raise Rolling(
            f"{name}: the image models hold {image.fingerprint}, the text models {text.fingerprint}: "
            "publish both from one checkpoint"
        )
    parameters = _parameters(await host.config(preparer(name, "image")))
    outputs = {tower: {output.name for output in config.output} for tower, config in zip(TOWERS, configs, strict=True)}
    names_origin = all(ORIGIN in told for told in outputs.values())
    if names_origin and parameters.get("fingerprint") != image.fingerprint:
        other, told = preparer(name, "image"), parameters.get("fingerprint")
        raise Rolling(f"{name}: the ensembles hold {image.fingerprint}, {other} {told}: {PUBLISH}")
    preprocessing: Preprocessing = "fast" if parameters.get("preprocessing") == "fast" else "exact"
    max_batch = min(config.max_batch_size for config in configs)
    if max_batch < 1:
        raise ContractMismatch(f"{name}: the models take no batches (max_batch_size is {max_batch}): {PUBLISH}")
    spec = image.completed(parameters)
    told = parameters.get(NUMBER, "")
    number = int(told) if told.isdecimal() else 1
    checksums = {
        tower: tuple(output for output in (PREPARED_CHECKSUMS, CHECKSUMS) if names_origin and output in told)
        for tower, told in outputs.items()
    }
    limits = Limits.from_parameters(parameters)
    return ServedModel(name, spec, max_batch, limits, preprocessing, number, names_origin, checksums)


async def told_fingerprint(host: Configured, name: str, tower: Tower) -> str:
    """Return the fingerprint of the checkpoint that an ensemble leads to now."""
    return ModelSpec.from_parameters(_parameters(await host.config(ensemble(name, tower)))).fingerprint


def _parameters(config: Any) -> dict[str, str]:
    return {key: parameter.string_value for key, parameter in config.parameters.items()}
