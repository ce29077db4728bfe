"""Client in the shape of a ``SentenceTransformer``, for its evaluators and utilities.

>>> from sentence_transformers.sentence_transformer.evaluation import TripletEvaluator
>>> TripletEvaluator(anchors, positives, negatives)(SentenceEncoder(clip))
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

from sentence_transformers.util import cos_sim, pairwise_cos_sim

from clip_client.clip import Clip
from clip_client.errors import InvalidInput

_WITHOUT_EFFECT: Mapping[str, tuple[Any, ...]] = {
    "device": (None, "cpu"),
    "output_value": ("sentence_embedding",),
    "pool": (None,),
    "precision": (None, "float32"),
    "prompt": (None, ""),
    "prompt_name": (None, "query", "document"),
    "truncate_dim": (None,),
}
"""Options of ``SentenceTransformer.encode`` that a served checkpoint has no use for, and the values that mean so."""


@dataclass
class Evaluations:
    """Metrics by name that evaluators report, in the place of a model card."""

    metrics: dict[str, float] = field(default_factory=dict)

    def set_evaluation_metrics(self, evaluator: Any, metrics: dict[str, float], epoch: int = 0, step: int = 0) -> None:
        """Keep an evaluator's metrics."""
        self.metrics.update(metrics)


class SentenceEncoder:
    """A client with those methods of ``SentenceTransformer`` that don't need weights.

    Args:
        clip: the client.

    Attributes:
        model_card_data: metrics of the evaluators that were run.
    """

    similarity_fn_name = "cosine"
    device = "cpu"
    """Place of the tensors that are returned."""

    def __init__(self, clip: Clip) -> None:
        self._clip = clip
        self.prompts = {"query": "", "document": ""}
        self.model_card_data = Evaluations()

    def encode(self, inputs: Any, **options: Any) -> Any:
        """Embed texts and images, as :meth:`clip_client.Clip.encode`.

        Raises:
            InvalidInput: an input can't be embedded, or an option asks for something that a served checkpoint doesn't do.
        """
        for name, accepted in _WITHOUT_EFFECT.items():
            value = options.pop(name, accepted[0])
            if value not in accepted:
                raise InvalidInput(f"{name} is {value!r}: expected {' or '.join(map(repr, accepted))}")
        try:
            return self._clip.encode(inputs, **options)
        except TypeError as problem:
            raise InvalidInput(f"{problem}: expected the options of Clip.encode") from problem

    encode_query = encode_document = encode

    def similarity(self, embeddings1: Any, embeddings2: Any) -> Any:
        """Return cosines of all pairs, a tensor [N, M]."""
        return cos_sim(embeddings1, embeddings2)

    def similarity_pairwise(self, embeddings1: Any, embeddings2: Any) -> Any:
        """Return cosines of each embedding with the one at its position, a tensor [N]."""
        return pairwise_cos_sim(embeddings1, embeddings2)

    def get_embedding_dimension(self) -> int:
        """Return the number of dimensions."""
        return self._clip.spec.embedding_size

    get_sentence_embedding_dimension = get_embedding_dimension
