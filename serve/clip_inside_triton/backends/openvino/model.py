"""Triton's OpenVINO backend, with and without Docker.

The native one runs batches of max_batch_size only, a single request padded to that, and can't be told to compute in float32.
"""

import ctypes
import mmap
from pathlib import Path

import numpy as np
import openvino
from stand_in import StandIn

from clip_client.model_repository import MODEL_FILES

_PROPERTIES = (
    "NUM_STREAMS",
    "PERFORMANCE_HINT",
    "INFERENCE_PRECISION_HINT",
    "INFERENCE_NUM_THREADS",
    "COMPILATION_NUM_THREADS",
    "CPU_RUNTIME_CACHE_CAPACITY",
)


class TritonPythonModel(StandIn):
    """Runs ``model.xml`` on the CPU, with OpenVINO's own properties as parameters."""

    default_file = MODEL_FILES["openvino"][0]

    def open(self, path, parameters):
        """Compile the model."""
        properties = {name: parameters[name] for name in _PROPERTIES if name in parameters}
        request = openvino.Core().compile_model(path, "CPU", properties).create_infer_request()
        request.infer([np.zeros(_smallest(port), port.element_type.to_dtype()) for port in request.model_inputs])
        _unload(path.with_suffix(".bin"))

        def run(name, batch, outputs):
            results = request.infer({name: batch})
            return [results[output] for output in outputs]

        return run


def _smallest(port):
    """Return a shape that an input accepts, with 1 for dynamic sides."""
    return [size.min_length or 1 for size in port.partial_shape]


def _unload(file):
    """Free the pages of a mapped file: at the first inference OpenVINO has copied its weights, and would keep both copies.

    Pages that are read again come from the file.
    """
    libc = ctypes.CDLL(None)
    for line in Path("/proc/self/maps").read_text(encoding="utf-8").splitlines():
        if line.endswith(f" {file.resolve()}"):
            start, end = (int(address, 16) for address in line.split()[0].split("-"))
            libc.madvise(ctypes.c_void_p(start), ctypes.c_size_t(end - start), mmap.MADV_DONTNEED)
