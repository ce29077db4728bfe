"""open_clip's checkpoints: its names and tags, its folders, single files of its architectures."""

from __future__ import annotations

import difflib
import os
from collections.abc import Mapping
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Any

from clip_client import notices
from clip_client.errors import InvalidInput
from clip_export.checkpoints import hub, open_clip_downloads, open_clip_shapes, open_clip_tokenizer, torch_archive
from clip_export.checkpoints.checkpoint import Checkpoint, refuse_revision
from clip_export.checkpoints.file_names import (
    OPEN_CLIP_CONFIG,
    OPEN_CLIP_PICKLE,
    OPEN_CLIP_SAFETENSORS,
    OPEN_CLIP_TOKENIZER_PATTERNS,
    OPEN_CLIP_WEIGHTS,
    SAFETENSORS,
    VOCABULARIES,
    WEIGHTS,
)
from clip_export.checkpoints.pickles import Pickles
from clip_export.checkpoints.root_logger import without_warnings
from clip_export.checkpoints.tokenizer import TextTokenizer

PREFIX = "open_clip:"
"""Beginning of a ``--model`` whose architecture open_clip knows."""

MODEL_TYPE = "open_clip"

_LOCAL = "local-dir:"  # and a folder


@dataclass(frozen=True)
class OpenClipCheckpoint(Checkpoint):
    """A checkpoint whose towers open_clip builds.

    Attributes:
        model: open_clip's name of it, or ``local-dir:FOLDER``.
        weights: the safetensors file.
        preprocessing: fields of open_clip's PreprocessCfg that came with the weights.
        quick_gelu: the weights were trained with OpenAI's activation, whatever the model's configuration says.
    """

    model: str
    weights: Path
    preprocessing: Mapping[str, Any]
    quick_gelu: bool = False

    @property
    def notice(self) -> str:
        """That of a folder as open_clip saves it; empty for a single file."""
        own = (self.folder / OPEN_CLIP_CONFIG).exists()
        return str(self.json(OPEN_CLIP_CONFIG, "").get(notices.KEY) or "") if own else ""

    @property
    def is_known(self) -> bool:
        """The configuration is one of open_clip's own, not the folder's."""
        return not self.model.startswith(_LOCAL)

    @cached_property
    def config(self) -> dict[str, Any]:
        """open_clip's configuration of the model."""
        try:
            return {**library().get_model_config(self.model), "model_type": MODEL_TYPE}
        except (ValueError, TypeError) as problem:
            raise InvalidInput(f"{self.label}: {OPEN_CLIP_CONFIG} can't be read ({problem}): is the file whole?") from problem

    def loaded(self, **arguments: Any) -> Any:
        """Make the model and load its weights, as open_clip does; nothing may be missing or left over.

        Args:
            arguments: more of ``open_clip.create_model``'s.

        Raises:
            RuntimeError, ValueError, TypeError: if the weights aren't of this model.
            OSError: if the configuration of its text model can't be fetched.
        """
        with without_warnings():  # that no weights were loaded, before they are
            model = library().create_model(
                self.model, load_weights=False, pretrained_text=False, force_quick_gelu=self.quick_gelu, **arguments
            )
        library().load_checkpoint(model, str(self.weights))
        return model

    @cached_property
    def tokenizer(self) -> TextTokenizer:
        """The tokenizer of ``open_clip.get_tokenizer``."""
        library()
        return open_clip_tokenizer.read(self.config["text_cfg"], self.tokenizer_folder, self.label)

    @cached_property
    def separator(self) -> int | None:
        """Token in whose place the text tower sees 0; None for none."""
        return open_clip_tokenizer.separator(self.config["text_cfg"], self.tokenizer_folder, self.label)

    @cached_property
    def weight_files(self) -> list[Path]:
        """The safetensors file alone."""
        return [self.weights]

    @cached_property
    def tokenizer_folder(self) -> Path:
        """Folder of a Hugging Face tokenizer: beside the weights of a folder, else under its own name on the hub."""
        name = self.config["text_cfg"].get("hf_tokenizer_name", "")
        own = not self.is_known and any((self.folder / file).exists() for file in VOCABULARIES)
        if own or not name:
            return self.folder
        if Path(name).is_dir():
            return Path(name)
        return hub.snapshot(name, None, [*OPEN_CLIP_TOKENIZER_PATTERNS, "*.model", "config.json"])


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
            f"{label} has no weights: expected {OPEN_CLIP_WEIGHTS[0]} in {folder}; pickled ones, which can run code, aren't "
            "loaded"
        )
    preprocessing = settings.get("preprocess_cfg", {})
    return OpenClipCheckpoint(folder, label, revision, f"{_LOCAL}{folder}", weights, preprocessing)


