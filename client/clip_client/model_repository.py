"""Layout of a model repository: names of its folder, of its models, and of their files."""

from pathlib import Path

from clip_client.spec import Tower, ensemble

FOLDER = Path("model_repository")
"""Folder of the repository, by default in the current one."""

VERSION = "1"
"""Folder of a model's only version."""

PUBLISH = "publish a checkpoint with: clipserve export --model FOLDER"
"""Next step where a repository can't be opened."""

CONFIG_FILE = "config.pbtxt"

MODEL_FILES: dict[str, tuple[str, ...]] = {
    "python": ("model.py",),
    "onnxruntime": ("model.onnx",),
    "openvino": ("model.xml", "model.bin"),
    "tensorrt": ("model.plan",),
}
"""Files that a backend opens where the configuration names none."""

BACKEND, NUMBER = "backend", "version"
"""Parameters of models that lead to a version: its encoder's backend, its number."""

THREADS = {"onnxruntime": "intra_op_thread_count", "openvino": "INFERENCE_NUM_THREADS"}
"""Parameter for the number of threads by backend, as the native ones document it."""

PREPARATION: dict[Tower, str] = {"image": "preprocess", "text": "tokenize"}
ENCODER = "encoder"


def preparer(name: str, tower: Tower) -> str:
    """Return the name of the model in front of an encoder: ``clip_image_preprocess``, ``clip_text_tokenize``."""
    return f"{ensemble(name, tower)}_{PREPARATION[tower]}"


def encoder(name: str, tower: Tower) -> str:
    """Return the name of an encoder model: ``clip_image_encoder``, ``clip_text_encoder``."""
    return f"{ensemble(name, tower)}_{ENCODER}"


def models(name: str, tower: Tower) -> tuple[str, str, str]:
    """Return the names of a tower's models: ensemble, preparer, encoder."""
    return ensemble(name, tower), preparer(name, tower), encoder(name, tower)
