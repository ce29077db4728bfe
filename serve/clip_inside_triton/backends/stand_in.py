"""Base of the stand-ins for native backends: reads the configuration, joins requests, splits results."""

import json
from pathlib import Path

import numpy as np
import triton_python_backend_utils as pb_utils

from clip_client import engines
from clip_client.error_tensor import error_tensor
from clip_client.model_repository import MODEL_FILES
from clip_client.origins import origin_tensor
from clip_client.spec import ERROR, ORIGIN, SPEC_FILE, TEXT, TOKENIZER_FILE, ModelSpec
from clip_client.tokens import Tokenizer


class StandIn:
    """A Triton Python-based backend around one engine; a subclass names the ``backend``.

    Where the configuration has an input for texts, a request brings texts or tokens, and texts are tokenised here: the
    ensemble then needs no step before this one.
    """

    backend: str

    @staticmethod
    def auto_complete_config(config):
        """Return the published configuration, which is whole."""
        return config

    def initialize(self, args):
        """Open the model of this version with the configuration's parameters, and the tokenizer beside it if texts come."""
        config = json.loads(args["model_config"])
        file = config.get("default_model_filename") or MODEL_FILES[self.backend][0]
        parameters = {name: parameter["string_value"] for name, parameter in config["parameters"].items()}
        inputs, [self._output, *told] = ({tensor["name"]: tensor for tensor in config["input"]}, _names(config["output"]))
        takes_texts = inputs.pop(TEXT, None) is not None
        [(self._input, sent)] = inputs.items()
        folder = Path(args["model_repository"]) / args["model_version"]
        spec = ModelSpec.load(folder / SPEC_FILE)
        self._longest = max(int(sent["dims"][0]), spec.context_length)
        self._origin = spec.origin if ORIGIN in told else ""
        self._tokenize = Tokenizer((folder / TOKENIZER_FILE).read_text(encoding="utf-8"), spec) if takes_texts else None
        self._encode = engines.opened(self.backend, folder / file, parameters)

    def execute(self, requests):
        """Run all requests as one batch; one response each, and none fails because of another."""
        try:
            return self._as_one(requests)
        except Exception:
            return [self._alone(request) for request in requests]

    def _as_one(self, requests):
        batches, errors = self._tokenized(requests) if self._tokenize else (self._sent(requests), [None] * len(requests))
        for batch in batches:
            self._check(batch)
        embeddings = self._encode(batches[0] if len(batches) == 1 else _joined(batches))
        ends = np.cumsum([len(batch) for batch in batches])[:-1]
        return [
            pb_utils.InferenceResponse([pb_utils.Tensor(self._output, part), *self._told(error, len(part))])
            for part, error in zip(np.split(embeddings, ends), errors, strict=True)
        ]

    def _told(self, error, rows):
        """Return the tensors beside the embeddings of a request that brought texts; none for tokens."""
        if error is None:
            return []
        return [error, pb_utils.Tensor(ORIGIN, origin_tensor(self._origin, rows))] if self._origin else [error]

    def _alone(self, request):
        try:
            [response] = self._as_one([request])
        except Exception as problem:
            return pb_utils.InferenceResponse(error=pb_utils.TritonError(f"{self._input} can't be embedded: {problem}"))
        return response

    def _sent(self, requests):
        return [pb_utils.get_input_tensor_by_name(request, self._input).as_numpy() for request in requests]

    def _tokenized(self, requests):
        """Return the tokens of each request, and its tensor of errors; None for the errors of one that brings tokens."""
        tokens = [pb_utils.get_input_tensor_by_name(request, self._input) for request in requests]
        texts = [pb_utils.get_input_tensor_by_name(request, TEXT) for request in requests]
        if any((text is None) == (sent is None) for text, sent in zip(texts, tokens, strict=True)):
            raise ValueError(f"expected either {TEXT} or {self._input}")
        batches = [sent if sent is None else sent.as_numpy() for sent in tokens]
        errors = [None] * len(requests)
        rows = {n: text.as_numpy().ravel() for n, text in enumerate(texts) if text is not None}
        if rows:
            together, messages = self._tokenize(np.concatenate([*rows.values()]))
            ends = np.cumsum([len(row) for row in rows.values()])[:-1]
            for n, part, error in zip(rows, np.split(together, ends), np.split(error_tensor(messages), ends), strict=True):
                batches[n], errors[n] = part, pb_utils.Tensor(ERROR, error)
        return batches, errors

    def _check(self, batch):
        """Refuse an empty batch, and one so long that it would pad its neighbours beyond measure."""
        if not batch.size or batch.shape[1] > self._longest:
            raise ValueError(f"got an empty, overflowing or too long shape, expected [N, L] with L from 1 to {self._longest}")


def _names(tensors):
    return [tensor["name"] for tensor in tensors]


def _joined(batches):
    """Join several batches to one; shorter texts are filled up with token 0, behind their end."""
    longest = max(batch.shape[1] for batch in batches)
    return np.concatenate([_filled(batch, longest) for batch in batches])


def _filled(batch, length):
    missing = length - batch.shape[1]
    return np.pad(batch, ((0, 0), (0, missing))) if missing else batch
