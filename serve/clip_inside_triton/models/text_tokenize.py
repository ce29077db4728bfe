"""Triton model: texts -> tokens, and per text an error."""

from pathlib import Path

import numpy as np
import triton_python_backend_utils as pb_utils

from clip_client.error_tensor import error_tensor
from clip_client.origins import origin_tensor
from clip_client.spec import ERROR, ORIGIN, SPEC_FILE, TEXT, TOKENIZER_FILE, TOKENS, ModelSpec
from clip_client.tokens import Tokenizer


class TritonPythonModel:
    """Adapts clip_client.tokens: text BYTES [N, 1] -> tokens INT32 [N, L], error and origin BYTES [N, 1]."""

    def initialize(self, args):
        """Read the spec and the tokenizer beside this file."""
        folder = Path(__file__).parent
        tokenizer_json = (folder / TOKENIZER_FILE).read_text(encoding="utf-8")
        spec = ModelSpec.load(folder / SPEC_FILE)
        self._origin = spec.origin
        self._tokenize = Tokenizer(tokenizer_json, spec)

    def execute(self, requests):
        """Tokenise the texts of all requests together, to one length, so that the encoder can batch them again."""
        batches = [pb_utils.get_input_tensor_by_name(request, TEXT).as_numpy().ravel() for request in requests]
        tokens, errors = self._tokenize(np.concatenate(batches))
        ends = np.cumsum([len(batch) for batch in batches])[:-1]
        return [
            pb_utils.InferenceResponse(
                [
                    pb_utils.Tensor(TOKENS, part),
                    pb_utils.Tensor(ERROR, error),
                    pb_utils.Tensor(ORIGIN, origin_tensor(self._origin, len(part))),
                ]
            )
            for part, error in zip(np.split(tokens, ends), np.split(error_tensor(errors), ends), strict=True)
        ]
