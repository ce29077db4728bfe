"""Stand-in for Triton's ONNX Runtime backend where no native one is installed; reads the same config.pbtxt."""

import onnxruntime
from stand_in import StandIn

from clip_client.model_repository import MODEL_FILES

_THREADS = {"intra_op_thread_count": "intra_op_num_threads", "inter_op_thread_count": "inter_op_num_threads"}


class TritonPythonModel(StandIn):
    """Runs ``model.onnx`` on the CPU, with the thread counts that the native backend documents."""

    default_file = MODEL_FILES["onnxruntime"][0]

    def open(self, path, parameters):
        """Make a session."""
        options = onnxruntime.SessionOptions()
        for name, option in _THREADS.items():
            if name in parameters:
                setattr(options, option, int(parameters[name]))
        session = onnxruntime.InferenceSession(path, options, ["CPUExecutionProvider"])
        return lambda name, batch, outputs: session.run(outputs, {name: batch})
