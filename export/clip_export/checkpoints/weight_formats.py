"""Kinds of weight files: pickles in their parts, and formats that nothing here reads."""

from __future__ import annotations

import json
import re
from collections.abc import Mapping
from pathlib import Path

from clip_client.errors import InvalidInput

INDEX = ".index.json"
"""End of the name of a list of parts."""

_PART = re.compile(r"(?P<stem>.+)-(?P<number>\d{5})-of-(?P<count>\d{5})(?P<suffix>\.\w+)")
_MOST_PARTS = 1000

_TRANSFORMERS_4 = "pip install 'transformers<5', AutoModel.from_pretrained(FOLDER, from_{}=True).save_pretrained(OTHER)"
_BY_SUFFIX = {
    ".h5": f"weights of TensorFlow: convert them, {_TRANSFORMERS_4.format('tf')}",
    ".msgpack": f"weights of Flax: convert them, {_TRANSFORMERS_4.format('flax')}",
    ".npz": "arrays of JAX: look for the checkpoint's conversion to torch",
    ".onnx": "an exported graph: pass the checkpoint that it was made from",
    ".gguf": "quantized weights: pass the checkpoint that they were made from",
}
FOREIGN = tuple(_BY_SUFFIX)
"""Suffixes of weights that nothing here reads."""

_ZIP_OR_PICKLE = (b"PK\x03\x04", b"\x80")
_BY_CONTENT: Mapping[bytes, str] = {
    b"\x89HDF": _BY_SUFFIX[".h5"],
    b"GGUF": _BY_SUFFIX[".gguf"],
    b"version https://git-lfs": "a pointer of Git LFS, not the weights: run git lfs pull",
    b"\x1f\x8b": "compressed by gzip: unpack it",
    b"7z\xbc\xaf": "compressed by 7z: unpack it",
    b"BZh": "compressed by bzip2: unpack it",
    b"\xfd7zXZ": "compressed by xz: unpack it",
    b"\x28\xb5\x2f\xfd": "compressed by zstd: unpack it",
    b"PK\x05\x06": "an empty zip archive: download it again",
    b"<": "a page, not weights: download it again, perhaps with a token",
    b"{": "JSON, not weights: download it again",
}
_TAR_AT, _TAR = 257, b"ustar"


def parts(source: Path) -> list[Path]:
    """Return the files of one model, in order: a file alone, or all that belong to a part or to a list of parts.

    Raises:
        InvalidInput: if one is missing, is no file, or is of a kind that isn't read.
    """
    files = _listed(source) if source.name.endswith(INDEX) else _numbered(source)
    for file in files:
        if not file.is_file():  # nothing that would block, such as a pipe, is opened
            raise InvalidInput(f"{source.parent} has no file {file.name}: download the checkpoint again")
        if reason := foreign(file):
            raise InvalidInput(f"{file} is {reason}")
    return files


def foreign(file: Path) -> str:
    """Return the kind of a file that isn't a pickle of torch's, and what to do; empty for a pickle."""
    if file.suffix in _BY_SUFFIX:
        return _BY_SUFFIX[file.suffix]
    with file.open("rb") as opened:
        begin = opened.read(_TAR_AT + len(_TAR))
    if not begin:
        return "empty: download it again"
    if begin[_TAR_AT:] == _TAR:
        return "a tar archive: unpack it; a checkpoint of torch 0.1 has to be saved again with torch.save"
    if begin[8:9] == b"{" and not begin.startswith(_ZIP_OR_PICKLE):
        return "safetensors by its content: name it .safetensors"
    return next((reason for magic, reason in _BY_CONTENT.items() if begin.startswith(magic)), "")


def _numbered(source: Path) -> list[Path]:
    part = _PART.fullmatch(source.name)
    if not part:
        return [source]
    count = min(int(part["count"]), _MOST_PARTS)
    return [source.with_name(f"{part['stem']}-{n:05}-of-{part['count']}{part['suffix']}") for n in range(1, count + 1)]


def _listed(index: Path) -> list[Path]:
    try:
        places = json.loads(index.read_text(encoding="utf-8"))["weight_map"].values()
        names = sorted({*places})
        if not names or len(names) > _MOST_PARTS or any(Path(name).name != name for name in names):
            raise ValueError("expected names of files beside it")
    except (OSError, ValueError, TypeError, KeyError, AttributeError, RecursionError) as problem:
        raise InvalidInput(f"{index} isn't a list of a checkpoint's parts ({problem}): is the file whole?") from problem
    return [index.with_name(name) for name in names]
