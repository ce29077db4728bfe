"""Triton's OpenVINO backend, with and without Docker.

The native one runs batches of max_batch_size only, a single request padded to that, and can't be told to compute in float32.
"""

import openvino
from stand_in import StandIn

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

    default_file = "model.xml"

    def open(self, path, parameters):
        """Compile the model."""
        properties = {name: parameters[name] for name in _PROPERTIES if name in parameters}
        request = openvino.Core().compile_model(path, "CPU", properties).create_infer_request()

        def run(name, batch, outputs):
            results = request.infer({name: batch})
            return [results[output] for output in outputs]

        return run
