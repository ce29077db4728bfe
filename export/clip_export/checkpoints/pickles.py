"""Pickled weights, converted once to safetensors in a process that can do no harm, and kept.

``artifacts/converted`` holds ``<digest of the pickle>.safetensors``, each with a record, and view folders: a checkpoint's
small files with the converted weights beside them, which everything else takes for the checkpoint.
"""

from __future__ import annotations

import dataclasses
import shutil
import tempfile
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from importlib.metadata import version
from pathlib import Path

from filelock import FileLock, Timeout

from clip_client.errors import InvalidInput
from clip_export import json_record
from clip_export.checkpoints import pickle_process, pickle_rules, view_folder, weight_formats
from clip_export.checkpoints.conversion import Conversion
from clip_export.checkpoints.file_names import MODULES, NO_MODEL, PICKLED, PICKLES, SAFETENSORS, WEIGHTS
from clip_export.checkpoints.weight_digest import digest
from clip_export.progress import Progress

FOLDER = "converted"
"""Beneath the artefacts."""

_RESULTS = {"adapter_model.bin": "adapter_model.safetensors"}
"""Names of results that aren't a whole model."""

_RULES = 1
"""Version of what becomes of a pickle; another one converts again."""


@dataclass(frozen=True)
class Pickles:
    """Conversion of pickled weights.

    Attributes:
        folder: of all conversions; None refuses pickles.
        say: gets a phrase before a conversion begins.
    """

    folder: Path | None
    say: Progress = field(default=lambda _: None, compare=False)

    def unpickled(self, folder: Path) -> Path:
        """Return a checkpoint's folder as it is where it has safetensors, or nothing that could be weights; else its view.

        Raises:
            InvalidInput: as :meth:`converted`, or if two pickles could be the model.
        """
        sources = [*_at_top(folder), *_in_modules(folder)]
        return self._view(sources, folder) if sources else folder

    def converted(self, source: Path, checkpoint_folder: Path) -> Path:
        """Return a view of a checkpoint's folder, with ``model.safetensors`` in the place of its pickled weights.

        Pickles in its folders, such as the dense layers of sentence-transformers, are converted too.

        Args:
            source: the pickle, one of its parts, or the list of them.
            checkpoint_folder: of the settings, which holds the source too.

        Raises:
            InvalidInput: if pickles are refused, or this one holds anything but weights.
        """
        others = [path for path in _in_modules(checkpoint_folder) if path.parent != source.parent]
        return self._view([source, *others], checkpoint_folder)

    def alone(self, source: Path) -> Path:
        """Return a folder with ``model.safetensors`` alone, converted from a pickle that has no checkpoint's folder.

        Raises:
            InvalidInput: as :meth:`converted`.
        """
        folder = self._folder([source])
        return view_folder.made(folder, None, {Path(WEIGHTS): self._kept(source, folder)})

    def _view(self, sources: Sequence[Path], checkpoint_folder: Path) -> Path:
        folder = self._folder(sources)
        places = {path: path.parent.relative_to(checkpoint_folder) / _RESULTS.get(path.name, WEIGHTS) for path in sources}
        return view_folder.made(folder, checkpoint_folder, {places[path]: self._kept(path, folder) for path in sources})

    def _folder(self, sources: Sequence[Path]) -> Path:
        if self.folder is None:
            names = ", ".join(sorted(source.name for source in sources))
            raise InvalidInput(
                f"{sources[0].parent} has pickled weights only ({names}), which can run code when loaded, and --no-pickle "
                "refuses them: leave it out to have them read in a process that runs none, or pass safetensors"
            )
        try:
            self.folder.mkdir(parents=True, exist_ok=True)
        except OSError as problem:
            raise InvalidInput(f"{self.folder} can't be written ({problem}): pass another place with --artifacts") from problem
        return self.folder.resolve()

    def _kept(self, source: Path, folder: Path) -> tuple[Path, Conversion]:
        """Return the safetensors of a pickle, of an earlier run where there are some."""
        files = weight_formats.parts(source)
        sha256 = digest(files)
        target, record = folder / f"{sha256}{SAFETENSORS}", folder / f"{sha256}.json"
        with _locked(folder / f".{sha256}.lock", pickle_rules.timeout_s(_size(files))):
            if (known := _read(record, target)) is None:
                self.say(f"reading {_title(files)}, once, in a process that can run nothing of it")
                known = _converted(files, sha256, target)
                json_record.write(record, {"rules": _RULES, "bytes": target.stat().st_size, **dataclasses.asdict(known)})
        return target, dataclasses.replace(known, source=_title(files))


REFUSED = Pickles(None)


def _at_top(folder: Path) -> list[Path]:
    """Return the pickle in a folder that holds the model, by its name, else the only one; none beside safetensors."""
    if any(folder.glob(f"*{SAFETENSORS}")):
        return []
    if named := [path for name in PICKLED for path in sorted(folder.glob(name))]:
        return named[:1]
    others = [path for name in PICKLES for path in sorted(folder.glob(name)) if not any(map(path.match, NO_MODEL))]
    if len(others) > 1:
        names = ", ".join(path.name for path in others)
        raise InvalidInput(f"{folder} has {len(others)} files that could be the model ({names}): keep one of them there")
    return others


def _in_modules(folder: Path) -> list[Path]:
    """Return the pickles in the folders of sentence-transformers' modules that have no safetensors."""
    inner = [path for path in sorted(folder.iterdir()) if path.is_dir()] if (folder / MODULES).exists() else []
    bare = [path for path in inner if not any(path.glob(f"*{SAFETENSORS}"))]
    pickles = [next((file for name in PICKLED for file in sorted(path.glob(name))), None) for path in bare]
    return [path for path in pickles if path]


def _read(record: Path, target: Path) -> Conversion | None:
    known = json_record.read(record)
    if known.get("rules") != _RULES or not target.is_file() or known.get("bytes") != target.stat().st_size:
        return None
    return Conversion.of(known)


def _converted(files: Sequence[Path], sha256: str, target: Path) -> Conversion:
    for stale in target.parent.glob(f".{sha256}-*"):  # of runs that were killed: the lock is ours
        shutil.rmtree(stale, ignore_errors=True)
    title = f"{files[0].parent / _title(files)}"
    try:
        with tempfile.TemporaryDirectory(dir=target.parent, prefix=f".{sha256}-") as scratch:
            output = Path(scratch) / WEIGHTS
            outcome = pickle_process.convert(files, output, title)
            if digest(files) != sha256:
                raise InvalidInput(f"{title} changed while it was read: wait until it is whole")
            result = digest([output])
            output.replace(target)
    except OSError as problem:
        raise InvalidInput(f"{title} can't be written as safetensors ({problem}): make room in {target.parent}") from problem
    return Conversion(_title(files), sha256, result, f"torch {version('torch')}", **dataclasses.asdict(outcome))


@contextmanager
def _locked(path: Path, timeout_s: float) -> Iterator[None]:
    """Let one process at a time convert a file; another one's result is then taken."""
    try:
        with FileLock(path, timeout=timeout_s):
            yield
    except Timeout as problem:
        raise InvalidInput(f"another export converts the same weights since {timeout_s:.0f} s: end it, or wait") from problem


def _size(files: Sequence[Path]) -> int:
    return sum(file.stat().st_size for file in files)


def _title(files: Sequence[Path]) -> str:
    return files[0].name if len(files) == 1 else f"{files[0].name} and {len(files) - 1} more"
