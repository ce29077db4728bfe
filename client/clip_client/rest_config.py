"""Model configurations as Triton tells them over HTTP, read without its library: as far as a client asks."""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import dataclass


@dataclass(frozen=True)
class Parameter:
    """Value of a model's parameter, under the name that it has in Triton's ``ModelConfig``."""

    string_value: str


@dataclass(frozen=True)
class RestConfig:
    """Part of a model's configuration, under the names of ``ModelConfig``."""

    backend: str
    max_batch_size: int
    parameters: Mapping[str, Parameter]


def rest_config(content: bytes) -> RestConfig:
    """Return the configuration that an answer holds; raise ValueError if it isn't one."""
    try:
        config = json.loads(content)
        size, parameters = config.get("max_batch_size", 0), config.get("parameters", {})
        values = {name: Parameter(str(value.get("string_value", ""))) for name, value in parameters.items()}
    except (AttributeError, RecursionError, UnicodeDecodeError) as problem:
        raise ValueError(f"no model's configuration: {problem}") from problem
    if not isinstance(size, int):
        raise ValueError(f"no model's configuration: max_batch_size is {size!r}")
    return RestConfig(str(config.get("backend", "")), size, values)
