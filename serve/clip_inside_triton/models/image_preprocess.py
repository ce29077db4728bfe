"""Triton model: encoded images -> pixels, and per image an error."""

import json
import os
import warnings
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import numpy as np
import triton_python_backend_utils as pb_utils
from PIL import Image

from clip_client.errors import InvalidInput
from clip_client.preprocess import Limits, preprocess, void_pixels
from clip_client.spec import ERROR, IMAGE, PIXELS, SPEC_FILE, ModelSpec


class TritonPythonModel:
    """Adapts clip_client.preprocess: image BYTES [N, 1] -> pixels UINT8 [N, S, S, 3], error BYTES [N, 1]."""

    def initialize(self, args):
        """Read the spec beside this file and the limits from the configuration."""
        parameters = json.loads(args["model_config"])["parameters"]
        values = {name: value["string_value"] for name, value in parameters.items()}
        self._limits, self._preprocessing = Limits.from_parameters(values), values["preprocessing"]
        self._spec = ModelSpec.load(Path(__file__).with_name(SPEC_FILE))
        self._void = void_pixels(self._spec.image_size)
        # Pillow lets go of Python's lock while it decodes and resizes, so threads use every core.
        self._pool = ThreadPoolExecutor(len(os.sched_getaffinity(0)))
        warnings.filterwarnings("ignore", module="PIL")  # odd metadata isn't worth a line of log for each upload
        Image.MAX_IMAGE_PIXELS = None  # the limits above decide, in place of Pillow's own

    def execute(self, requests):
        """Decode the images of all requests together; one response each."""
        batches = [pb_utils.get_input_tensor_by_name(request, IMAGE).as_numpy().ravel() for request in requests]
        prepared = self._pool.map(self._prepare, (image for batch in batches for image in batch))
        return [_response([next(prepared) for _ in batch]) for batch in batches]

    def finalize(self):
        """Stop the threads."""
        self._pool.shutdown(cancel_futures=True)

    def _prepare(self, image):
        """One image: its pixels and no error, or void pixels and the error."""
        try:
            return preprocess(image, self._spec, self._limits, self._preprocessing), ""
        except InvalidInput as problem:
            return self._void, str(problem)
        except Exception as problem:  # a defect of ours must not fail the neighbours either
            pb_utils.Logger.log_error(f"preprocessing failed: {problem!r}")
            return self._void, f"the image can't be preprocessed: {problem!r}"


def _response(prepared):
    pixels, errors = zip(*prepared, strict=True)
    encoded = np.array([error.encode() for error in errors], np.object_).reshape(-1, 1)
    return pb_utils.InferenceResponse([pb_utils.Tensor(PIXELS, np.stack(pixels)), pb_utils.Tensor(ERROR, encoded)])
