"""Find a checkpoint in a folder or on the hub, and read what isn't weights."""

from __future__ import annotations

import hashlib
import json
import math
import re
from collections.abc import Sequence
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Any

from clip_client.errors import InvalidInput
from clip_export import hub, processor, tokenizer_files

_HUB_ID = re.compile(r"[\w.-]+(/[\w.-]+)?")
OPEN_CLIP = "open_clip:"
"""How ``--model`` begins where open_clip knows the architecture."""

_HUB_FILES = ["*.json", "*.txt", "*.model", "*.safetensors"]  # nothing that could run
_PICKLES = ("*.bin", "*.pt", "*.pth", "*.ckpt", "*.pkl")


@dataclass(frozen=True)
class Checkpoint:
    """A Hugging Face checkpoint on disk.

    Attributes:
        folder: where its files are.
        label: the folder's name, or the hub id.
        revision: commit on the hub; empty for a folder.
    """

    folder: Path
    label: str
    revision: str

    @property
    def slug(self) -> str:
        """The label as a folder name."""
        return self.label.replace("/", "--")

    @cached_property
    def config(self) -> dict[str, Any]:
        """``config.json``.

        Raises:
            InvalidInput: there is none, or it says that the weights are quantized.
        """
        config = dict(self.json("config.json", "expected a checkpoint in Hugging Face format"))
        for part in (config, config.get("text_config"), config.get("vision_config")):
            if isinstance(part, dict) and (quantized := part.get("quantization_config")) is not None:
                method = quantized.get("quant_method") if isinstance(quantized, dict) else quantized
                raise InvalidInput(
                    f"{self.label}: config.json has a quantization_config ({method}), expected weights as they were trained: "
                    "export the checkpoint that this one was quantized from"
                )
        return config

    @cached_property
    def processor(self) -> Any:
        """The image processor as transformers loads it, with the settings and the defaults of its own class.

        Raises:
            InvalidInput: the checkpoint has none, or it can't be loaded.
        """
        if (self.folder / "preprocessor_config.json").exists():
            self.json("preprocessor_config.json", "")
        else:
            self.json("processor_config.json", "nor a preprocessor_config.json: save the checkpoint's processor too")
        return processor.loaded(self.folder, self.label)

    @cached_property
    def tokenizer(self) -> tokenizer_files.TextTokenizer:
        """The tokenizer as transformers loads it.

        Raises:
            InvalidInput: the checkpoint has no tokenizer, or it can't be loaded.
        """
        for name in ("tokenizer_config.json", "special_tokens_map.json", "added_tokens.json", "tokenizer.json"):
            if (self.folder / name).exists():
                self.json(name, "")
        return tokenizer_files.read(self.folder, self.label, self._vocabulary)

    @cached_property
    def _vocabulary(self) -> float:
        """Number of tokens of the text tower; infinite where no configuration of transformers says it."""
        from transformers import AutoConfig

        try:
            config = AutoConfig.from_pretrained(self.folder, local_files_only=True, trust_remote_code=False)
            return int(config.get_text_config().vocab_size)
        except Exception:  # the family says what is wrong with it
            return math.inf

    @cached_property
    def tokenizer_json(self) -> str:
        """Tokenizer that gives the tokens of the checkpoint's own library."""
        return self.tokenizer.content

    @cached_property
    def weight_files(self) -> list[Path]:
        """The safetensors files, in order.

        Raises:
            InvalidInput: there are none, or only pickles, which are never loaded since they can run code.
        """
        if (self.folder / "model.safetensors").exists():
            return [self.folder / "model.safetensors"]
        if shards := sorted(self.folder.glob("model-*-of-*.safetensors")):
            return shards
        if pickles := [file.name for pattern in _PICKLES for file in self.folder.glob(pattern)]:
            raise InvalidInput(
                f"{self.label} has pickled weights only ({', '.join(sorted(pickles))}), which can run code when loaded: "
                "convert them where you trust them, AutoModel.from_pretrained(…).save_pretrained(FOLDER)"
            )
        raise InvalidInput(f"{self.label} has no weights: expected model.safetensors in {self.folder}")

    @cached_property
    def weights_sha256(self) -> str:
        """Digest over the weight files."""
        return digest(self.weight_files)

    def tensor(self, name: str) -> Any:
        """One tensor of the weights, as torch's.

        Raises:
            InvalidInput: no such tensor, or the file is damaged.
        """
        from safetensors import SafetensorError, safe_open

        for path in self.weight_files:
            try:
                with safe_open(path, framework="pt") as file:
                    if name in file.keys():  # noqa: SIM118  (a safetensors handle isn't a dict)
                        return file.get_tensor(name)
            except SafetensorError as problem:
                raise InvalidInput(f"{path} can't be read ({problem}): is the file whole?") from problem
        raise InvalidInput(f"{self.label} has no tensor {name}: expected the whole model, not one tower")

    def json(self, name: str, otherwise: str, kind: type = dict) -> Any:
        """A JSON file of the checkpoint.

        Args:
            name: path in the folder.
            otherwise: what to say where there is none.
            kind: what it should hold, dict or list.

        Raises:
            InvalidInput: there is none, or it can't be read.
        """
        try:
            content = json.loads((self.folder / name).read_text(encoding="utf-8"))
        except FileNotFoundError as problem:
            raise InvalidInput(f"{self.label} has no {name}: {otherwise}") from problem
        except (ValueError, RecursionError, OSError) as problem:
            raise InvalidInput(f"{self.folder / name} isn't a JSON object ({problem}): is the file whole?") from problem
        if not isinstance(content, kind):
            raise InvalidInput(f"{self.folder / name} isn't a JSON object of {kind.__name__}: is the file whole?")
        return content


