"""Code that runs inside Triton, in Triton's own Python environment (numpy 1.26); our processes copy it and never import it.

    models/            ``model.py`` of the published preparers; ``clipserve export`` copies them into the model repository
    backends/          Triton backends in Python for onnxruntime and openvino; ``clipserve serve`` and the container copy them
    start/             modules that every Python process of Triton loads first; ``clipserve serve --install`` copies them
    requirements.txt   packages of that environment

Of our packages only ``clip_client`` can be imported there.
"""

from pathlib import Path

_HERE = Path(__file__).parent

PREPARERS = {"image": _HERE / "models" / "image_preprocess.py", "text": _HERE / "models" / "text_tokenize.py"}
"""``model.py`` in front of each tower's encoder."""

STAND_INS = ("onnxruntime", "openvino")  # folders of `BACKENDS`, each a backend

BACKENDS = _HERE / "backends"
START = sorted((_HERE / "start").glob("*.py"))
REQUIREMENTS = _HERE / "requirements.txt"

TRITON_RELEASE = "24.10"  # release of the tritonserver in the wheel of `REQUIREMENTS`
