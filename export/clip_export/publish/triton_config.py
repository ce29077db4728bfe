"""The six ``config.pbtxt`` of a published checkpoint, written through Triton's own protobuf.

One file serves the native backends of the container and their stand-ins outside it, so only fields and parameters that the
native ones document are used.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import asdict

from google.protobuf import text_format
from tritonclient.grpc.model_config_pb2 import (
    DataType,
    ModelConfig,
    ModelDynamicBatching,
    ModelInput,
    ModelInstanceGroup,
    ModelOutput,
)

from clip_client.model_repository import encoder, preparer
from clip_client.preprocess import Limits, Preprocessing
from clip_client.spec import (
    CHECKSUMS,
    EMBEDDING,
    ERROR,
    IMAGE,
    ORIGIN,
    PIXELS,
    PREPARED_CHECKSUMS,
    TEXT,
    TOKENS,
    ModelSpec,
    Tower,
)
from clip_export.variants.base import MAX_BATCH, Variant

_SOURCE = {"image": IMAGE, "text": TEXT}
_PREPARED = {"image": PIXELS, "text": TOKENS}


def ensemble_config(spec: ModelSpec, tower: Tower, variant: Variant) -> ModelConfig:
    """Configure the ensemble: one encoded image or text -> embedding, error, origin, checksums; the spec as parameters."""
    prepared, source = _PREPARED[tower], _SOURCE[tower]
    config = ModelConfig(name=spec.ensemble(tower), platform="ensemble", max_batch_size=MAX_BATCH)
    config.input.append(ModelInput(name=source, data_type=DataType.TYPE_STRING, dims=[1]))
    config.output.extend([_embedding(spec), *_told()])
    encoder_sums = {CHECKSUMS: CHECKSUMS} if variant.tells_checksums else {}
    steps = config.ensemble_scheduling.step
    if takes_source(tower, variant):
        only = steps.add(model_name=encoder(spec.name, tower), model_version=-1)
        only.input_map[source] = source
        only.output_map.update({EMBEDDING: EMBEDDING, ERROR: ERROR, ORIGIN: ORIGIN, **encoder_sums})
    else:
        first = steps.add(model_name=preparer(spec.name, tower), model_version=-1)
        first.input_map[source] = source
        first.output_map.update({prepared: prepared, ERROR: ERROR, ORIGIN: ORIGIN, CHECKSUMS: PREPARED_CHECKSUMS})
        second = steps.add(model_name=encoder(spec.name, tower), model_version=-1)
        second.input_map[prepared] = prepared
        second.output_map.update({EMBEDDING: EMBEDDING, **encoder_sums})
        config.output.append(_sums(PREPARED_CHECKSUMS))
    config.output.extend(map(_sums, encoder_sums))
    _parameters(config, spec.to_parameters())
    return config


def takes_source(tower: Tower, variant: Variant) -> bool:
    """Return true if an encoder also takes what its preparer takes, so that its ensemble has one step."""
    return tower == "text" and variant.tokenizes


def preparer_config(spec: ModelSpec, tower: Tower, preprocessing: Preprocessing) -> ModelConfig:
    """Configure the Python model that decodes images or tokenises texts."""
    config = ModelConfig(name=preparer(spec.name, tower), backend="python", max_batch_size=MAX_BATCH)
    config.input.append(ModelInput(name=_SOURCE[tower], data_type=DataType.TYPE_STRING, dims=[1]))
    config.output.extend([_prepared_output(spec, tower), *_told(), _sums(CHECKSUMS)])
    config.instance_group.append(ModelInstanceGroup(count=1, kind=ModelInstanceGroup.KIND_CPU))
    config.dynamic_batching.CopyFrom(ModelDynamicBatching())
    if tower == "image":
        limits = {name: str(limit) for name, limit in asdict(Limits()).items()}
        _parameters(config, {**limits, "preprocessing": preprocessing, **spec.lineage_parameters()})
    return config


def encoder_config(spec: ModelSpec, tower: Tower, variant: Variant) -> ModelConfig:
    """Configure the tower itself, in a variant that has a backend."""
    config = ModelConfig(name=encoder(spec.name, tower), backend=variant.backend or "", max_batch_size=MAX_BATCH)
    prepared = _prepared_output(spec, tower)
    tokens_or_pixels = ModelInput(name=prepared.name, data_type=prepared.data_type, dims=prepared.dims)
    # Texts of different lengths in one batch, filled up with token 0, which must not end a text.
    tokens_or_pixels.allow_ragged_batch = tower == "text" and variant.ragged and spec.padding != "full" and spec.end_token != 0
    config.input.append(tokens_or_pixels)
    config.output.append(_embedding(spec))
    if takes_source(tower, variant):  # a request brings one of the two, and gets errors with texts alone
        config.input[0].optional = True
        config.input.append(ModelInput(name=_SOURCE[tower], data_type=DataType.TYPE_STRING, dims=[1], optional=True))
        config.output.extend(_told())
    if variant.tells_checksums:
        config.output.append(_sums(CHECKSUMS))
    # By default Triton starts two instances on a CPU, which then fight for its cores.
    config.instance_group.append(ModelInstanceGroup(count=1, kind=variant.kind))
    # Without a delay: requests that arrive during a batch make the next one, and a lone request needn't wait.
    config.dynamic_batching.CopyFrom(ModelDynamicBatching())
    _parameters(config, variant.parameters)
    return config


def to_text(config: ModelConfig) -> str:
    """Return a configuration in the text form of ``config.pbtxt``."""
    return str(text_format.MessageToString(config))


def _prepared_output(spec: ModelSpec, tower: Tower) -> ModelOutput:
    if tower == "image":
        return ModelOutput(name=PIXELS, data_type=DataType.TYPE_UINT8, dims=[spec.image_size, spec.image_size, 3])
    return ModelOutput(name=TOKENS, data_type=DataType.TYPE_INT32, dims=[-1])


def _embedding(spec: ModelSpec) -> ModelOutput:
    return ModelOutput(name=EMBEDDING, data_type=DataType.TYPE_FP32, dims=[spec.embedding_size])


def _told() -> list[ModelOutput]:
    """Return the outputs beside the embedding: the error of each item, and where its embedding came from."""
    return [ModelOutput(name=name, data_type=DataType.TYPE_STRING, dims=[1]) for name in (ERROR, ORIGIN)]


def _sums(name: str) -> ModelOutput:
    """Return the output by which a step tells checksums of what came in and of what it gives."""
    return ModelOutput(name=name, data_type=DataType.TYPE_INT64, dims=[2])


def _parameters(config: ModelConfig, parameters: Mapping[str, str]) -> None:
    for key, value in parameters.items():
        config.parameters[key].string_value = value
