"""Layouts of checkpoints, told from the names of a folder's or a repository's files."""

from __future__ import annotations

import posixpath
import re
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from typing import Any, Literal

from clip_client.errors import InvalidInput
from clip_export.checkpoints import layout_weights, other_formats
from clip_export.checkpoints.file_names import (
    ADAPTER_CONFIG,
    ADAPTER_WEIGHTS,
    CONFIG,
    MODULES,
    OPEN_CLIP_CONFIG,
    OPEN_CLIP_SAFETENSORS,
    PICKLE,
    PICKLE_SUFFIXES,
    SAFETENSORS,
    SETTINGS,
    UNREAD_SETTINGS,
    WEIGHTS,
)

Kind = Literal["hugging_face", "open_clip", "sentence_transformers", "adapter", "weights"]
"""weights: a file alone, without any configuration beside it."""

_DUAL_ENCODERS = frozenset({"clip", "siglip", "siglip2"})
"""Types of transformers that open_clip's models are converted to, with the same embeddings."""

_NO_CHECKPOINT = re.compile(r"(^|/)(\.[^/]*|onnx|openvino|coreml|runs|logs|global_step\d+)(/|$)", re.IGNORECASE)
"""Sub-folders that are other forms of the model, or states of its training."""


@dataclass(frozen=True)
class Tree:
    """Names of a folder's or a repository's files.

    Attributes:
        label: its name in messages.
        address: beginning of a ``--model`` that leads to one of its files.
        names: paths from its top.
        read: returns the content of one of its JSON files.
        open_clip: only open_clip's format is looked for.
    """

    label: str
    address: str
    names: frozenset[str]
    read: Callable[[str], Any]
    open_clip: bool = False

    def inside(self, folder: str) -> frozenset[str]:
        """Return the names of the files right inside a folder."""
        return frozenset(posixpath.basename(name) for name in self.names if posixpath.dirname(name) == folder)

    def config(self, path: str) -> dict[str, Any]:
        """Return a JSON object; empty where there is no such file.

        Raises:
            InvalidInput: if it can't be read.
        """
        content = self.read(path) if path in self.names else {}
        if not isinstance(content, dict):
            raise InvalidInput(f"{self.label}: {path} isn't a JSON object of dict: is the file whole?")
        return content


@dataclass(frozen=True)
class Layout:
    """Files of a checkpoint.

    Attributes:
        kind: format of its configuration.
        folder: its place in the tree, empty for the top.
        files: path in the tree by the name that libraries expect in the checkpoint's folder.
        weights: those of the names that are weights.
    """

    kind: Kind
    folder: str
    files: Mapping[str, str]
    weights: tuple[str, ...]

    @property
    def pickled(self) -> tuple[str, ...]:
        """Names of the weights that aren't safetensors."""
        return tuple(name for name in self.weights if not name.endswith((SAFETENSORS, ".json")))

    @property
    def in_place(self) -> bool:
        """Every file has the name that libraries expect."""
        return all(posixpath.join(self.folder, name) == path for name, path in self.files.items())


def of(tree: Tree, chosen: str = "") -> Layout:
    """Return the layout of a tree.

    Args:
        tree: names of the files.
        chosen: one of its files of weights, or one of its folders; empty for the tree as a whole.

    Raises:
        InvalidInput: if there is no checkpoint in it, or more than one; the message names what lies there.
    """
    if chosen in tree.names and not chosen.endswith((SAFETENSORS, *PICKLE_SUFFIXES)):
        chosen = posixpath.dirname(chosen)  # a page of the hub about another file
    if chosen in tree.names:
        return _of_file(tree, chosen)
    if chosen and not any(name.startswith(f"{chosen}/") for name in tree.names):
        raise InvalidInput(f"{tree.label} has no {chosen}: {other_formats.listed(tree.names)}")
    if layout := _at(tree, chosen):
        return layout
    below = [layout for folder in _folders(tree, chosen) if (layout := _at(tree, folder))]
    if len(below) == 1:
        return below[0]
    if below:
        places = [layout.folder for layout in below]
        raise InvalidInput(
            f"{tree.label} holds {len(places)} checkpoints, {', '.join(places)}: choose one with "
            f"--model {tree.address}/{places[0]}"
        )
    if tree.open_clip:
        lacks = f"weights: expected {OPEN_CLIP_SAFETENSORS[0]}" if OPEN_CLIP_CONFIG in tree.inside(chosen) else OPEN_CLIP_CONFIG
        raise InvalidInput(
            f"{tree.label} has no {lacks}, in a folder as open_clip saves it, or pass open_clip:MODEL/FILE: "
            f"{other_formats.listed(tree.names)}"
        )
    if layout := _scattered(tree, chosen):
        return layout
    raise other_formats.refusal(tree.label, tree.names, tree.config(CONFIG))


