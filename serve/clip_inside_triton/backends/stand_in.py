"""Base of the stand-ins for native backends: reads the configuration, joins requests, splits results."""

import json
from pathlib import Path

import numpy as np
import triton_python_backend_utils as pb_utils

from clip_client import engines
from clip_client.model_repository import MODEL_FILES
from clip_client.spec import SPEC_FILE


class StandIn:
    """A Triton Python-based backend around one engine; a subclass names the ``backend``."""

    backend: str

    @staticmethod
    def auto_complete_config(config):
        """Return the published configuration, which is whole."""
        return config

    def initialize(self, args):
        """Open the model of this version with the configuration's parameters."""
        config = json.loads(args["model_config"])
        file = config.get("default_model_filename") or MODEL_FILES[self.backend][0]
        parameters = {name: parameter["string_value"] for name, parameter in config["parameters"].items()}
        [sent], [answered] = config["input"], config["output"]
        self._input, self._output = sent["name"], answered["name"]
        folder = Path(args["model_repository"]) / args["model_version"]
        spec = json.loads((folder / SPEC_FILE).read_text(encoding="utf-8"))
        self._longest = max(int(sent["dims"][0]), spec["context_length"])
        self._encode = engines.opened(self.backend, folder / file, parameters)

    def execute(self, requests):
        """Run all requests as one batch; one response each, and none fails because of another."""
        batches = [pb_utils.get_input_tensor_by_name(request, self._input).as_numpy() for request in requests]
        try:
            return self._as_one(batches)
        except Exception:
            return [self._alone(batch) for batch in batches]

    def _as_one(self, batches):
        for batch in batches:
            self._check(batch)
        embeddings = self._encode(batches[0] if len(batches) == 1 else _joined(batches))
        ends = np.cumsum([len(batch) for batch in batches])[:-1]
        return [pb_utils.InferenceResponse([pb_utils.Tensor(self._output, part)]) for part in np.split(embeddings, ends)]

    def _alone(self, batch):
        try:
            [response] = self._as_one([batch])
        except Exception as problem:
            return pb_utils.InferenceResponse(error=pb_utils.TritonError(f"{self._input} can't be embedded: {problem}"))
        return response

    def _check(self, batch):
        """Refuse an empty batch, and one so long that it would pad its neighbours beyond measure."""
        if not batch.size or batch.shape[1] > self._longest:
            raise ValueError(f"got an empty, overflowing or too long shape, expected [N, L] with L from 1 to {self._longest}")


def _joined(batches):
    """Join several batches to one; shorter texts are filled up with token 0, behind their end."""
    longest = max(batch.shape[1] for batch in batches)
    return np.concatenate([_filled(batch, longest) for batch in batches])


def _filled(batch, length):
    missing = length - batch.shape[1]
    return np.pad(batch, ((0, 0), (0, missing))) if missing else batch
