"""open_clip's checkpoints: ``open_clip:MODEL/PRETRAINED``, its folders, its hub ids."""

from __future__ import annotations

import difflib
from collections.abc import Mapping
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Any

from clip_client.errors import InvalidInput
from clip_export.checkpoints import hub, open_clip_tokenizer
from clip_export.checkpoints.checkpoint import Checkpoint, refuse_revision
from clip_export.checkpoints.file_names import (
    OPEN_CLIP_CONFIG,
    OPEN_CLIP_HUB_PATTERNS,
    OPEN_CLIP_PICKLED,
    OPEN_CLIP_TOKENIZER_PATTERNS,
    OPEN_CLIP_WEIGHTS,
    PICKLE_SUFFIXES,
    SAFETENSORS,
    VOCABULARIES,
    WEIGHTS,
)
from clip_export.checkpoints.pickles import REFUSED, Pickles
from clip_export.checkpoints.tokenizer import TextTokenizer

PREFIX = "open_clip:"
"""Beginning of a ``--model`` whose architecture open_clip knows."""

MODEL_TYPE = "open_clip"

_HUB = "hf-hub:"  # as open_clip itself marks a hub id


@dataclass(frozen=True)
class OpenClipCheckpoint(Checkpoint):
    """A checkpoint whose towers open_clip builds.

    Attributes:
        model: open_clip's name of it, or ``local-dir:FOLDER``.
        weights: the safetensors file.
        preprocessing: fields of open_clip's PreprocessCfg that came with the weights.
    """

    model: str
    weights: Path
    preprocessing: Mapping[str, Any]

    @cached_property
    def config(self) -> dict[str, Any]:
        """open_clip's configuration of the model."""
        try:
            return {**library().get_model_config(self.model), "model_type": MODEL_TYPE}
        except (ValueError, TypeError) as problem:
            raise InvalidInput(f"{self.label}: {OPEN_CLIP_CONFIG} can't be read ({problem}): is the file whole?") from problem

    @cached_property
    def tokenizer(self) -> TextTokenizer:
        """The tokenizer of ``open_clip.get_tokenizer``."""
        library()
        return open_clip_tokenizer.read(self.config["text_cfg"], self._tokenizer_folder, self.label)

    @cached_property
    def weight_files(self) -> list[Path]:
        """The safetensors file alone."""
        return [self.weights]

    @cached_property
    def _tokenizer_folder(self) -> Path:
        """Folder of a Hugging Face tokenizer: beside the weights, else under its own name on the hub."""
        name = self.config["text_cfg"].get("hf_tokenizer_name", "")
        beside = any((self.folder / file).exists() for file in VOCABULARIES)
        return self.folder if beside or not name else hub.snapshot(name, None, [*OPEN_CLIP_TOKENIZER_PATTERNS, "spiece.model"])


def library() -> Any:
    """Import the module ``open_clip``.

    Raises:
        InvalidInput: if it isn't installed, or can't be loaded.
    """
    try:
        import open_clip
    except ModuleNotFoundError as problem:
        raise InvalidInput(f"{PREFIX} needs {problem.name}: pip install 'clipserve[open-clip]'") from problem
    except RuntimeError as problem:  # torchvision and torch were built for different things
        raise InvalidInput(
            f"open_clip can't be loaded ({problem}): install torch and torchvision together, from one index, e.g. "
            "pip install torch torchvision --index-url https://download.pytorch.org/whl/cpu"
        ) from problem
    return open_clip


