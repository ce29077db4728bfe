"""Zip archives of torch.save and torch.jit.save: their directory, and a script's state dict without its code being run.

Part of the confined process: :mod:`clip_export.checkpoints.pickle_reader`.
"""

from __future__ import annotations

import ast
import io
import re
import struct
import zipfile
from collections.abc import Iterator, Mapping
from pathlib import Path
from types import MappingProxyType
from typing import Any, ClassVar

import torch
from torch import Tensor
from torch._weights_only_unpickler import get_globals_in_pkl

from clip_export.checkpoints.pickle_rules import Refused

_LOCAL_HEADER = struct.Struct("<4s22xHH")  # of a zip's record: signature, lengths of its name and its extra field
_MAGIC = b"PK\x03\x04"
_SCRIPT = "constants.pkl"
_DESCRIPTION = "data.pkl"
_NUMBERS = frozenset({"input_resolution", "context_length", "vocab_size"})  # OpenAI's; no weights, and open_clip drops them too
_MOST_DESCRIBED = 2**26  # bytes of everything but tensors; the largest models have a few million
_CLASS = re.compile(r"^class (\w+)\(Module\):\n  __parameters__ = (\[.*?\])\n  __buffers__ = (\[.*?\])\n", re.MULTILINE)


class LeftOut:
    """A value that isn't of the weights: its arguments and its state are dropped."""

    def __init__(self, *arguments: Any) -> None:
        pass

    def __setstate__(self, state: Any) -> None:
        pass


class _Module:
    """One module of a script: attributes by name, of a type whose code is only looked at."""

    type_name: ClassVar[str] = ""
    attributes: Mapping[str, Any] = MappingProxyType({})

    def __setstate__(self, state: Any) -> None:
        self.attributes = state if isinstance(state, dict) else {}


def is_zip(file: Path) -> bool:
    """Return whether torch would take a file for a zip archive, by its first bytes."""
    with file.open("rb") as opened:
        return opened.read(4) == _MAGIC


def is_script(file: Path) -> bool:
    """Return whether a zip archive is TorchScript; check its directory first.

    Raises:
        Refused: if its records are compressed, overlap, are far too large, or are other ones for another reader of zips.
    """
    try:
        with zipfile.ZipFile(file) as archive:
            records = archive.infolist()
    except (zipfile.BadZipFile, NotImplementedError, ValueError) as problem:
        raise Refused(f"its zip archive can't be read ({problem}): download it again") from problem
    names = [record.filename.partition("/")[2] for record in records]
    if _DESCRIPTION not in names:
        held = ", ".join(record.filename for record in records[:3])
        raise Refused(f"it is a zip archive of {held or 'nothing'}, expected one that torch.save writes: unpack it first")
    _check_sizes(records, file.stat().st_size)
    _check_offsets(records, names, file)
    return _SCRIPT in names


def script_state_dict(file: Path) -> dict[str, Tensor]:
    """Return the state dict of a TorchScript archive, as ``torch.jit.load(file).state_dict()`` has it.

    The format is that of torch/csrc/jit/serialization: ``data.pkl`` is a tree of modules with all their attributes; the code
    lists the names of those that are parameters and buffers.
    """
    reader = torch._C.PyTorchFileReader(str(file))
    types = _types(reader)
    wanted = get_globals_in_pkl(io.BytesIO(reader.get_record(_DESCRIPTION)))
    stand_ins: list[Any] = [(type("Module", (_Module,), {"type_name": name}), name) for name in wanted if name in types]
    stand_ins += [
        (LeftOut, name) for name in wanted if name.startswith(("torch.jit._pickle.", "__torch__.")) and name not in types
    ]
    mapped = torch.UntypedStorage.from_file(str(file), False, file.stat().st_size)
    with torch.serialization.safe_globals(stand_ins):
        from torch import _weights_only_unpickler as unpickler

        root = torch.serialization._load(  # type: ignore[no-untyped-call]
            reader, "cpu", unpickler, _DESCRIPTION, overall_storage=mapped, encoding="utf-8"
        )
    if not isinstance(root, _Module):
        raise Refused("it is a TorchScript archive without a module: save the model's state_dict()")
    return {name: tensor for name, tensor in _tensors(root, "", types) if name not in _NUMBERS}


def _types(reader: Any) -> dict[str, tuple[str, ...]]:
    """Return the names of parameters and buffers by type of module."""
    types = {}
    for record in reader.get_all_records():
        if record.startswith("code/") and record.endswith(".py"):
            place = record.removeprefix("code/").removesuffix(".py").replace("/", ".")
            for name, parameters, buffers in _CLASS.findall(reader.get_record(record).decode()):
                types[f"{place}.{name}"] = (*ast.literal_eval(parameters), *ast.literal_eval(buffers))
    return types


def _tensors(module: _Module, prefix: str, types: Mapping[str, tuple[str, ...]]) -> Iterator[tuple[str, Tensor]]:
    for name, value in module.attributes.items():
        if isinstance(value, Tensor) and name in types[module.type_name]:
            yield f"{prefix}{name}", value
        elif isinstance(value, _Module):
            yield from _tensors(value, f"{prefix}{name}.", types)


def _check_sizes(records: list[zipfile.ZipInfo], size: int) -> None:
    described = 0
    for record in records:
        if not record.filename.partition("/")[2].startswith("data/"):
            described += record.file_size
        elif record.compress_type != zipfile.ZIP_STORED:
            raise Refused(f"its record {record.filename} is compressed, torch.save stores tensors as they are: save it again")
    if described > _MOST_DESCRIBED:
        raise Refused(f"it claims {described:,} bytes beside its tensors, expected {_MOST_DESCRIBED:,} at most: is it a bomb?")
    if (stored := sum(record.compress_size for record in records)) > size:
        raise Refused(f"its records claim {stored:,} bytes, the file has {size:,}: download it again")


def _check_offsets(records: list[zipfile.ZipInfo], names: list[str], file: Path) -> None:
    """Compare torch's reading of the directory with Python's: an archive that is two at once is nobody's model."""
    reader: Any = torch._C.PyTorchFileReader(str(file))
    same = sorted(reader.get_all_records()) == sorted(names) and len({*names}) == len(names)
    with file.open("rb") as opened:
        for record, name in zip(records, names, strict=True) if same else ():
            opened.seek(record.header_offset)
            signature, *lengths = _LOCAL_HEADER.unpack(opened.read(_LOCAL_HEADER.size))
            begin = record.header_offset + _LOCAL_HEADER.size + sum(lengths)
            same = same and signature == _MAGIC and reader.get_record_offset(name) == begin
    if not same:
        raise Refused("its zip archive has two directories that differ: download it again from its author")
