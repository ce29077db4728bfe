"""Stand-in for Triton's ONNX Runtime backend where no native one is installed; reads the same config.pbtxt."""

from stand_in import StandIn


class TritonPythonModel(StandIn):
    """Runs ``model.onnx`` on the CPU, see clip_client/engines/onnxruntime.py."""

    backend = "onnxruntime"
