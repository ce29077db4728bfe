"""What the stand-ins for native backends share: reading the configuration, joining requests, splitting results."""

import json
from pathlib import Path

import numpy as np
import triton_python_backend_utils as pb_utils


class StandIn:
    """A Triton Python-based backend around one engine.

    A subclass names its ``default_file`` and gives ``open(path, parameters)``, which returns a function from an input name, a
    whole batch and output names to the outputs.
    """

    default_file: str

    @staticmethod
    def auto_complete_config(config):
        """Nothing to add: the published configuration is whole."""
        return config

    def initialize(self, args):
        """Open the model of this version with the configuration's parameters."""
        config = json.loads(args["model_config"])
        file = config.get("default_model_filename") or self.default_file
        parameters = {name: parameter["string_value"] for name, parameter in config["parameters"].items()}
        self._input = config["input"][0]["name"]
        self._outputs = [output["name"] for output in config["output"]]
        self._run = self.open(Path(args["model_repository"]) / args["model_version"] / file, parameters)

    def execute(self, requests):
        """Run all requests as one batch; one response each."""
        batches = [pb_utils.get_input_tensor_by_name(request, self._input).as_numpy() for request in requests]
        whole = batches[0] if len(batches) == 1 else _joined(batches)
        results = self._run(self._input, whole, self._outputs)
        ends = np.cumsum([len(batch) for batch in batches])[:-1]
        parts = zip(*(np.split(result, ends) for result in results), strict=True)
        return [
            pb_utils.InferenceResponse([pb_utils.Tensor(*named) for named in zip(self._outputs, part, strict=True)])
            for part in parts
        ]


def _joined(batches):
    """One batch of several; shorter texts are filled up with token 0, behind their end."""
    longest = max(batch.shape[1] for batch in batches)
    return np.concatenate([_filled(batch, longest) for batch in batches])


def _filled(batch, length):
    missing = length - batch.shape[1]
    return np.pad(batch, ((0, 0), (0, missing))) if missing else batch
