"""Triton model: texts -> tokens, and per text an error."""

from pathlib import Path

import numpy as np
import triton_python_backend_utils as pb_utils

from clip_client.request_lines import RequestLines
from clip_client.spec import SPEC_FILE, TEXT, TOKENIZER_FILE, TOKENS, ModelSpec
from clip_client.step_tensors import told_tensors
from clip_client.tokens import Tokenizer


class TritonPythonModel:
    """Adapts clip_client.tokens: text BYTES [N, 1] -> tokens INT32 [N, L], and what is told."""

    def initialize(self, args):
        """Read the spec and the tokenizer beside this file."""
        folder = Path(__file__).parent
        tokenizer_json = (folder / TOKENIZER_FILE).read_text(encoding="utf-8")
        spec = ModelSpec.load(folder / SPEC_FILE)
        self._origin = spec.origin
        self._tokenize = Tokenizer(tokenizer_json, spec)
        self._lines = RequestLines("tokenize", pb_utils.Logger.log_info)

    def execute(self, requests):
        """Tokenise the texts of all requests together, to one length, so that the encoder can batch them again."""
        with self._lines.of(requests):
            return self._tokenized(requests)

    def _tokenized(self, requests):
        batches = [pb_utils.get_input_tensor_by_name(request, TEXT).as_numpy().ravel() for request in requests]
        texts, ends = np.concatenate(batches), np.cumsum([len(batch) for batch in batches])[:-1]
        tokens, errors = self._tokenize(texts)
        tensors = {TOKENS: tokens, **told_tensors(texts, errors, self._origin, tokens)}
        parts = {name: np.split(tensor, ends) for name, tensor in tensors.items()}
        return [
            pb_utils.InferenceResponse([pb_utils.Tensor(name, part[n]) for name, part in parts.items()])
            for n in range(len(requests))
        ]
