"""Growing .npy file: numpy leaves room in the header for the number of rows, which is written last."""

from pathlib import Path

import numpy as np

from clip_search.arrays import Floats


class NpyFile:
    """Vectors [N, D] in float16."""

    def __init__(self, path: Path, size: int) -> None:
        self.rows, self._size = 0, size
        self._file = path.open("wb")
        self._write_header()

    def append(self, vectors: Floats) -> None:
        """Append vectors [n, D]."""
        self._file.write(np.ascontiguousarray(vectors, "<f2").tobytes())
        self.rows += len(vectors)

    def close(self) -> None:
        """Write the number of rows into the header."""
        self._file.seek(0)
        self._write_header()
        self._file.close()

    def _write_header(self) -> None:
        header = {"descr": "<f2", "fortran_order": False, "shape": (self.rows, self._size)}
        np.lib.format.write_array_header_1_0(self._file, header)