def _at(tree: Tree, folder: str) -> Layout | None:
    """Return the layout right inside a folder; None if there is no checkpoint."""
    names = tree.inside(folder)
    if tree.open_clip:
        return _open_clip(tree, folder)
    if MODULES in names:
        return _sentence_transformers(tree, folder)
    of_transformers = _hugging_face(tree, folder)
    if of_transformers and not of_transformers.pickled:
        return of_transformers
    of_open_clip = _open_clip(tree, folder)
    if layout := of_open_clip if of_open_clip and not of_open_clip.pickled else of_transformers or of_open_clip:
        return layout
    if {ADAPTER_CONFIG, ADAPTER_WEIGHTS} <= names:
        return _layout(tree, "adapter", folder, {ADAPTER_WEIGHTS: ADAPTER_WEIGHTS})
    return None


def _hugging_face(tree: Tree, folder: str) -> Layout | None:
    config = tree.config(posixpath.join(folder, CONFIG))
    if not config.get("model_type") or (OPEN_CLIP_CONFIG in tree.inside(folder) and not _is_dual_encoder(config)):
        return None
    weights = layout_weights.hugging_face(_weights_of(tree, folder))
    return _layout(tree, "hugging_face", folder, weights) if weights else None


def _open_clip(tree: Tree, folder: str) -> Layout | None:
    names = tree.inside(folder)
    if OPEN_CLIP_CONFIG not in names:
        return None
    weights = layout_weights.open_clip(_weights_of(tree, folder), of_transformers=CONFIG in names)
    return _layout(tree, "open_clip", folder, weights) if weights else None


def _is_dual_encoder(config: Mapping[str, Any]) -> bool:
    """Tell transformers' own dual encoder from one that brings its code along, which is never run."""
    return config.get("model_type") in _DUAL_ENCODERS and not config.get("auto_map")


def _sentence_transformers(tree: Tree, folder: str) -> Layout | None:
    """Return the layout of a list of modules: that of a dual encoder in its first one, or of a text model."""
    modules = tree.read(posixpath.join(folder, MODULES))
    if not isinstance(modules, list) or not modules:
        raise InvalidInput(f"{tree.label}: {posixpath.join(folder, MODULES)} isn't a JSON object of list: is the file whole?")
    inside = [posixpath.join(folder, _module_path(tree.label, entry)).rstrip("/") for entry in modules]
    config = tree.config(posixpath.join(inside[0], CONFIG))
    if {"text_config", "vision_config"} <= config.keys() or str(modules[0].get("type")).endswith("CLIPModel"):
        return _hugging_face(tree, inside[0])
    return _text_model(tree, folder, inside)


def _module_path(label: str, entry: Any) -> str:
    path = entry.get("path") if isinstance(entry, dict) else None
    if not isinstance(path, str) or path.startswith("/") or ".." in path.split("/"):
        raise InvalidInput(f"{label}: {MODULES} has the entry {entry}, expected a type and a path in the folder")
    return path


def _text_model(tree: Tree, folder: str, modules: list[str]) -> Layout | None:
    files, weights = dict(_settings(tree, folder)), dict[str, str]()
    for place in dict.fromkeys(modules):
        below = posixpath.relpath(place, folder or ".") if place != folder else ""
        own = layout_weights.hugging_face(_weights_of(tree, place))
        weights |= {posixpath.join(below, name): posixpath.join(place, path) for name, path in own.items()}
        files |= {posixpath.join(below, name): path for name, path in _settings(tree, place).items()}
    if not weights:
        return None
    return Layout("sentence_transformers", folder, {**files, **weights}, tuple(weights))


