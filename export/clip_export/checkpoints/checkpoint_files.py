"""Files of a checkpoint, here or on the hub: found by their layout, fetched, and put under the names that libraries expect."""

from __future__ import annotations

import dataclasses
import importlib.util
import os
import posixpath
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from functools import cache, partial
from pathlib import Path
from typing import Any

from clip_client.errors import InvalidInput
from clip_export.checkpoints import conversions, hub, layouts, open_clip, views
from clip_export.checkpoints.checkpoint import Checkpoint
from clip_export.checkpoints.conversions import Conversion
from clip_export.checkpoints.file_names import PICKLE, SHARD_INDEX, SHARDS
from clip_export.checkpoints.hub_files import Repository
from clip_export.checkpoints.layouts import Layout, Tree
from clip_export.checkpoints.names import HubId
from clip_export.checkpoints.pickles import Pickles

_DEPTH = 3  # folders below a checkpoint's own


@dataclass(frozen=True)
class Files:
    """Files of a checkpoint on this disk.

    Attributes:
        layout: of the folder or repository that they are from.
        top: its folder.
        paths: by their name in the layout.
        label: the checkpoint's name.
        revision: commit on the hub; empty for a folder.
    """

    layout: Layout
    top: Path
    paths: Mapping[str, Path]
    label: str
    revision: str

    def folder(self) -> Path:
        """Return a folder in which each file has its name, and nothing else is taken for weights."""
        own = self.top / self.layout.folder
        if self.layout.in_place and all(path == own / name for name, path in self.paths.items()) and not self._others(own):
            return own
        return views.view(self.paths)

    def _others(self, own: Path) -> bool:
        """Find shards that the index doesn't name, and pickles of other checkpoints in folders below."""
        shards = {path.name for path in own.glob(SHARDS)} if SHARD_INDEX in self.layout.files else set()
        below = set(own.glob(f"*/{PICKLE}")) if self.layout.pickled else set()
        return bool(shards - {*self.layout.weights}) or bool(below - {*self.paths.values()})


def here(folder: Path, chosen: str = "", *, of_open_clip: bool = False) -> Files:
    """Return the files of a folder's checkpoint.

    Args:
        folder: of the checkpoint.
        chosen: the file of weights that is meant, or a folder in it; empty for the only one.
        of_open_clip: it is meant in open_clip's format.

    Raises:
        InvalidInput: if there is no checkpoint in it, or more than one.
    """
    label = folder.resolve().name
    read = cache(partial(_read, Checkpoint(folder, label, "")))
    layout = layouts.of(Tree(label, str(folder), frozenset(_names(folder)), read, of_open_clip), chosen)
    label = f"{label}-{Path(chosen).stem}" if chosen else label
    return Files(layout, folder, {name: folder / path for name, path in layout.files.items()}, label, "")


def on_hub(wanted: HubId, pickles: Pickles) -> Files:
    """Return the files of a repository's checkpoint, after a download where they aren't in the hub's cache.

    Raises:
        InvalidInput: if there is no checkpoint in it, or more than one; if a library is missing, or pickles are refused.
        Unavailable: if files can't be had.
    """
    main = hub.repository(wanted.id, wanted.revision, pickles.say)
    tree = _tree(main, wanted)
    layout = layouts.of(tree, wanted.file)
    converted = None
    if layout.pickled and not wanted.file:
        layout, converted = _converted(main, tree, layout, pickles)
    _check(main.name, layout, pickles)
    return _fetched(main, converted, layout, wanted.file, pickles)


def _tree(main: Repository, wanted: HubId) -> Tree:
    address = f"hf://{main.name}@{wanted.revision}" if wanted.revision else f"hf://{main.name}"
    return Tree(main.name, address, frozenset(main.files), cache(partial(hub.content, main)), wanted.open_clip)


def _converted(main: Repository, tree: Tree, layout: Layout, pickles: Pickles) -> tuple[Layout, Conversion | None]:
    """Return the layout with safetensors of a pull request in the place of pickles, where there is one that has them all."""
    conversion = conversions.of(main, [layout.files[name] for name in layout.pickled], pickles.say)
    if conversion is None:
        return layout, None

    def read(name: str) -> Any:
        return tree.read(name) if name in main.files else hub.content(conversion.repository, name)

    whole = layouts.of(dataclasses.replace(tree, names=tree.names | conversion.added, read=read))
    return (layout, None) if whole.pickled or whole.kind != layout.kind else (whole, conversion)


def _check(name: str, layout: Layout, pickles: Pickles) -> None:
    """Refuse a checkpoint before its weights are downloaded, where they couldn't be used."""
    if layout.kind in ("open_clip", "weights"):
        open_clip.library()
    if any(file.endswith(".model") for file in layout.files) and not importlib.util.find_spec("sentencepiece"):
        raise InvalidInput(f"{name} has a sentencepiece tokenizer: pip install sentencepiece")
    if layout.pickled and pickles.folder is None:
        raise InvalidInput(
            f"{name} has pickled weights only ({', '.join(layout.pickled)}), which can run code when loaded, no conversion "
            "among its pull requests, and --no-pickle refuses them: leave it out, or take a checkpoint with safetensors"
        )


def _fetched(main: Repository, converted: Conversion | None, layout: Layout, chosen: str, pickles: Pickles) -> Files:
    added = {name: path for name, path in layout.files.items() if path not in main.files}
    own = {name: path for name, path in layout.files.items() if path in main.files}
    top = hub.fetched(main, own.values(), pickles.say)
    paths, revision = {name: top / path for name, path in own.items()}, main.commit
    if converted:
        pickles.say(
            f"{main.name} has pickled weights; taking their conversion to safetensors, pull request {converted.number} of the "
            f"hub's converter (commit {converted.repository.commit})"
        )
        beside = hub.fetched(converted.repository, added.values(), pickles.say)
        paths |= {name: beside / path for name, path in added.items()}
        revision = f"{main.commit}+{converted.repository.commit}"
    label = f"{main.name}/{posixpath.splitext(chosen)[0]}" if chosen and chosen in layout.files.values() else main.name
    return Files(layout, top, paths, label, revision)


def _names(folder: Path) -> Iterator[str]:
    """Yield the paths of a folder's files, hidden folders aside, to some depth."""
    for place, folders, files in os.walk(folder):
        below = Path(place).relative_to(folder)
        folders[:] = [] if len(below.parts) >= _DEPTH else sorted(name for name in folders if not name.startswith("."))
        yield from ((below / name).as_posix() for name in files)


def _read(checkpoint: Checkpoint, name: str) -> Any:
    return checkpoint.json(name, "", object)
