"""Triton's OpenVINO backend, with and without Docker.

The native one runs batches of max_batch_size only, a single request padded to that, and can't be told to compute in float32.
"""

from stand_in import StandIn


class TritonPythonModel(StandIn):
    """Runs ``model.xml`` on the CPU, see clip_client/engines/openvino.py."""

    backend = "openvino"