def _layout(tree: Tree, kind: Kind, folder: str, weights: Mapping[str, str]) -> Layout:
    """Return a layout with a folder's settings and these weights, named by their path in the folder."""
    paths = {name: posixpath.join(folder, path) for name, path in weights.items()}
    return Layout(kind, folder, {**_settings(tree, folder), **paths}, tuple(paths))


def _settings(tree: Tree, folder: str) -> dict[str, str]:
    """Return the files besides the weights: small ones that the tokenizer, the processor and the family read."""
    return {
        name: posixpath.join(folder, name)
        for name in sorted(tree.inside(folder))
        if name.endswith(SETTINGS) and not UNREAD_SETTINGS.search(name)
    }


def _weights_of(tree: Tree, folder: str) -> layout_weights.Folder:
    def shards(index: str) -> list[str]:
        path = posixpath.join(folder, index)
        placed = tree.config(path).get("weight_map")
        if not isinstance(placed, dict) or not all(isinstance(name, str) for name in placed.values()):
            raise InvalidInput(f"{tree.label}: {path} has no weight_map: is the file whole?")
        return sorted(set(placed.values()))

    label, address = (posixpath.join(name, folder).rstrip("/") for name in (tree.label, tree.address))
    return layout_weights.Folder(label, address, tree.inside(folder), shards)


def _of_file(tree: Tree, path: str) -> Layout:
    """Return the layout of one file of weights, with the configuration beside it."""
    folder, name = posixpath.split(path)
    config = tree.config(posixpath.join(folder, CONFIG))
    known_to_open_clip = OPEN_CLIP_CONFIG in tree.inside(folder)
    of_open_clip = tree.open_clip or name.startswith("open_clip") or not _is_dual_encoder(config)
    if config.get("model_type") and not (known_to_open_clip and of_open_clip):
        return _layout(tree, "hugging_face", folder, {WEIGHTS if name.endswith(SAFETENSORS) else name: name})
    if known_to_open_clip:
        return _layout(tree, "open_clip", folder, {_open_clip_name(name): name})
    return _layout(tree, "weights", folder, {name: name})


def _open_clip_name(name: str) -> str:
    return OPEN_CLIP_SAFETENSORS[0] if name.endswith(SAFETENSORS) else name


def _folders(tree: Tree, above: str) -> Iterator[str]:
    """Yield the folders below another one that may hold a checkpoint."""
    folders = {posixpath.dirname(name) for name in tree.names} - {above, ""}
    yield from sorted(folder for folder in folders if _below(folder, above) and not _NO_CHECKPOINT.search(folder))


def _below(path: str, above: str) -> bool:
    return not above or path.startswith(f"{above}/")


def _scattered(tree: Tree, folder: str) -> Layout | None:
    """Return the layout of a configuration here and weights in one sub-folder, or of a file of weights alone."""
    places = {place: names for place in _folders(tree, folder) if (names := _weights_of(tree, place)).names}
    holding = {place: weights for place, names in places.items() if (weights := layout_weights.hugging_face(names))}
    config = tree.config(posixpath.join(folder, CONFIG))
    if config.get("model_type") and len(holding) == 1:
        place, weights = next(iter(holding.items()))
        below = posixpath.relpath(place, folder or ".")
        return _layout(tree, "hugging_face", folder, {name: posixpath.join(below, path) for name, path in weights.items()})
    if alone := layout_weights.alone(_weights_of(tree, folder)):
        if alone in (WEIGHTS, PICKLE):
            lacks = f"no model_type in {CONFIG}" if CONFIG in tree.inside(folder) else f"no {CONFIG}"
            raise InvalidInput(f"{tree.label} has {lacks} beside {alone}: expected a checkpoint in Hugging Face format")
        return _layout(tree, "weights", folder, {alone: alone})
    return None
