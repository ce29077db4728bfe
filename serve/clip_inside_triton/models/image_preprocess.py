"""Triton model: encoded images -> pixels, and per image an error."""

import json
import os
import warnings
from pathlib import Path

import numpy as np
import triton_python_backend_utils as pb_utils
from PIL import Image

from clip_client.error_tensor import error_tensor
from clip_client.image_preparer import ImagePreparer
from clip_client.origins import origin_tensor
from clip_client.preprocess import Limits
from clip_client.spec import ERROR, IMAGE, ORIGIN, PIXELS, SPEC_FILE, ModelSpec


class TritonPythonModel:
    """Adapts clip_client.image_preparer: image BYTES [N, 1] -> pixels UINT8 [N, S, S, 3], error and origin BYTES [N, 1]."""

    def initialize(self, args):
        """Read the spec beside this file and the limits from the configuration."""
        parameters = json.loads(args["model_config"])["parameters"]
        values = {name: value["string_value"] for name, value in parameters.items()}
        spec, limits = ModelSpec.load(Path(__file__).with_name(SPEC_FILE)), Limits.from_parameters(values)
        self._origin = spec.origin
        threads = len(os.sched_getaffinity(0))
        self._prepare = ImagePreparer(spec, limits, values["preprocessing"], threads, pb_utils.Logger.log_error)
        warnings.filterwarnings("ignore", module="PIL")  # odd metadata isn't worth a line of log for each upload
        Image.MAX_IMAGE_PIXELS = None  # the limits above decide, in place of Pillow's own

    def execute(self, requests):
        """Decode the images of all requests together; one response each."""
        batches = [pb_utils.get_input_tensor_by_name(request, IMAGE).as_numpy().ravel() for request in requests]
        pixels, errors = self._prepare(np.concatenate(batches))
        ends = np.cumsum([len(batch) for batch in batches])[:-1]
        return [
            pb_utils.InferenceResponse(
                [
                    pb_utils.Tensor(PIXELS, part),
                    pb_utils.Tensor(ERROR, error),
                    pb_utils.Tensor(ORIGIN, origin_tensor(self._origin, len(part))),
                ]
            )
            for part, error in zip(np.split(pixels, ends), np.split(error_tensor(errors), ends), strict=True)
        ]

    def finalize(self):
        """Stop the threads."""
        self._prepare.close()