@dataclass(frozen=True)
class Paired(Checkpoint):
    """The image tower of one checkpoint and the text tower of another; folder and configs are the image checkpoint's.

    Attributes:
        image: the one.
        text: the other.
    """

    image: Checkpoint
    text: Checkpoint

    @classmethod
    def of(cls, image: Checkpoint, text: Checkpoint) -> Paired:
        """Join two checkpoints."""
        revision = "+".join(filter(None, (image.revision, text.revision)))
        return cls(image.folder, f"{image.label}+{text.label}", revision, image, text)

    @cached_property
    def tokenizer(self) -> tokenizer_files.TextTokenizer:
        """The text checkpoint's."""
        return self.text.tokenizer


def digest(files: Sequence[Path]) -> str:
    """SHA-256 over the contents of several files."""
    digest = hashlib.sha256()
    for path in files:
        with path.open("rb") as file:
            while block := file.read(2**20):
                digest.update(block)
    return digest.hexdigest()


def find(model: str, revision: str | None, text_model: str | None = None) -> Checkpoint:
    """Resolve ``--model``, and ``--text-model`` where it is given.

    Args:
        model: a folder as it is, a hub id through the hub's cache or a download.
        revision: of the hub id.
        text_model: the same, for a text tower beside the model's image tower.

    Raises:
        InvalidInput: no such folder, no such id.
        Unavailable: the hub can't be reached.
    """
    found = _find(model, revision)
    return Paired.of(found, _find(text_model, None)) if text_model else found


def _find(model: str, revision: str | None) -> Checkpoint:
    if model.startswith(OPEN_CLIP):
        from clip_export import open_clip_checkpoint

        return open_clip_checkpoint.find(model.removeprefix(OPEN_CLIP), revision)
    folder = Path(model).expanduser()
    if folder.is_dir():
        refuse_revision(model, revision)
        return Checkpoint(folder, folder.resolve().name, "")
    if folder.is_absolute() or model.startswith((".", "~")) or not _HUB_ID.fullmatch(model):
        raise InvalidInput(
            f"no checkpoint folder {model}: expected a folder, a hub id such as openai/clip-vit-base-patch32, or "
            f"{OPEN_CLIP}MODEL/PRETRAINED"
        )
    folder = hub.with_safetensors(model, revision, _HUB_FILES)
    return Checkpoint(folder, model, folder.name)


def refuse_revision(model: str, revision: str | None) -> None:
    """Raise InvalidInput for a revision of what isn't on the hub."""
    if revision:
        raise InvalidInput(f"--revision {revision} is for checkpoints on the hub, {model} is a folder: leave it out")