def find(model: str, revision: str | None, pickles: Pickles = REFUSED) -> OpenClipCheckpoint:
    """Resolve the part of ``--model`` behind ``open_clip:``: a folder, MODEL/FILE, MODEL/TAG, or hf-hub:ORG/NAME.

    Raises:
        InvalidInput: if it is none of these, or there are no weights without code in them.
        Unavailable: if the hub can't be reached.
    """
    if Path(model).expanduser().is_dir():
        refuse_revision(model, revision)
        return in_folder(_unpickled(Path(model).expanduser(), pickles), Path(model).expanduser().resolve().name, "")
    if model.startswith(_HUB):
        folder = hub.with_safetensors(model.removeprefix(_HUB), revision, OPEN_CLIP_HUB_PATTERNS)
        return in_folder(folder, model.removeprefix(_HUB), folder.name)
    name, _, pretrained = model.partition("/")
    if name in library().list_models():
        if Path(pretrained).suffix in (SAFETENSORS, *PICKLE_SUFFIXES):
            return _of_file(name, pretrained, revision, pickles)
        return _of_tag(name, pretrained, revision)
    nearest = difflib.get_close_matches(name, library().list_models(), n=5, cutoff=0)
    raise InvalidInput(
        f"open_clip has no model {name!r}, nor is there a folder {model}; the nearest are: {', '.join(nearest)}; a hub id is "
        f"{PREFIX}{_HUB}ORG/NAME"
    )


def _unpickled(folder: Path, pickles: Pickles) -> Path:
    """Return a folder with open_clip's own weights in safetensors, where transformers' lie beside a pickle of them too."""
    own = [folder / name for name in OPEN_CLIP_PICKLED if (folder / name).exists()]
    if own and not any((folder / name).exists() for name in OPEN_CLIP_WEIGHTS[:2]):
        return pickles.converted(own[0], folder)
    return pickles.unpickled(folder)


def in_folder(folder: Path, label: str, revision: str) -> OpenClipCheckpoint:
    """Read a folder as open_clip pushes it to the hub.

    Raises:
        InvalidInput: if its configuration or its weights are missing.
    """
    settings = Checkpoint(folder, label, revision).json(
        OPEN_CLIP_CONFIG, f"expected a folder as open_clip saves it, or {PREFIX}MODEL/FILE"
    )
    weights = next((folder / name for name in OPEN_CLIP_WEIGHTS if (folder / name).exists()), None)
    if weights is None:
        raise InvalidInput(
            f"{label} has no weights: expected {OPEN_CLIP_WEIGHTS[0]} in {folder}; pickled ones, which can run code, "
            "aren't loaded"
        )
    preprocessing = settings.get("preprocess_cfg", {})
    return OpenClipCheckpoint(folder, label, revision, f"local-dir:{folder}", weights, preprocessing)


def _of_file(name: str, pretrained: str, revision: str | None, pickles: Pickles) -> OpenClipCheckpoint:
    weights = Path(pretrained).expanduser()
    refuse_revision(pretrained, revision)
    if not weights.is_file():
        raise InvalidInput(f"no file {weights}: expected {PREFIX}{name}/ and a safetensors file, or one of open_clip's tags")
    readable = weights if weights.suffix == SAFETENSORS else pickles.alone(weights) / WEIGHTS
    return OpenClipCheckpoint(weights.parent, f"{name}-{weights.stem}", "", name, readable, {})


def _of_tag(name: str, tag: str, revision: str | None) -> OpenClipCheckpoint:
    tags = library().list_pretrained_tags_by_model(name)
    known = library().get_pretrained_cfg(name, tag)
    if not known:
        raise InvalidInput(
            f"open_clip has no weights {tag!r} of {name}: expected one of {', '.join(tags) or 'none'}, or a safetensors file"
        )
    if bool(known.get("quick_gelu")) != bool(library().get_model_config(name).get("quick_gelu")):
        other = name.removesuffix("-quickgelu") if name.endswith("-quickgelu") else f"{name}-quickgelu"
        raise InvalidInput(
            f"the weights {tag} were trained with another activation than {name} has: pass {PREFIX}{other}/{tag}"
        )
    if not (source := known.get("hf_hub", "")):
        raise InvalidInput(
            f"open_clip has {name}/{tag} in pickled form only ({known.get('url')}), which can run code when loaded: convert it "
            f"where you trust it, and pass {PREFIX}{name}/FILE.safetensors"
        )
    label, repository = f"{name}-{tag}", "/".join(source.split("/")[:2])
    folder = hub.with_safetensors(repository, revision, OPEN_CLIP_HUB_PATTERNS)
    weights = in_folder(folder, label, folder.name).weights
    return OpenClipCheckpoint(folder, label, folder.name, name, weights, known)
