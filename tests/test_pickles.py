"""Pickled weights: converted bitwise, once, in a process that can do no harm; anything else in them is refused."""

from __future__ import annotations

import io
import json
import os
import pickle
import re
import shutil
import struct
import subprocess
import sys
import threading
import zipfile
from collections import OrderedDict
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import numpy as np
import open_clips
import pytest
import torch
from safetensors.torch import load_file, save_file
from torch import Tensor, nn

from clip_client import InvalidInput
from clip_export import cli, families
from clip_export.checkpoints import find as checkpoint_files
from clip_export.checkpoints import pickle_process, pickle_reader, pickle_rules, pickles, state_dicts, weight_digest
from clip_export.checkpoints.pickle_process import Outcome
from clip_export.checkpoints.pickle_rules import Refused
from clip_export.checkpoints.pickles import Pickles


def numbers() -> OrderedDict[str, Any]:
    """A state dict of all that people keep in one."""
    torch.manual_seed(0)
    table = torch.randn(7, 4)
    wide = torch.randn(6, 10)
    return OrderedDict(
        {
            "embedding.weight": nn.Parameter(table),
            "head.weight": nn.Parameter(table),
            "a.row": table[2],
            "a.transposed": wide.T,
            "a.part": wide[1:3, ::2],
            "a.expanded": torch.randn(1, 5).expand(3, 5),
            "half": torch.randn(3).half(),
            "brain": torch.randn(3).bfloat16(),
            "double": torch.randn(3, dtype=torch.float64),
            "position_ids": torch.arange(77)[None],
            "mask": torch.tensor([True, False]),
            "scale": torch.tensor(4.6),
            "nothing": torch.empty(0, 3),
            "odd": torch.tensor([float("nan"), float("inf"), -0.0]),
        }
    )


def legacy(content: Any, path: Path) -> None:
    torch.save(content, path, _use_new_zipfile_serialization=False)


def in_process(files: list[Path], output: Path, title: str) -> Outcome:
    """The reader's own work, without a process around it."""
    try:
        return Outcome(tuple(state_dicts.convert(files, output)), True, True)
    except Exception as problem:
        raise InvalidInput(f"{title}: {pickle_reader.told(problem)}") from problem


