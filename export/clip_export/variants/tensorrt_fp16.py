"""A TensorRT engine in float16, built for the GPU of this machine.

Follows the TensorRT developer guide: a strongly typed network takes its precisions from the ONNX file, so LayerNorm stays in
float32 because onnx-fp16 says so.
"""

from __future__ import annotations

from pathlib import Path
from typing import Any, ClassVar, Literal

import numpy as np
import numpy.typing as npt
import torch

from clip_client.errors import Unavailable
from clip_client.model_repository import MODEL_FILES
from clip_client.spec import EMBEDDING, PIXELS, TOKENS, ModelSpec, Tower
from clip_client.tokens import bucket
from clip_export import hardware
from clip_export.artifact_files import TIMING_CACHE
from clip_export.variants.base import MAX_BATCH, Artefact, Encoder, Limits, Source, Variant
from clip_export.variants.onnx_fp16 import OnnxFp16
from clip_export.variants.onnx_fp32 import MODEL_FILE as ONNX_FILE

[MODEL_FILE] = MODEL_FILES["tensorrt"]
_USUAL_BATCH = 8
_USUAL_TOKENS = 16


class TensorRtFp16(Variant):
    """onnx-fp16 -> engine, for batches of 1 to 32."""

    name: ClassVar[str] = "tensorrt-fp16"
    backend: ClassVar[str | None] = "tensorrt"
    kind: ClassVar[Literal["KIND_AUTO", "KIND_CPU", "KIND_GPU"]] = "KIND_GPU"
    limits: ClassVar[Limits] = Limits(0.99, 0.999, 0.99)
    tools: ClassVar[tuple[str, ...]] = OnnxFp16.tools
    onnx: ClassVar[str] = OnnxFp16.name

    def obstacle(self) -> str:
        if not hardware.gpu():
            return "no NVIDIA GPU here: run the export where one is"
        if not hardware.has_package("tensorrt"):
            return "no tensorrt package: pip install tensorrt, in the version of the server's TensorRT"
        if not torch.cuda.is_available():
            return "this torch is built without CUDA: install one that fits the driver"
        return ""

    def build(self, source: Source, folder: Path) -> None:
        plan = _engine(source.artefact(self.onnx) / ONNX_FILE, source, folder.parents[1] / TIMING_CACHE)
        (folder / MODEL_FILE).write_bytes(plan)

    def load(self, artefact: Artefact) -> Encoder:
        import tensorrt

        engine = tensorrt.Runtime(tensorrt.Logger(tensorrt.Logger.ERROR)).deserialize_cuda_engine(
            (artefact.folder / MODEL_FILE).read_bytes()
        )
        context = engine.create_execution_context()
        name, size = _input(artefact.tower), engine.get_tensor_shape(EMBEDDING)[-1]

        def encode(batch: npt.NDArray[Any]) -> npt.NDArray[np.float32]:
            given = torch.from_numpy(batch).cuda()
            embedding = torch.empty((len(batch), size), dtype=torch.float32, device="cuda")
            context.set_input_shape(name, tuple(batch.shape))
            context.set_tensor_address(name, given.data_ptr())
            context.set_tensor_address(EMBEDDING, embedding.data_ptr())
            context.execute_async_v3(torch.cuda.current_stream().cuda_stream)
            return np.asarray(embedding.cpu().numpy())

        return encode


def profile_shapes(tower: Tower, spec: ModelSpec) -> tuple[tuple[int, ...], tuple[int, ...], tuple[int, ...]]:
    """Return the smallest, the usual and the largest input shape of an engine."""
    if tower == "image":
        side = (spec.image_size, spec.image_size, 3)
        return (1, *side), (_USUAL_BATCH, *side), (MAX_BATCH, *side)
    short = spec.context_length if spec.padding == "full" else bucket(_USUAL_TOKENS, spec.context_length)
    return (1, short if spec.padding == "full" else 1), (_USUAL_BATCH, short), (MAX_BATCH, spec.context_length)


def _engine(onnx: Path, source: Source, timings: Path) -> bytes:
    """Build the serialised engine; keep the timings of kernels for the next build."""
    import tensorrt

    logger = tensorrt.Logger(tensorrt.Logger.ERROR)
    builder = tensorrt.Builder(logger)
    network = builder.create_network(1 << int(tensorrt.NetworkDefinitionCreationFlag.STRONGLY_TYPED))
    parser = tensorrt.OnnxParser(network, logger)
    if not parser.parse_from_file(str(onnx)):
        raise Unavailable(f"TensorRT {tensorrt.__version__} can't read {onnx}: {parser.get_error(0)}")
    config = builder.create_builder_config()
    profile = builder.create_optimization_profile()
    profile.set_shape(_input(source.tower), *profile_shapes(source.tower, source.spec))
    config.add_optimization_profile(profile)
    cache = config.create_timing_cache(timings.read_bytes() if timings.exists() else b"")
    config.set_timing_cache(cache, ignore_mismatch=False)
    plan = builder.build_serialized_network(network, config)
    if plan is None:
        raise Unavailable(f"TensorRT {tensorrt.__version__} built no engine from {onnx}: its messages are above")
    timings.write_bytes(cache.serialize())
    return bytes(plan)


def _input(tower: Tower) -> str:
    return PIXELS if tower == "image" else TOKENS
