"""Base of the stand-ins for native backends: reads the configuration, joins requests, splits results."""

import json
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import triton_python_backend_utils as pb_utils

from clip_client import engines
from clip_client.checksums import checksum_tensor, of_array
from clip_client.model_repository import MODEL_FILES
from clip_client.request_lines import RequestLines
from clip_client.spec import CHECKSUMS, SPEC_FILE, TEXT, TOKENIZER_FILE, ModelSpec
from clip_client.step_tensors import told_tensors
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
        inputs, [self._output, *self._beside] = (
            {tensor["name"]: tensor for tensor in config["input"]},
            _names(config["output"]),
        )
        takes_texts = inputs.pop(TEXT, None) is not None
        [(self._input, sent)] = inputs.items()
        folder = Path(args["model_repository"]) / args["model_version"]
        spec = ModelSpec.load(folder / SPEC_FILE)
        self._longest = max(int(sent["dims"][0]), spec.context_length)
        self._origin = spec.origin
        self._tokenize = Tokenizer((folder / TOKENIZER_FILE).read_text(encoding="utf-8"), spec) if takes_texts else None
        self._lines = RequestLines(f"encode {self._input}", pb_utils.Logger.log_info)
        self._encode = engines.opened(self.backend, folder / file, parameters)

    def execute(self, requests):
        """Run all requests as one batch; one response each, and none fails because of another."""
        with self._lines.of(requests):
            try:
                return self._as_one(requests)
            except Exception:
                return [self._alone(request) for request in requests]

    def _as_one(self, requests):
        came = self._texts(requests) if self._tokenize else [_Came(sent) for sent in self._sent(requests)]
        batches = [request.batch for request in came]
        for batch in batches:
            self._check(batch)
        embeddings = self._encode(batches[0] if len(batches) == 1 else _joined(batches))
        ends = np.cumsum([len(batch) for batch in batches])[:-1]
        return [
            pb_utils.InferenceResponse([pb_utils.Tensor(self._output, part), *self._told(request, part)])
            for part, request in zip(np.split(embeddings, ends), came, strict=True)
        ]

    def _told(self, request, embeddings):
        """Return the tensors beside the embeddings of a request; of those that brought no texts at most the checksums."""
        if request.texts is not None:
            told = told_tensors(request.texts, request.errors, self._origin, embeddings)
        elif CHECKSUMS in self._beside:
            told = {CHECKSUMS: checksum_tensor(of_array(request.batch), embeddings)}
        else:
            return []
        return [pb_utils.Tensor(name, told[name]) for name in self._beside if name in told]

    def _alone(self, request):
        try:
            [response] = self._as_one([request])
        except Exception as problem:
            return pb_utils.InferenceResponse(error=pb_utils.TritonError(f"{self._input} can't be embedded: {problem}"))
        return response

    def _sent(self, requests):
        return [pb_utils.get_input_tensor_by_name(request, self._input).as_numpy() for request in requests]

    def _texts(self, requests):
        """Return what came, with the tokens of texts."""
        tokens = [pb_utils.get_input_tensor_by_name(request, self._input) for request in requests]
        texts = [pb_utils.get_input_tensor_by_name(request, TEXT) for request in requests]
        if any((text is None) == (sent is None) for text, sent in zip(texts, tokens, strict=True)):
            raise ValueError(f"expected either {TEXT} or {self._input}")
        came = [_Came(sent if sent is None else sent.as_numpy()) for sent in tokens]
        rows = {n: text.as_numpy().ravel() for n, text in enumerate(texts) if text is not None}
        if rows:
            together, messages = self._tokenize(np.concatenate([*rows.values()]))
            start = 0
            for n, row in rows.items():
                end = start + len(row)
                came[n] = _Came(together[start:end], row, messages[start:end])
                start = end
        return came

    def _check(self, batch):
        """Refuse an empty batch, and one so long that it would pad its neighbours beyond measure."""
        if not batch.size or batch.shape[1] > self._longest:
            raise ValueError(f"got an empty, overflowing or too long shape, expected [N, L] with L from 1 to {self._longest}")


@dataclass(frozen=True)
class _Came:
    """Tokens or pixels [N, ...] of a request; for one that brought texts also those [N], and an error each."""

    batch: np.ndarray
    texts: np.ndarray | None = None
    errors: tuple = ()


def _names(tensors):
    return [tensor["name"] for tensor in tensors]


def _joined(batches):
    """Join several batches to one; shorter texts are filled up with token 0, behind their end."""
    longest = max(batch.shape[1] for batch in batches)
    return np.concatenate([_filled(batch, longest) for batch in batches])


def _filled(batch, length):
    missing = length - batch.shape[1]
    return np.pad(batch, ((0, 0), (0, missing))) if missing else batch
