"""ONNX in float32, the variant that runs everywhere."""

from __future__ import annotations

import ast
import logging
import warnings
from pathlib import Path
from typing import Any, ClassVar, Literal, cast

import onnx
import torch
from torch import nn
from torch.onnx import ONNXProgram

from clip_client import engines
from clip_client.model_repository import MODEL_FILES
from clip_client.spec import EMBEDDING, PIXELS, TOKENS, ModelSpec, Tower
from clip_export.variants.base import Artefact, Encoder, Limits, Source, Variant

[MODEL_FILE] = MODEL_FILES["onnxruntime"]
_OPSET = 18
LARGEST_FILE_BYTES = 2**29  # above this the weights go to a file of their own: protobuf ends at 2 GB and holds them twice


class OnnxFp32(Variant):
    """torch.export -> ONNX, batch and text length dynamic."""

    name: ClassVar[str] = "onnx-fp32"
    backend: ClassVar[str | None] = "onnxruntime"
    kind: ClassVar[Literal["KIND_AUTO", "KIND_CPU", "KIND_GPU"]] = "KIND_AUTO"
    limits: ClassVar[Limits] = Limits(0.9999, 0.9999, 0.9999)
    tools: ClassVar[tuple[str, ...]] = ("torch", "onnx", "onnxscript", "onnxruntime", "transformers")

    def build(self, source: Source, folder: Path) -> None:
        module = source.module()
        program = _exported(module, source.tower, source.spec)
        _name_output(program)
        _name_nodes(program)
        program.save(folder / MODEL_FILE, external_data=_weight_bytes(module) > LARGEST_FILE_BYTES)
        _forget_weights(module, program)

    def load(self, artefact: Artefact) -> Encoder:
        return engines.opened(str(self.backend), artefact.folder / MODEL_FILE, self.parameters)


def save(model: onnx.ModelProto, folder: Path) -> None:
    """Write a model; its weights go to a file of their own where both are too large for one."""
    apart = model.ByteSize() > LARGEST_FILE_BYTES
    onnx.save(model, folder / MODEL_FILE, save_as_external_data=apart, location=f"{MODEL_FILE}.data")


def example(tower: Tower, spec: ModelSpec) -> torch.Tensor:
    """Return an input of batch 2 to trace a tower with."""
    if tower == "image":
        return torch.zeros((2, spec.image_size, spec.image_size, 3), dtype=torch.uint8)
    length = spec.context_length if spec.padding == "full" else min(8, spec.context_length)
    return torch.full((2, length), spec.end_token, dtype=torch.int32)


def _exported(module: nn.Module, tower: Tower, spec: ModelSpec) -> ONNXProgram:
    batch = torch.export.Dim("batch", min=1, max=2**16)
    dynamic: dict[int, Any] = {0: batch}
    if tower == "text" and spec.padding != "full":
        dynamic[1] = torch.export.Dim("length", min=1, max=spec.context_length)
    logging.getLogger("torch.onnx").setLevel(logging.ERROR)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # of torch's own internals; nothing that a user could change
        program = torch.onnx.export(
            module,
            (example(tower, spec),),
            input_names=[PIXELS if tower == "image" else TOKENS],
            dynamic_shapes=(dynamic,),
            opset_version=_OPSET,
            dynamo=True,
            verbose=False,
        )
    return cast(ONNXProgram, program)  # None only from the exporter that dynamo=True replaced


def _name_output(program: ONNXProgram) -> None:
    """Give the output its contract name, which an inner value may have: torch calls lookups "embedding"."""
    graph = program.model.graph
    inner = [*graph.initializers.values(), *(value for node in graph for value in node.outputs)]
    for value in inner:
        if value.name == EMBEDDING:
            value.name = f"{EMBEDDING}_inner"
    graph.outputs[0].name = EMBEDDING


def _name_nodes(program: ONNXProgram) -> None:
    """Name each node after its module, so that quantisation can tell layers apart."""
    for number, node in enumerate(program.model.graph):
        scopes = ast.literal_eval(node.metadata_props.get("pkg.torch.onnx.name_scopes", "['']"))
        node.name = "/".join([*scopes[-2:-1], f"{node.op_type}_{number}"])


def _forget_weights(module: nn.Module, program: ONNXProgram) -> None:
    """Empty the weights, which would stay in memory: the rules of onnxscript's optimiser keep the last graph that they saw."""
    for tensor in module.state_dict(keep_vars=True).values():
        tensor.data = tensor.data.new_empty(0)
    for value in program.model.graph.initializers.values():  # transposed copies
        value.const_value = None


def _weight_bytes(module: nn.Module) -> int:
    return sum(tensor.nbytes for tensor in module.state_dict().values())
