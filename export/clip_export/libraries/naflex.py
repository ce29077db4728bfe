"""transformers with SigLIP 2 NaFlex, whose pictures are patches, a mask and a shape."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import numpy.typing as npt
import torch

from clip_export.libraries.base import Answer
from clip_export.libraries.hugging_face import Transformers, opened


class NaflexTransformers(Transformers):
    """A SigLIP 2 NaFlex of transformers."""

    def pictures(self, files: Sequence[bytes]) -> list[Answer]:
        """Embed pictures as the documentation of ``get_image_features`` shows it."""
        inputs = self._processor(images=[opened(file) for file in files], return_tensors="pt")
        with torch.inference_mode():
            embeddings = self._model.get_image_features(**inputs, return_dict=True).pooler_output
        shapes = inputs["spatial_shapes"].tolist()
        pictures = [_joined(row, *shape) for row, shape in zip(inputs["pixel_values"].numpy(), shapes, strict=True)]
        return [Answer(*both) for both in zip(pictures, embeddings.numpy(), strict=True)]


def _joined(patches: npt.NDArray[np.float32], rows: int, columns: int) -> npt.NDArray[np.float32]:
    """Return the picture [3, H, W] of patches [L, P * P * 3]."""
    side = round((patches.shape[1] / 3) ** 0.5)
    grid = patches[: rows * columns].reshape(rows, columns, side, side, 3)
    return grid.transpose(4, 0, 2, 1, 3).reshape(3, rows * side, columns * side)
