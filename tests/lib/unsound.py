"""A published encoder made to answer wrongly for some of its items."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import onnx
from onnx import TensorProto, helper, numpy_helper

FACTORS = {"zeros": 0.0, "nan": np.nan, "inf": np.inf, "long": 2.0, "short": 0.9}
"""Factor of an item's embedding by the kind of fault."""


def spoil(model: Path, table: np.ndarray) -> None:
    """Multiply each embedding with table[key]: key is an image's first byte, or a text's first token behind the start."""
    graph = onnx.load(model)
    [source], [output] = graph.graph.input, graph.graph.output
    for node in graph.graph.node:
        node.output[:] = ["sound" if name == output.name else name for name in node.output]
    is_text = source.type.tensor_type.elem_type == TensorProto.INT32
    steps = [1] if is_text else [0, 0, 0]
    constants = {"table": table.astype(np.float32), "axis": np.array([1]), **{f"at{n}": np.array(n) for n in {*steps}}}
    graph.graph.initializer.extend(numpy_helper.from_array(np.asarray(one), name) for name, one in constants.items())
    last = source.name
    for n, position in enumerate(steps):
        graph.graph.node.append(helper.make_node("Gather", [last, f"at{position}"], [f"key{n}"], axis=1))
        last = f"key{n}"
    graph.graph.node.extend(
        [
            helper.make_node("Cast", [last], ["key"], to=TensorProto.INT64),
            helper.make_node("Gather", ["table", "key"], ["factor"]),
            helper.make_node("Unsqueeze", ["factor", "axis"], ["column"]),
            helper.make_node("Mul", ["sound", "column"], [output.name]),
        ]
    )
    model.unlink()  # it is a link to the artefact
    onnx.save(graph, model)