@pytest.fixture
def quick(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(pickle_process, "convert", in_process)


def same(ours: Mapping[str, Tensor], theirs: Mapping[str, Any]) -> None:
    """Bit by bit, NaN and zeros with a sign too."""
    assert ours.keys() == theirs.keys()
    for name, tensor in theirs.items():
        expected = tensor.detach().contiguous()
        assert (ours[name].dtype, ours[name].shape) == (expected.dtype, expected.shape), name
        assert ours[name].reshape(-1).view(torch.uint8).equal(expected.reshape(-1).view(torch.uint8)), name


def converted(*files: Path, output: Path) -> dict[str, Tensor]:
    state_dicts.convert(files, output)
    return load_file(output)


@pytest.mark.parametrize("save", [torch.save, legacy])
def test_every_kind_of_number_stays_the_same_to_the_bit(save: Callable[[Any, Path], None], tmp_path: Path) -> None:
    save(numbers(), tmp_path / "pytorch_model.bin")
    theirs = torch.load(tmp_path / "pytorch_model.bin", weights_only=True)
    same(converted(tmp_path / "pytorch_model.bin", output=tmp_path / "out.safetensors"), theirs)


WRAPPED: dict[str, Callable[[dict[str, Any]], dict[str, Any]]] = {
    "open_clip's training": lambda plain: {
        "epoch": 3,
        "name": "run",
        "state_dict": {f"module.{name}": tensor for name, tensor in plain.items()},
        "optimizer": {"state": {0: {"step": torch.tensor(1.0), "exp_avg": torch.zeros(3)}}, "param_groups": [{"lr": 1e-3}]},
    },
    "Lightning's": lambda plain: {
        "pytorch-lightning_version": "2.4.0",
        "state_dict": {**{f"model.{name}": tensor for name, tensor in plain.items()}, "loss.scale": torch.ones(1)},
    },
    "DataParallel's": lambda plain: {f"module.{name}": tensor for name, tensor in plain.items()},
    "torch.compile's": lambda plain: {f"_orig_mod.module.{name}": tensor for name, tensor in plain.items()},
    "a loop's with numpy's scalars": lambda plain: {
        "model_state_dict": plain, "best": np.float64(0.3), "seen": np.int64(4), "good": np.bool_(True),
    },
    "a wrapped model of a plain loop": lambda plain: {"model": plain, "lr": 1e-3},
}  # fmt: skip


@pytest.mark.parametrize("kind", WRAPPED)
def test_a_trainers_wrapping_is_taken_off(kind: str, tmp_path: Path) -> None:
    plain = {"a.weight": torch.randn(3, 2), "b.bias": torch.randn(2)}
    torch.save(WRAPPED[kind](plain), tmp_path / "epoch.pt")
    same(converted(tmp_path / "epoch.pt", output=tmp_path / "out.safetensors"), plain)


def test_what_is_left_out_is_told(tmp_path: Path) -> None:
    torch.save({"w": torch.ones(2), "version": 3, "labels": ["a"]}, tmp_path / "model.bin")
    notes = state_dicts.convert([tmp_path / "model.bin"], tmp_path / "out.safetensors")
    assert notes == ["version is no tensor and is left out", "labels is no tensor and is left out"]


def test_parts_are_one_model(quick: None, tmp_path: Path) -> None:
    whole = numbers()
    names = [*whole]
    for number, part in enumerate((names[:5], names[5:]), 1):
        torch.save({name: whole[name] for name in part}, tmp_path / f"pytorch_model-0000{number}-of-00002.bin")
    places = {name: f"pytorch_model-0000{1 + (name in names[5:])}-of-00002.bin" for name in names}
    index = tmp_path / "pytorch_model.bin.index.json"
    index.write_text(json.dumps({"metadata": {}, "weight_map": places}))
    view = Pickles(tmp_path / "kept").converted(index, tmp_path)
    same(load_file(view / "model.safetensors"), whole)
    assert not (view / index.name).exists()
    assert Pickles(tmp_path / "kept").converted(tmp_path / "pytorch_model-00002-of-00002.bin", tmp_path) == view
    (tmp_path / "pytorch_model-00002-of-00002.bin").unlink()
    with pytest.raises(InvalidInput, match=r"has no file pytorch_model-00002-of-00002\.bin: download"):
        Pickles(tmp_path / "kept").converted(index, tmp_path)


class Inner(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.conv = nn.Conv2d(3, 4, 2)
        self.norm = nn.BatchNorm2d(4)
        self.attn_mask = torch.ones(3, 3)  # neither parameter nor buffer

    def forward(self, pixels: Tensor) -> Tensor:
        return self.norm(self.conv(pixels)) + self.attn_mask.sum()


class Scripted(nn.Module):
    """Like OpenAI's archives: halves, a scalar, numbers about itself as buffers, modules of one class twice."""

    def __init__(self) -> None:
        super().__init__()
        self.visual = Inner().half()
        self.other = nn.ModuleList([Inner(), Inner()])
        self.logit_scale = nn.Parameter(torch.tensor(4.6))
        for name, value in (("input_resolution", 224), ("context_length", 77), ("vocab_size", 49408)):
            self.register_buffer(name, torch.tensor(value))

    def forward(self, pixels: Tensor) -> Tensor:
        for layer in self.other:
            pixels = pixels + layer(pixels).sum()
        return pixels * self.logit_scale


def script(path: Path) -> None:
    torch.manual_seed(0)
    torch.jit.save(torch.jit.script(Scripted()), path)


def test_a_scripts_state_dict_is_read_without_running_it(tmp_path: Path) -> None:
    script(tmp_path / "ViT-B-32.pt")
    theirs = torch.jit.load(tmp_path / "ViT-B-32.pt").state_dict()
    theirs = {name: tensor for name, tensor in theirs.items() if "." in name or name == "logit_scale"}
    same(converted(tmp_path / "ViT-B-32.pt", output=tmp_path / "out.safetensors"), theirs)


def test_a_traced_half_too(tmp_path: Path) -> None:
    traced = torch.jit.trace(nn.Sequential(nn.Linear(3, 3), nn.LayerNorm(3)), torch.ones(2, 3))
    torch.jit.save(traced, tmp_path / "traced.pt")
    same(
        converted(tmp_path / "traced.pt", output=tmp_path / "out.safetensors"),
        torch.jit.load(tmp_path / "traced.pt").state_dict(),
    )


def test_open_clips_own_load_gives_the_same(tmp_path: Path) -> None:
    from importlib import import_module

    open_clips.library()
    load = import_module("open_clip.factory").load_state_dict
    script(tmp_path / "script.pt")
    torch.save(WRAPPED["open_clip's training"](numbers()), tmp_path / "epoch_1.pt")
    same(converted(tmp_path / "epoch_1.pt", output=tmp_path / "1.safetensors"), load(str(tmp_path / "epoch_1.pt")))


class Runs:
    """A pickle that calls something when it is loaded."""

    def __init__(self, call: Callable[..., Any], *arguments: Any) -> None:
        self.call, self.arguments = call, arguments

    def __reduce__(self) -> Any:
        return self.call, self.arguments


class Saved(nn.Module):
    """A whole model, saved with its class."""


TRACE = "trace"
HARMFUL: list[tuple[Callable[[Path], Any], str]] = [
    (lambda trace: {"w": torch.ones(1), "x": Runs(os.system, f"touch {trace}")}, r"asks for posix\.system"),
    (lambda trace: {"w": Runs(eval, f"open({str(trace)!r}, 'w')")}, "asks for eval"),
    (lambda trace: Runs(subprocess.Popen, ["touch", str(trace)]), r"asks for (?:commands|subprocess)\.Popen"),
    (lambda trace: {"w": Runs(torch.load, str(trace))}, r"asks for torch\.serialization\.load"),
    (lambda trace: {"w": Runs(torch.jit.load, str(trace))}, r"asks for torch\.jit\._serialization\.load"),
    (lambda trace: {"w": Runs(torch._utils._import_dotted_name, "os.system")}, r"asks for torch\._utils\._import_dotted_name"),
    (lambda trace: {"w": Runs(np.save, str(trace), 1)}, "asks for numpy.save"),
    (lambda trace: {"w": Runs(getattr, torch.ones(1), "tofile")}, "asks for getattr"),
    (lambda trace: Saved(), r"asks for \S*Saved"),
    (lambda trace: {"w": np.ones(3)}, r"asks for numpy\.\S*_reconstruct"),
]


@pytest.mark.parametrize("save", [torch.save, legacy])
@pytest.mark.parametrize(("content", "message"), HARMFUL)
def test_code_is_refused_by_its_name_and_leaves_no_trace(
    content: Callable[[Path], Any], message: str, save: Callable[[Any, Path], None], tmp_path: Path
) -> None:
    save(content(tmp_path / TRACE), tmp_path / "pytorch_model.bin")
    with pytest.raises(Refused, match=rf"it {message}, which weights alone don't need .*: nothing of it was run"):
        converted(tmp_path / "pytorch_model.bin", output=tmp_path / "out.safetensors")
    assert {path.name for path in tmp_path.iterdir()} == {"pytorch_model.bin"}


def rezipped(source: Path, target: Path, change: Callable[[str, bytes], bytes], method: int = zipfile.ZIP_STORED) -> None:
    """Write a zip archive again, with other contents."""
    with zipfile.ZipFile(source) as old, zipfile.ZipFile(target, "w", method) as new:
        for record in old.infolist():
            new.writestr(record.filename, change(record.filename, old.read(record)))


def test_code_in_a_script_is_not_run(tmp_path: Path) -> None:
    script(tmp_path / "script.pt")
    harmful = pickle.dumps(Runs(os.system, f"touch {tmp_path / TRACE}"), 2)
    rezipped(
        tmp_path / "script.pt", tmp_path / "out.pt", lambda name, content: harmful if name.endswith("data.pkl") else content
    )
    with pytest.raises(Refused, match=r"asks for posix\.system"):
        state_dicts.read(tmp_path / "out.pt")
    assert not (tmp_path / TRACE).exists()


def bomb(path: Path) -> None:
    """A thousand times smaller than its tensor."""
    torch.save({"w": torch.zeros(2**20)}, path.with_suffix(".whole"))
    rezipped(path.with_suffix(".whole"), path, lambda name, content: content, zipfile.ZIP_DEFLATED)


def described_bomb(path: Path) -> None:
    """Many megabytes of pickle in a few kilobytes."""
    torch.save({"w": torch.zeros(2)}, path.with_suffix(".whole"))
    with zipfile.ZipFile(path.with_suffix(".whole")) as old, zipfile.ZipFile(path, "w") as new:
        for record in old.infolist():
            described = record.filename.endswith("data.pkl")
            method = zipfile.ZIP_DEFLATED if described else zipfile.ZIP_STORED
            new.writestr(record.filename, old.read(record) + b"\0" * (described * 2**26), method)


def two_at_once(path: Path) -> None:
    """A zip whose second directory hides the first."""
    torch.save({"w": torch.ones(2)}, path)
    other = io.BytesIO()
    torch.save({"w": torch.zeros(2)}, other)
    path.write_bytes(path.read_bytes() + other.getvalue())


def moved_record(path: Path) -> None:
    """A directory that names one record twice."""
    torch.save({"w": torch.ones(2)}, path)
    with pytest.warns(UserWarning, match="Duplicate"), zipfile.ZipFile(path, "a") as archive:
        archive.writestr(next(name for name in archive.namelist() if name.endswith("data/0")), b"\0" * 8)


def zip_in_zip(path: Path) -> None:
    torch.save({"w": torch.ones(2)}, path.with_suffix(".inner"))
    with zipfile.ZipFile(path, "w") as archive:
        archive.write(path.with_suffix(".inner"), "pytorch_model.bin")


ODD: list[tuple[Callable[[Path], Any], str]] = [
    (bomb, r"its record \S+/data/0 is compressed"),
    (described_bomb, "bytes beside its tensors, expected 67,108,864 at most: is it a bomb"),
    (two_at_once, "it can't be read|two directories that differ|zip archive can't be read"),
    (moved_record, "two directories that differ"),
    (zip_in_zip, r"is a zip archive of pytorch_model\.bin, expected one that torch\.save writes: unpack it"),
    (lambda path: torch.save({"w": torch.ones(1).expand(2**20, 2**20)}, path), r"claim 4,398,046,511,104 bytes, expected"),
    (lambda path: torch.save({"w": torch.ones(3, device="meta")}, path), "w is meta, expected numbers"),
    (lambda path: torch.save({"w": torch.eye(3).to_sparse()}, path), r"w is torch\.sparse_coo, expected numbers"),
    (lambda path: torch.save({"w": torch.quantize_per_tensor(torch.ones(3), 0.1, 0, torch.qint8)}, path), "w is quantized"),
    (lambda path: torch.save({"w": torch.ones(3, dtype=torch.complex64)}, path), r"w is torch\.complex64"),
    (lambda path: torch.save({"__metadata__": torch.ones(3)}, path), "a tensor is named __metadata__"),
    (lambda path: torch.save({3: torch.ones(3)}, path), "it holds 3, expected tensors by name"),
    (lambda path: torch.save({}, path), "it holds nothing, expected tensors by name"),
    (lambda path: torch.save([torch.ones(3)], path), "it holds a list, expected tensors by name"),
    (lambda path: torch.save({"ema": {"w": torch.ones(3)}, "net": {}}, path), "it holds ema, net, expected tensors by name"),
    (lambda path: path.write_bytes(pickle.dumps({"w": 3})), r"isn't a pickle of weights \(Unsupported operand 149\)"),
    (lambda path: (torch.save(numbers(), path), os.truncate(path, 900)), "its zip archive can't be read .*: download it again"),
    (lambda path: (legacy(numbers(), path), os.truncate(path, 700)), r"is the file whole\?"),
    (lambda path: path.write_bytes(os.urandom(500)), r"is the file whole\?"),
]  # fmt: skip


@pytest.mark.parametrize(("write", "message"), ODD)
def test_odd_files_end_with_one_line(write: Callable[[Path], Any], message: str, tmp_path: Path) -> None:
    write(tmp_path / "model.pt")
    with pytest.raises(InvalidInput, match=message) as raised:
        in_process([tmp_path / "model.pt"], tmp_path / "out.safetensors", "model.pt")
    assert "\n" not in str(raised.value)


@pytest.mark.parametrize(
    ("name", "begin", "message"),
    [
        ("tf_model.h5", b"\x89HDF\r\n", "weights of TensorFlow: convert them, .*from_tf=True"),
        ("pytorch_model.bin", b"\x89HDF\r\n", "weights of TensorFlow"),
        ("flax_model.msgpack", b"\x81", "weights of Flax: convert them, .*from_flax=True"),
        ("pytorch_model.bin", b"version https://git-lfs.github.com/spec/v1\noid sha256:1\n", "a pointer of Git LFS"),
        ("pytorch_model.bin", b"<!DOCTYPE html><title>Sign in", "a page, not weights"),
        ("pytorch_model.bin", b"", "empty: download it again"),
        ("model.pt", b"\x1f\x8b\x08", "compressed by gzip: unpack it"),
        ("model.pth", b"x" * 257 + b"ustar", "a tar archive: unpack it"),
        ("model.bin", struct.pack("<Q", 40) + b'{"w":', "safetensors by its content: name it .safetensors"),
        ("model.bin", b"GGUF\x03", "quantized weights"),
    ],
)
def test_other_formats_are_named(name: str, begin: bytes, message: str, tmp_path: Path) -> None:
    (tmp_path / name).write_bytes(begin)
    with pytest.raises(InvalidInput, match=rf"{name} is {message}"):
        Pickles(tmp_path / "kept").converted(tmp_path / name, tmp_path)


@pytest.mark.parametrize("make", [os.mkfifo, lambda path: path.symlink_to("/dev/zero"), lambda path: path.symlink_to("gone")])
def test_what_is_no_file_is_not_opened(make: Callable[[Path], None], tmp_path: Path) -> None:
    make(tmp_path / "pytorch_model.bin")
    with pytest.raises(InvalidInput, match=r"has no file pytorch_model\.bin"):
        Pickles(tmp_path / "kept").converted(tmp_path / "pytorch_model.bin", tmp_path)


@pytest.fixture
def pickled(checkpoint: Path, tmp_path: Path) -> Path:
    """The small checkpoint as it lies on the hub's older branches."""
    folder = Path(shutil.copytree(checkpoint, tmp_path / "pickled"))
    torch.save(load_file(folder / "model.safetensors"), folder / "pytorch_model.bin")
    (folder / "model.safetensors").unlink()
    (folder / "modeling.py").write_text("raise SystemExit('run')")
    return folder


def test_a_checkpoint_is_converted_once_and_is_its_librarys_own(pickled: Path, checkpoint: Path, tmp_path: Path) -> None:
    from transformers import CLIPModel

    said: list[str] = []
    kept = Pickles(tmp_path / "kept", said.append)
    found = checkpoint_files.find(str(pickled), None, pickles=kept)
    assert families.of(found).spec(found, "clip").checkpoint == "pickled"
    theirs = CLIPModel.from_pretrained(pickled, use_safetensors=False).state_dict()
    ours = load_file(found.weight_files[0])
    same({name: ours[name] for name in theirs}, theirs)
    [origin] = found.conversions.values()
    assert origin.sha256 == weight_digest.digest([pickled / "pytorch_model.bin"])
    assert origin.weights_sha256 == found.weights_sha256
    assert (origin.offline, origin.confined) == (True, True)
    assert origin.line().startswith(f"weights: converted from pytorch_model.bin, sha256 {origin.sha256}, to sha256 ")
    assert sorted(path.name for path in found.folder.iterdir()) == sorted(
        {path.name for path in checkpoint.iterdir()} | {"converted.json"}
    )
    again = checkpoint_files.find(str(pickled), None, pickles=kept)
    assert again.folder == found.folder
    assert len(said) == 1


def test_code_that_would_run_leaves_no_trace(tmp_path: Path, capfd: pytest.CaptureFixture[str]) -> None:
    torch.save({"w": Runs(os.system, f"touch {tmp_path / TRACE}")}, tmp_path / "pytorch_model.bin")
    (tmp_path / "config.json").write_text('{"model_type": "clip"}')
    command = ["--model", str(tmp_path), "--artifacts", str(tmp_path / "artifacts")]
    assert cli.main(command) == cli.BAD_INPUT
    error = [line for line in capfd.readouterr().err.splitlines() if line.startswith("error")]
    assert "pytorch_model.bin: it asks for posix.system" in error[0]
    assert not (tmp_path / TRACE).exists()
    assert not [*tmp_path.rglob("*.safetensors")]


def test_no_pickle_refuses_before_anything_is_read(pickled: Path, tmp_path: Path, capfd: pytest.CaptureFixture[str]) -> None:
    (pickled / "pytorch_model.bin").chmod(0)
    command = ["--model", str(pickled), "--no-pickle", "--artifacts", str(tmp_path / "artifacts")]
    assert cli.main(command) == cli.BAD_INPUT
    assert "pickled weights only (pytorch_model.bin), which can run code when loaded, and --no-pickle" in capfd.readouterr().err
    assert not (tmp_path / "artifacts").exists()


def test_a_pickle_that_claims_a_terabyte_ends_with_one_line(tmp_path: Path) -> None:
    legacy({"w": torch.ones(3)}, tmp_path / "small.bin")
    small = (tmp_path / "small.bin").read_bytes()
    terabyte = b"\x8a\x06" + (2**40).to_bytes(6, "little")
    huge, count = re.subn(rb"(cpuq.)K\x03N", lambda place: place[1] + terabyte + b"N", small, flags=re.DOTALL)
    assert count == 1  # of the storage: its number of elements, before the view that it has none of
    (tmp_path / "model.bin").write_bytes(huge)
    with pytest.raises(InvalidInput, match=r"model\.bin: it asks for more memory than 2 times its size and 1024 MB"):
        Pickles(tmp_path / "kept").converted(tmp_path / "model.bin", tmp_path)


def test_a_reader_that_takes_too_long_is_ended(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    torch.save(numbers(), tmp_path / "model.bin")
    monkeypatch.setattr(pickle_rules, "LEAST_S", 0.01)
    with pytest.raises(InvalidInput, match=r"model\.bin: it isn't read within 0 s"):
        Pickles(tmp_path / "kept").converted(tmp_path / "model.bin", tmp_path)
    assert not [*(tmp_path / "kept").glob("**/*.safetensors")]


def confined(code: str, folder: Path) -> str:
    """Run lines in a process that is cut off as the reader is."""
    begin = f"""
import os, resource, socket, subprocess
from pathlib import Path
from clip_export.checkpoints import sandbox
offline = sandbox.cut_off()
sandbox.limit(2**28, 2**20)
assert sandbox.confine(Path({str(folder / "own")!r})) and offline
def tried(act):
    try:
        act()
    except (OSError, MemoryError) as problem:
        return type(problem).__name__
    return "allowed"
"""
    (folder / "own").mkdir()
    lines = [sys.executable, "-c", begin + code]
    environment = {**os.environ, "PYTHONPATH": os.pathsep.join(sys.path)}
    return subprocess.run(lines, capture_output=True, text=True, env=environment, check=True, cwd=folder).stdout


def test_the_reader_can_write_connect_run_and_grow_nowhere(tmp_path: Path) -> None:
    (tmp_path / "mine").write_text("mine")
    told = confined(
        """
print(tried(lambda: Path("own/new").write_text("x")), tried(lambda: Path("other").write_text("x")))
print(tried(lambda: Path("mine").write_text("x")), tried(lambda: Path("mine").unlink()), tried(lambda: os.truncate("mine", 0)))
print(tried(lambda: subprocess.run(["/bin/true"])), tried(lambda: socket.create_connection(("127.0.0.1", 22), 1)))
print(tried(lambda: socket.getaddrinfo("localhost", 80) and socket.socket(type=socket.SOCK_DGRAM).connect(("8.8.8.8", 53))))
print(tried(lambda: bytearray(2**29)), tried(lambda: Path("own/large").write_bytes(b"x" * 2**21)))
print(Path("mine").read_text())
""",
        tmp_path,
    )
    assert told.splitlines() == [
        "allowed PermissionError",
        "PermissionError PermissionError PermissionError",
        "PermissionError PermissionError",
        "OSError",
        "MemoryError OSError",
        "mine",
    ]


def test_the_reader_gets_no_tokens(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("HF_TOKEN", "hf_secret")
    monkeypatch.setenv("TORCH_FORCE_NO_WEIGHTS_ONLY_LOAD", "1")
    assert {*pickle_process._environment(tmp_path)} <= {
        *pickle_process._KEPT, *pickle_process._ONE_THREAD, "HOME", "PYTHONPATH",
    }  # fmt: skip


def test_half_of_a_conversion_is_not_taken(quick: None, tmp_path: Path) -> None:
    torch.save(numbers(), tmp_path / "model.bin")
    sha256 = weight_digest.digest([tmp_path / "model.bin"])
    kept = tmp_path / "kept"
    (kept / f".{sha256}-killed").mkdir(parents=True)
    (kept / f".{sha256}-killed" / "model.safetensors").write_bytes(b"half")
    (kept / f"{sha256}.safetensors").write_bytes(b"without a record")
    view = Pickles(kept).converted(tmp_path / "model.bin", tmp_path)
    same(load_file(view / "model.safetensors"), numbers())
    assert not (kept / f".{sha256}-killed").exists()
    (kept / f"{sha256}.safetensors").write_bytes(b"cut off later")
    view = Pickles(kept).alone(tmp_path / "model.bin")
    same(load_file(view / "model.safetensors"), numbers())


def test_two_exports_at_once_convert_once(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    torch.save(numbers(), tmp_path / "model.bin")
    calls: list[Path] = []

    def counted(files: list[Path], output: Path, title: str) -> Outcome:
        calls.append(output)
        return in_process(files, output, title)

    monkeypatch.setattr(pickle_process, "convert", counted)
    views: list[Path] = []
    convert = lambda: views.append(Pickles(tmp_path / "kept").converted(tmp_path / "model.bin", tmp_path))  # noqa: E731
    threads = [threading.Thread(target=convert) for _ in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert len({*views}) == len(calls) == 1
    assert len(views) == 4


def test_a_changed_setting_makes_another_view(quick: None, tmp_path: Path) -> None:
    source = tmp_path / "checkpoint"
    source.mkdir()
    torch.save(numbers(), source / "pytorch_model.bin")
    (source / "config.json").write_text("{}")
    first = Pickles(tmp_path / "kept").unpickled(source)
    (source / "config.json").write_text('{"a": 1}')
    second = Pickles(tmp_path / "kept").unpickled(source)
    assert [(view / "config.json").read_text() for view in (first, second)] == ["{}", '{"a": 1}']
    assert (first / "model.safetensors").samefile(second / "model.safetensors")


def test_damaged_conversions_are_noticed(quick: None, pickled: Path, tmp_path: Path) -> None:
    found = checkpoint_files.find(str(pickled), None, pickles=Pickles(tmp_path / "kept"))
    with found.weight_files[0].open("r+b") as file:
        file.seek(-4, os.SEEK_END)
        file.write(b"\1\2\3\4")
    with pytest.raises(InvalidInput, match=r"isn't as it was converted from pytorch_model\.bin: remove"):
        families.of(found).spec(found, "clip")


def test_modules_of_sentence_transformers_are_converted_too(quick: None, tmp_path: Path) -> None:
    source = tmp_path / "st"
    for name in ("", "1_Pooling", "2_Dense", "checkpoint-500"):
        (source / name).mkdir(parents=True, exist_ok=True)
        (source / name / "config.json").write_text("{}")
    (source / "modules.json").write_text("[]")
    torch.save({"encoder": torch.ones(2)}, source / "pytorch_model.bin")
    torch.save({"linear.weight": torch.ones(2)}, source / "2_Dense" / "pytorch_model.bin")
    torch.save(3, source / "training_args.bin")
    view = Pickles(tmp_path / "kept").unpickled(source)
    assert [*load_file(view / "2_Dense" / "model.safetensors")] == ["linear.weight"]
    assert [*load_file(view / "model.safetensors")] == ["encoder"]
    assert (view / "1_Pooling" / "config.json").exists()
    save_file({"encoder": torch.zeros(2)}, source / "model.safetensors")
    view = Pickles(tmp_path / "kept").unpickled(source)
    assert load_file(view / "model.safetensors")["encoder"].sum() == 0
    assert (view / "2_Dense" / "model.safetensors").exists()


def test_two_candidates_are_both_named(tmp_path: Path) -> None:
    for name in ("a.pt", "b.ckpt", "optimizer.pt"):
        torch.save(numbers(), tmp_path / name)
    with pytest.raises(InvalidInput, match=r"has 2 files that could be the model \(a\.pt, b\.ckpt\)"):
        Pickles(tmp_path / "kept").unpickled(tmp_path)


def test_a_folder_of_safetensors_is_taken_as_it_is(checkpoint: Path, tmp_path: Path) -> None:
    assert Pickles(tmp_path / "kept").unpickled(checkpoint) == checkpoint
    assert pickles.REFUSED.unpickled(checkpoint) == checkpoint
    assert not (tmp_path / "kept").exists()


def test_a_folder_that_cannot_be_written_is_told(quick: None, tmp_path: Path) -> None:
    torch.save(numbers(), tmp_path / "model.bin")
    (tmp_path / "kept").write_text("a file")
    with pytest.raises(InvalidInput, match="can't be written"):
        Pickles(tmp_path / "kept").alone(tmp_path / "model.bin")


def test_open_clip_takes_a_pickle_by_its_architecture(quick: None, tmp_path: Path) -> None:
    open_clips.library()
    torch.save(numbers(), tmp_path / "epoch_1.pt")
    found = checkpoint_files.find(f"open_clip:ViT-B-32/{tmp_path}/epoch_1.pt", None, pickles=Pickles(tmp_path / "kept"))
    assert found.label == "ViT-B-32-epoch_1"
    same(load_file(found.weight_files[0]), numbers())
    assert len(found.conversions) == 1
