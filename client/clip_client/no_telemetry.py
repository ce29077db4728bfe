"""Engines tell their makers nothing of their use: nobody here agreed to it.

ONNX Runtime and OpenVINO begin to when they are imported, in threads of their own, beside which a fork may hang for ever.
"""

import os
import sys
from typing import Any


def forbid() -> None:
    """Keep the engines from telling, in this process and in those that it starts; call it before they are imported."""
    os.environ["ORT_DISABLE_TELEMETRY"] = "1"
    modules: dict[str, Any] = sys.modules
    modules.setdefault("openvino_telemetry", None)  # as if that package weren't installed
