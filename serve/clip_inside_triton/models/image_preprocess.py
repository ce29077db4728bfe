"""Triton model: encoded images -> pixels, and per image an error."""

import json
import os
import warnings
from pathlib import Path

import numpy as np
import triton_python_backend_utils as pb_utils
from PIL import Image

from clip_client.image_preparer import ImagePreparer
from clip_client.preprocess import Limits
from clip_client.request_lines import RequestLines
from clip_client.spec import IMAGE, PIXELS, SPEC_FILE, ModelSpec
from clip_client.step_tensors import told_tensors


class TritonPythonModel:
    """Adapts clip_client.image_preparer: image BYTES [N, 1] -> pixels UINT8 [N, S, S, 3], and what is told."""

    def initialize(self, args):
        """Read the spec beside this file and the limits from the configuration."""
        parameters = json.loads(args["model_config"])["parameters"]
        values = {name: value["string_value"] for name, value in parameters.items()}
        spec, limits = ModelSpec.load(Path(__file__).with_name(SPEC_FILE)), Limits.from_parameters(values)
        self._origin = spec.origin
        threads = len(os.sched_getaffinity(0))
        self._prepare = ImagePreparer(spec, limits, values["preprocessing"], threads, pb_utils.Logger.log_error)
        self._lines = RequestLines("preprocess", pb_utils.Logger.log_info)
        warnings.filterwarnings("ignore", module="PIL")  # odd metadata isn't worth a line of log for each upload
        Image.MAX_IMAGE_PIXELS = None  # the limits above decide, in place of Pillow's own

    def execute(self, requests):
        """Decode the images of all requests together; one response each."""
        with self._lines.of(requests):
            return self._prepared(requests)

    def _prepared(self, requests):
        batches = [pb_utils.get_input_tensor_by_name(request, IMAGE).as_numpy().ravel() for request in requests]
        images, ends = np.concatenate(batches), np.cumsum([len(batch) for batch in batches])[:-1]
        pixels, errors = self._prepare(images)
        tensors = {PIXELS: pixels, **told_tensors(images, errors, self._origin, pixels)}
        parts = {name: np.split(tensor, ends) for name, tensor in tensors.items()}
        return [
            pb_utils.InferenceResponse([pb_utils.Tensor(name, part[n]) for name, part in parts.items()])
            for n in range(len(requests))
        ]

    def finalize(self):
        """Stop the threads."""
        self._prepare.close()
