"""Loop of notebooks: a photo is opened, preprocessed and embedded by transformers and torch before the next."""

from collections.abc import Sequence
from pathlib import Path

import numpy as np
import torch
from PIL import Image
from transformers import AutoImageProcessor, AutoModel

from clip_export.evaluation.retrieval import Embeddings

LOOP = "transformers + torch, one by one"


class TorchLoop:
    """The loop over some photos."""

    def __init__(self, model: str, files: Sequence[Path]) -> None:
        self._model = AutoModel.from_pretrained(model).eval()
        self._processor = AutoImageProcessor.from_pretrained(model)  # type: ignore[no-untyped-call]
        self._files = files
        self.processor_name = type(self._processor).__name__

    def __call__(self) -> Embeddings:
        """Return float32 [N, D], unit length."""
        return np.concatenate([self._embedded(file) for file in self._files])

    def _embedded(self, file: Path) -> Embeddings:
        inputs = self._processor(images=Image.open(file).convert("RGB"), return_tensors="pt")
        with torch.inference_mode():
            return torch.nn.functional.normalize(self._model.get_image_features(**inputs).pooler_output).numpy()
