"""Preparation of batches of images for an encoder, in the published Triton models and in this process."""

from collections.abc import Callable, Iterable
from concurrent.futures import ThreadPoolExecutor

import numpy as np
import numpy.typing as npt

from clip_client.errors import InvalidInput
from clip_client.preprocess import Limits, Preprocessing, preprocess, void_pixels
from clip_client.spec import ModelSpec


class ImagePreparer:
    """Encoded images -> pixels, decoded side by side: Pillow lets go of Python's lock while it decodes and resizes.

    Args:
        spec: of the checkpoint.
        limits: on an image.
        preprocessing: see :func:`clip_client.preprocess.preprocess`.
        threads: most images that are decoded at once.
        report: takes a line about each defect of ours.
    """

    def __init__(
        self, spec: ModelSpec, limits: Limits, preprocessing: Preprocessing, threads: int, report: Callable[[str], object]
    ) -> None:
        self._spec, self._limits, self._preprocessing, self._report = spec, limits, preprocessing, report
        self._void = void_pixels(spec.image_size)
        self._pool = ThreadPoolExecutor(threads, thread_name_prefix="decoder")

    def __call__(self, images: Iterable[bytes]) -> tuple[npt.NDArray[np.uint8], list[str]]:
        """Return pixels uint8 [N, S, S, 3], void where an image is bad, and N errors, empty where it is good."""
        pixels, errors = zip(*self._pool.map(self._prepared, images), strict=True)
        return np.stack(pixels), list(errors)

    def close(self) -> None:
        """Stop the threads."""
        self._pool.shutdown(cancel_futures=True)

    def _prepared(self, image: bytes) -> tuple[npt.NDArray[np.uint8], str]:
        try:
            return preprocess(image, self._spec, self._limits, self._preprocessing), ""
        except InvalidInput as problem:
            return self._void, str(problem)
        except Exception as problem:  # a defect of ours must not fail the neighbours either
            self._report(f"preprocessing failed: {problem!r}")
            return self._void, f"the image can't be preprocessed: {problem!r}"
