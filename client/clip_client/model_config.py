"""``config.pbtxt`` of the published models, by Triton's own schema."""

from __future__ import annotations

import importlib.util
from functools import cache
from pathlib import Path
from typing import Any

from google.protobuf import text_format

from clip_client.errors import ContractMismatch
from clip_client.model_repository import CONFIG_FILE, PUBLISH

_SCHEMA = Path("grpc") / "model_config_pb2.py"
"""Module in the folder of tritonclient that protobuf's compiler made, and that imports nothing but protobuf."""


def read(model: Path) -> Any:
    """Return the configuration in a model's folder, a ``ModelConfig``; raise ContractMismatch if it can't be read."""
    file = model / CONFIG_FILE
    try:
        return text_format.Parse(file.read_text(encoding="utf-8"), _model_config()())
    except (text_format.ParseError, OSError, ValueError, RecursionError) as problem:
        raise ContractMismatch(f"{file} isn't a model's configuration ({problem}): {PUBLISH}") from problem


@cache
def _model_config() -> Any:
    """Return the class of the message; its module is executed by itself, since an import of its package loads gRPC."""
    package = importlib.util.find_spec("tritonclient")
    if package is None or not package.submodule_search_locations:
        raise ModuleNotFoundError("No module named 'tritonclient'", name="tritonclient")
    spec = importlib.util.spec_from_file_location("triton_model_config", Path(package.submodule_search_locations[0]) / _SCHEMA)
    assert spec is not None  # noqa: S101  (of a file that ends in .py)
    assert spec.loader is not None  # noqa: S101
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module.ModelConfig
