"""Recipes of hub repositories: a small checkpoint with random weights, laid out as the real repository is."""

from __future__ import annotations

import json
import shutil
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from hub_repositories import PullRequest, Repository
from safetensors.torch import load_file, save_file

Make = Callable[[Path], object]
"""Writes a checkpoint, with its weights as safetensors, into a folder that isn't there yet."""

FLAX_AND_TENSORFLOW = ("flax_model.msgpack", "tf_model.h5")
_ALWAYS = (".gitattributes", "README.md")


@dataclass(frozen=True)
class Layout:
    """Files of a repository.

    Attributes:
        weights: ``safetensors``, ``pickle``, ``both``, ``sharded`` or ``sharded both``.
        pull: number of the pull request that holds the safetensors, 0 for none.
        beside: names of further files, whose content nobody needs.
    """

    weights: str = "safetensors"
    pull: int = 0
    beside: Sequence[str] = ()


@dataclass(frozen=True, kw_only=True)
class Recipe:
    """A repository of the hub, rebuilt small.

    Attributes:
        id: on the hub.
        make: writes the checkpoint.
        layout: of the files, which :func:`built` arranges.
        library: the one that the repository is made for, a function's name in ``own_libraries``.
        kind: of checkpoint, as people call it, for the table.
        needs: ids of repositories that it names, and that a library fetches.
    """

    id: str
    make: Make
    layout: Layout = Layout()
    library: str = "transformers"
    kind: str = "Hugging Face"
    needs: tuple[str, ...] = ()

    @property
    def weights(self) -> str:
        """Weights, for the table."""
        pull = f", safetensors at refs/pr/{self.layout.pull}" if self.layout.pull else ""
        return self.layout.weights + pull


def built(recipe: Recipe, folder: Path) -> Repository:
    """Write a recipe's files below a folder; always the same ones."""
    torch.manual_seed(0)
    main, pull = folder / "main", folder / "pull"
    recipe.make(main)
    for name in (*_ALWAYS, *recipe.layout.beside):
        path = main / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(f"stand-in of {recipe.id}'s {name}\n")
    if recipe.layout.pull:
        shutil.copytree(main, pull)
    for weights in sorted(main.rglob("*.safetensors")):
        _arrange(weights, recipe.layout.weights)
    if recipe.layout.pull:
        shutil.copytree(main, pull, dirs_exist_ok=True)  # the conversion lies beside the pickle
    return Repository(main, pulls={recipe.layout.pull: PullRequest(pull)} if recipe.layout.pull else {})


def _arrange(weights: Path, kind: str) -> None:
    """Turn a safetensors file into what the repository has in its place."""
    if kind in {"pickle", "both"}:
        torch.save(load_file(weights), pickle_of(weights))
    if kind.startswith("sharded") and weights.stem == "model":
        _shard(weights, "model-{:05}-of-{:05}.safetensors", lambda tensors, path: save_file(tensors, path, {"format": "pt"}))
        if kind == "sharded both":
            _shard(weights, "pytorch_model-{:05}-of-{:05}.bin", torch.save)
    if kind == "pickle" or (kind.startswith("sharded") and weights.stem == "model"):
        weights.unlink()


def pickle_of(weights: Path) -> Path:
    """Return the pickle's usual name beside a safetensors file."""
    names = {"model": "pytorch_model", "open_clip_model": "open_clip_pytorch_model", "adapter_model": "adapter_model"}
    return weights.with_name(f"{names.get(weights.stem, weights.stem)}.bin")


def _shard(weights: Path, name: str, save: Callable[[dict[str, torch.Tensor], Path], object]) -> None:
    """Write two shards and their index."""
    tensors = load_file(weights)
    names = sorted(tensors)
    halves = names[: len(names) // 2], names[len(names) // 2 :]
    files = [name.format(n, len(halves)) for n in range(1, len(halves) + 1)]
    for file, half in zip(files, halves, strict=True):
        save({key: tensors[key] for key in half}, weights.with_name(file))
    index = {
        "metadata": {"total_size": sum(tensor.nbytes for tensor in tensors.values())},
        "weight_map": {key: file for file, half in zip(files, halves, strict=True) for key in half},
    }
    suffix = files[0].rpartition(".")[2]
    write(weights.with_name(f"{name.partition('-')[0]}.{suffix}.index.json"), index)


def write(path: Path, content: Any) -> None:
    """Write JSON, in a folder that may not be there."""
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(json.dumps(content, indent=2) + "\n", encoding="utf-8")


def changed(path: Path, **fields: Any) -> None:
    """Set fields of a JSON file."""
    write(path, {**json.loads(path.read_text(encoding="utf-8")), **fields})


def stirred(model: Any) -> Any:
    """Draw a new model's weights so that every input matters: layers keep their inputs' variance, biases aren't zero."""
    generator = torch.Generator().manual_seed(1)
    with torch.no_grad():
        for name, parameter in sorted(model.named_parameters()):
            if parameter.dim() > 1:
                parameter.normal_(0, 0.7 if "embedding" in name else parameter[0].numel() ** -0.5, generator=generator)
            elif "bias" in name or "embedding" in name:
                parameter.normal_(0, 0.3, generator=generator)
    return model.eval()
