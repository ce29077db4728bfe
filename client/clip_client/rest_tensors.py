"""Bodies of inference over HTTP: JSON, and the tensors as bytes behind it.

The format is that of the extension "binary data" of the KServe protocol, version 2, as Triton documents it.
"""

from __future__ import annotations

import json
import struct
from collections.abc import Sequence
from typing import Any

import numpy as np
import numpy.typing as npt

from clip_client.connection import Rows

JSON_LENGTH = "Inference-Header-Content-Length"
"""Header with the number of bytes that are JSON."""

_LENGTH_BYTES = 4  # in front of a string

_DTYPES: dict[str, str] = {"FP32": "<f4", "INT32": "<i4", "INT64": "<i8", "UINT8": "u1"}


def request_body(rows: Rows, name: str, outputs: Sequence[str]) -> tuple[bytes, int]:
    """Return a body, and the number of its bytes that are JSON."""
    if isinstance(rows, np.ndarray):
        shape, datatype, content = list(rows.shape), "UINT8", rows.tobytes()
    else:
        shape, datatype = [len(rows), 1], "BYTES"
        content = b"".join(part for row in rows for part in (struct.pack("<I", len(row)), row))
    described = {
        "inputs": [{"name": name, "shape": shape, "datatype": datatype, "parameters": {"binary_data_size": len(content)}}],
        "outputs": [{"name": output, "parameters": {"binary_data": True}} for output in outputs],
    }
    head = json.dumps(described).encode()
    return head + content, len(head)


def answered_tensors(body: bytes, json_length: str | None, outputs: Sequence[str]) -> list[npt.NDArray[Any]]:
    """Return the outputs of an answer in order; raise ValueError if it isn't one."""
    length = len(body) if json_length is None else int(json_length)
    described, start = json.loads(body[:length])["outputs"], length
    tensors: dict[str, npt.NDArray[Any]] = {}
    for output in described:
        size = int(output["parameters"]["binary_data_size"])
        if not 0 <= size <= len(body) - start:
            raise ValueError(f"{output['name']} has {size} bytes, {len(body) - start} are left")
        tensors[output["name"]] = _tensor(body[start : start + size], output["datatype"], output["shape"])
        start += size
    return [tensors[output] for output in outputs]


def _tensor(content: bytes, datatype: str, shape: Sequence[int]) -> npt.NDArray[Any]:
    if datatype != "BYTES":
        return np.frombuffer(content, _DTYPES[datatype]).reshape(shape)
    strings, start = [], 0
    while start < len(content):
        if len(content) - start < _LENGTH_BYTES:
            raise ValueError("the length of a string goes beyond the end")
        (size,) = struct.unpack_from("<I", content, start)
        strings.append(content[start + _LENGTH_BYTES : start + _LENGTH_BYTES + size])
        start += _LENGTH_BYTES + size
    if start != len(content):
        raise ValueError("a string goes beyond the end")
    return np.array(strings, np.object_).reshape(shape)
