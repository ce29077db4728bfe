"""Engines tell nobody of their use."""

from __future__ import annotations

import json
import subprocess
import sys

_LOOK = """
import json, os, sys, threading
import clip_export.variants
from clip_export.variants import VARIANTS
import nncf, onnxruntime, openvino
print(json.dumps([
    sys.modules.get("openvino_telemetry") is None,
    os.environ.get("ORT_DISABLE_TELEMETRY"),
    [thread.name for thread in threading.enumerate()],
]))
"""


def test_the_exports_engines_start_no_thread_that_tells() -> None:
    ended = subprocess.run([sys.executable, "-c", _LOOK], capture_output=True, text=True, check=True)
    assert json.loads(ended.stdout.splitlines()[-1]) == [True, "1", ["MainThread"]]
