"""Ways to run an image tower that marqo's study compares (wanliAlex/fast-clip-research on GitHub), each by its own library."""

from __future__ import annotations

import copy
import warnings
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import nn

from clip_client.library_errors import one_line
from clip_export import hardware
from clip_export.variants import named
from clip_export.variants.base import Artefact, Encoder
from clip_export.variants.onnx_fp32 import MODEL_FILE
from lib.checkpoints import Loaded, encoder

ONNX = "onnx-fp32"
SERVED = (ONNX, "openvino-int8", "openvino-int8-merged")
"""Variants of ours beside them, which Triton serves."""

REASONS = {
    "kernl": "its kernels need an NVIDIA GPU of compute capability 8 or more",
    "DeepSpeed": "its kernels for inference need a GPU",
    "Neural Magic": "deepsparse is no longer developed; its gain was for pruned weights",
}
"""Rows of the study that nothing here can run."""


class NotHereError(Exception):
    """A way that this machine can't run; the message is the reason."""


def ways(loaded: Loaded, artifacts: Path) -> Iterator[tuple[str, Encoder | str]]:
    """Yield each way and its encoder, or the reason that there is none."""
    made: dict[str, Callable[[], Encoder]] = {
        "torch": lambda: loaded.encoder("image"),
        "torch-autocast": lambda: _variant(loaded, "torch-bf16"),
        "torch-fp16": lambda: _half(loaded),
        "torch-compile": lambda: _variant(loaded, "torch-compile"),
        "torch-dynamic-int8": lambda: _dynamic(loaded),
        **{name: lambda name=name: _served(artifacts, name) for name in SERVED},  # type: ignore[misc]
        "onnx-optimised": lambda: _optimised(loaded, artifacts),
        "onnx, CUDA": lambda: _on_gpu(artifacts, "CUDAExecutionProvider"),
        "onnx, TensorRT": lambda: _on_gpu(artifacts, "TensorrtExecutionProvider"),
    }
    for name, make in made.items():
        try:
            yield name, make()
        except NotHereError as reason:
            yield name, str(reason)
        except Exception as problem:  # of any of the libraries
            yield name, one_line(problem)
    yield from REASONS.items()


def _variant(loaded: Loaded, name: str) -> Encoder:
    """Return a variant that is only measured."""
    variant = named(name)
    if reason := variant.obstacle():
        raise NotHereError(reason)
    return variant.load(Artefact(Path(), "image", lambda: loaded.towers["image"]))


def _served(artifacts: Path, name: str) -> Encoder:
    if reason := named(name).obstacle():
        raise NotHereError(reason)
    return encoder(artifacts, name, "image")


def _half(loaded: Loaded) -> Encoder:
    """Return torch with weights and arithmetic in float16, on processors that multiply it."""
    if not hardware.cpu_flags() & {"avx512_fp16", "amx_fp16"}:
        raise NotHereError("this processor has neither AVX512_FP16 nor AMX_FP16, and there is no GPU")
    return _encoder(copy.deepcopy(loaded.towers["image"]), torch.float16)


def _dynamic(loaded: Loaded) -> Encoder:
    """Return torch with the weights of linear layers in int8, and activations quantised as they come."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # torch announces torchao as its successor
        quantized = torch.ao.quantization.quantize_dynamic(  # type: ignore[no-untyped-call]
            loaded.towers["image"], {nn.Linear}, torch.qint8
        )
        return _encoder(quantized)


def _encoder(module: nn.Module, dtype: torch.dtype | None = None) -> Encoder:
    def encode(batch: Any) -> Any:
        with torch.inference_mode(), torch.autocast("cpu", dtype or torch.bfloat16, enabled=dtype is not None):
            return module(torch.from_numpy(batch)).float().numpy()

    return encode


def _optimised(loaded: Loaded, artifacts: Path) -> Encoder:
    """Return ONNX Runtime on a graph that its own optimiser for transformers has rewritten."""
    import onnxruntime
    from onnxruntime.transformers import optimizer

    source, target = artifacts / ONNX / "image" / MODEL_FILE, artifacts / "onnx-optimised.onnx"
    attention: Any = next(module for module in loaded.towers["image"].modules() if hasattr(module, "num_heads"))
    heads, width = int(attention.num_heads), int(attention.embed_dim)
    model = optimizer.optimize_model(str(source), "clip", num_heads=heads, hidden_size=width)
    model.save_model_to_file(str(target), use_external_data_format=(target.parent / f"{source.name}.data").exists())
    return _session(onnxruntime.InferenceSession(target, providers=["CPUExecutionProvider"]))


def _on_gpu(artifacts: Path, provider: str) -> Encoder:
    import onnxruntime

    if provider not in onnxruntime.get_available_providers():
        raise NotHereError(f"ONNX Runtime has no {provider} here: that needs an NVIDIA GPU and onnxruntime-gpu")
    return _session(onnxruntime.InferenceSession(artifacts / ONNX / "image" / MODEL_FILE, providers=[provider]))


def _session(session: Any) -> Encoder:
    (entry,) = session.get_inputs()
    return lambda batch: np.asarray(session.run(None, {entry.name: batch})[0])
