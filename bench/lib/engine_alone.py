"""The published engine in this process, without anything around it: preprocessing, then encoding."""

from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import numpy as np
import numpy.typing as npt

from clip_client.cores import cores
from clip_client.preprocess import preprocess
from clip_client.spec import ModelSpec
from clip_export.variants.base import Encoder

BATCH = 32


def embedded(encode: Encoder, spec: ModelSpec, files: Sequence[Path]) -> npt.NDArray[np.float32]:
    """Embed batch after batch, float32 [N, D]: a thread per core preprocesses its photos, one call encodes it."""
    batches = [files[start : start + BATCH] for start in range(0, len(files), BATCH)]
    with ThreadPoolExecutor(cores()) as pool:
        prepared = (list(pool.map(lambda file: preprocess(file.read_bytes(), spec), batch)) for batch in batches)
        return np.concatenate([encode(np.stack(pixels)) for pixels in prepared])
