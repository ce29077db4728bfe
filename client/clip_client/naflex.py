"""Pictures of any shape as one square of patches, for SigLIP 2 NaFlex.

The picture is resized to as many whole patches as are allowed, near its own shape. They lie one behind the other in a square
of patches, beside which one more row of pixels tells their rows and columns: pixels keep one size for all pictures.
"""

import math

import numpy as np
import numpy.typing as npt

from clip_client.spec import ModelSpec

_PRECISION = 1e-5  # of the scale that transformers searches for


def fitted(size: tuple[int, int], spec: ModelSpec) -> tuple[int, int]:
    """Return (width, height) in whole patches, as transformers' ``get_image_size_for_max_num_patches`` finds them."""
    low, high = _PRECISION / 10, 100.0
    while high - low >= _PRECISION:
        scale = (low + high) / 2
        width, height = (_patches(edge, scale, spec.patch_size) for edge in size)
        low, high = (scale, high) if width * height <= spec.resize_size else (low, scale)
    width, height = (_patches(edge, low, spec.patch_size) * spec.patch_size for edge in size)
    return width, height


def packed(picture: npt.NDArray[np.uint8], spec: ModelSpec) -> npt.NDArray[np.uint8]:
    """Lay the patches of a fitted picture uint8 [H, W, 3] into the square uint8 [S, S, 3], row by row of the picture."""
    patch, across = spec.patch_size, spec.image_size // spec.patch_size
    rows, columns = picture.shape[0] // patch, picture.shape[1] // patch
    patches = np.zeros((across * across, patch, patch, 3), np.uint8)
    patches[: rows * columns] = picture.reshape(rows, patch, columns, patch, 3).swapaxes(1, 2).reshape(-1, patch, patch, 3)
    square = np.zeros((spec.image_size, spec.image_size, 3), np.uint8)
    square[:-1, :-1] = patches.reshape(across, across, patch, patch, 3).swapaxes(1, 2).reshape(across * patch, -1, 3)
    for pixel, count in enumerate((rows, columns)):
        square[-1, pixel, :2] = divmod(count - 1, 256)
    return square


def unpacked(square: npt.NDArray[np.uint8], spec: ModelSpec) -> npt.NDArray[np.uint8]:
    """Return the picture uint8 [H, W, 3] of a square uint8 [S, S, 3]."""
    patch, across = spec.patch_size, spec.image_size // spec.patch_size
    rows, columns = (1 + 256 * int(high) + int(low) for high, low, _ in square[-1, :2])
    patches = square[:-1, :-1].reshape(across, patch, across, patch, 3).swapaxes(1, 2).reshape(-1, patch, patch, 3)
    picture = patches[: rows * columns].reshape(rows, columns, patch, patch, 3).swapaxes(1, 2)
    return picture.reshape(rows * patch, columns * patch, 3)


def _patches(edge: int, scale: float, patch_size: int) -> int:
    return max(1, math.ceil(edge * scale / patch_size))