def of_file(file: Path, architecture: str | None, pickles: Pickles) -> OpenClipCheckpoint:
    """Read one file of weights.

    Args:
        file: safetensors, or a pickle.
        architecture: open_clip's name of the model; None to tell it from the shapes of the tensors.
        pickles: converts a pickle.

    Raises:
        InvalidInput: if there is no such file, or its architecture is unknown or one of several.
    """
    if not file.is_file():
        raise InvalidInput(
            f"no file {file}: expected {PREFIX}{architecture or 'MODEL'}/ and a file of weights, or one of open_clip's tags"
        )
    library()
    weights = file if file.suffix == SAFETENSORS else pickles.alone(file) / WEIGHTS
    openai = weights != file and torch_archive.is_zip(file) and torch_archive.is_script(file)  # nobody else's files are scripts
    name = architecture or open_clip_shapes.architecture(weights, file, openai=openai)
    return OpenClipCheckpoint(weights.parent, f"{name}-{file.stem}", "", name, weights, {}, quick_gelu=openai)


def of_tag(name: str, tag: str, revision: str | None, pickles: Pickles) -> OpenClipCheckpoint:
    """Download the weights that open_clip has under a tag.

    Raises:
        InvalidInput: if it has no such tag, or its weights are pickles and those are refused.
        Unavailable: if they can't be downloaded.
    """
    known = library().get_pretrained_cfg(name, tag)
    if not known:
        raise _no_tag(name, tag)
    label = f"{name}-{tag}"
    if source := known.get("hf_hub"):
        file, commit = _on_hub(source, label, revision, pickles)
    else:
        refuse_revision(known["url"], revision)
        file, commit = open_clip_downloads.downloaded(known["url"]), ""
    weights = file if file.suffix == SAFETENSORS else pickles.alone(file) / WEIGHTS
    return OpenClipCheckpoint(weights.parent, label, commit, name, weights, known, bool(known.get("quick_gelu")))


def _on_hub(source: str, label: str, revision: str | None, pickles: Pickles) -> tuple[Path, str]:
    """Download ``ORG/NAME/`` or ``ORG/NAME/FILE``, in safetensors where there are some, as open_clip does.

    Returns: (file, commit).
    """
    owner, name = os.path.split(source)
    names = dict.fromkeys(
        [str(Path(name).with_suffix(SAFETENSORS)), name] if name else [*OPEN_CLIP_SAFETENSORS, OPEN_CLIP_PICKLE]
    )
    repository = hub.repository(owner, revision, pickles.say)
    for name in names:
        if name in repository.files and (name.endswith(SAFETENSORS) or pickles.folder):
            return hub.fetched(repository, [name], pickles.say) / name, repository.commit
    raise InvalidInput(
        f"{label}: {owner} has none of {', '.join(names)} at {revision or 'its main branch'}"
        + ("" if pickles.folder else ", and pickled weights, which can run code, aren't loaded")
    )


def _no_tag(name: str, tag: str) -> InvalidInput:
    tags = library().list_pretrained_tags_by_model(name)
    nearest = ", ".join(difflib.get_close_matches(tag, tags, n=5, cutoff=0)) or "none"
    others = [model for model in library().list_pretrained_models_by_tag(tag) if model in library().list_models()]
    elsewhere = f"; {tag} are weights of {', '.join(others)}" if others else ""
    return InvalidInput(
        f"open_clip has no weights {tag!r} of {name}: expected one of its {len(tags)} tags, the nearest are {nearest}, or a "
        f"file of weights{elsewhere}"
    )
