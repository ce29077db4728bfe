"""Checkpoint on disk: configuration, image processor, tokenizer, digest of its weights."""

from __future__ import annotations

import hashlib
import json
import math
from collections.abc import Mapping
from dataclasses import dataclass, field
from functools import cached_property
from pathlib import Path
from typing import Any

from safetensors import SafetensorError, safe_open

from clip_client import notices
from clip_client.errors import InvalidInput
from clip_client.tokens import NO_TEXTS
from clip_export.checkpoints import conversion, image_processor, weight_digest, weight_formats
from clip_export.checkpoints.conversion import Conversion, Origins
from clip_export.checkpoints.file_names import CONFIG, PICKLES, PREPROCESSOR, PROCESSOR, SHARDS, TOKENIZER_SETTINGS, WEIGHTS
from clip_export.checkpoints.tokenizer import TextTokenizer
from clip_export.checkpoints.tokenizer import read as read_tokenizer
from clip_export.checkpoints.weight_formats import FOREIGN


@dataclass(frozen=True)
class Checkpoint:
    """A Hugging Face checkpoint on disk.

    Attributes:
        folder: of its files.
        label: the folder's name, or the hub id.
        revision: commit on the hub; empty for a folder.
        unused: names of tensors that the loaded model had no place for; filled by whoever loads it.
    """

    folder: Path
    label: str
    revision: str
    unused: set[str] = field(default_factory=set, kw_only=True, compare=False)

    @property
    def slug(self) -> str:
        """The label as a folder name."""
        return self.label.replace("/", "--")

    @cached_property
    def config(self) -> dict[str, Any]:
        """``config.json``.

        Raises:
            InvalidInput: if there is none, or it says that the weights are quantized.
        """
        config = dict(self.json(CONFIG, "expected a checkpoint in Hugging Face format"))
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
            InvalidInput: if the checkpoint has none, or it can't be loaded.
        """
        if (self.folder / PREPROCESSOR).exists():
            self.json(PREPROCESSOR, "")
        else:
            self.json(PROCESSOR, f"nor a {PREPROCESSOR}: save the checkpoint's processor too")
        return image_processor.loaded(self.folder, self.label)

    @cached_property
    def tokenizer(self) -> TextTokenizer:
        """The tokenizer as transformers loads it.

        Raises:
            InvalidInput: if the checkpoint has no tokenizer, or it can't be loaded.
        """
        for name in TOKENIZER_SETTINGS:
            if (self.folder / name).exists():
                self.json(name, "")
        return read_tokenizer(self.folder, self.label, self._vocabulary)

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

    @property
    def tokenizer_sha256(self) -> str:
        """Digest of the tokenizer."""
        return hashlib.sha256(self.tokenizer_json.encode()).hexdigest()

    @cached_property
    def weight_files(self) -> list[Path]:
        """The safetensors files, in order.

        Raises:
            InvalidInput: if there are none, or only pickles, which are never loaded as they are.
        """
        if (self.folder / WEIGHTS).exists():
            return [self.folder / WEIGHTS]
        if shards := sorted(self.folder.glob(SHARDS)):
            return shards
        if pickles := [file.name for pattern in PICKLES for file in self.folder.glob(pattern)]:
            raise InvalidInput(
                f"{self.label} has pickled weights only ({', '.join(sorted(pickles))}), which can run code when loaded: "
                "convert them where you trust them, AutoModel.from_pretrained(…).save_pretrained(FOLDER)"
            )
        others = {path.name: weight_formats.foreign(path) for path in sorted(self.folder.glob("*")) if path.suffix in FOREIGN}
        told = "".join(f"; {name} is {kind}" for name, kind in others.items())
        raise InvalidInput(f"{self.label} has no weights: expected {WEIGHTS} in {self.folder}{told}")

    @cached_property
    def _digested(self) -> weight_digest.Digested:
        return weight_digest.digested(self.weight_files)

    @cached_property
    def weights_sha256(self) -> str:
        """Digest over the weight files.

        Raises:
            InvalidInput: if they were converted from a pickle and aren't the same any more.
        """
        for place, converted in self.conversions.items():
            if self.weight_files == [place] and converted.weights_sha256 != self._digested.sha256:
                raise InvalidInput(f"{place} isn't as it was converted from {converted.source}: remove {place.parent.parent}")
        return self._digested.sha256

    @property
    def unsound_weights(self) -> Mapping[str, str]:
        """``NaN`` or ``infinity`` by the name of each tensor that has any."""
        return self._digested.unsound

    @cached_property
    def conversions(self) -> Mapping[Path, Conversion]:
        """Origins of weights that were converted from pickles, by file."""
        return conversion.in_view(self.weight_files[0].parent)

    @property
    def notice(self) -> str:
        """Sentence on the checkpoint's purpose, as its author wrote it; empty for none."""
        return str(self.config.get(notices.KEY) or "")

    @property
    def origins(self) -> Origins:
        """Facts for the report, whole once the weights are loaded."""
        return Origins((*self.conversions.values(),), (*sorted(self.unused),))

    def tensor(self, name: str) -> Any:
        """Return one tensor of the weights, as torch's.

        Raises:
            InvalidInput: if there is no such tensor, or the file is damaged.
        """
        for path in self.weight_files:
            try:
                with safe_open(path, framework="pt") as file:
                    if name in file.keys():  # noqa: SIM118  (a safetensors handle isn't a dict)
                        return self._sound(name, file.get_tensor(name))
            except SafetensorError as problem:
                raise InvalidInput(f"{path} can't be read ({problem}): is the file whole?") from problem
        raise InvalidInput(f"{self.label} has no tensor {name}: expected the whole model, not one tower")

    def _sound(self, name: str, tensor: Any) -> Any:
        if tensor.numel() == 1 and not math.isfinite(tensor):
            raise InvalidInput(f"{self.label}: {name} is {float(tensor)}, expected a number: take another checkpoint")
        return tensor

    def json(self, name: str, otherwise: str, kind: type = dict) -> Any:
        """Read a JSON file of the checkpoint.

        Args:
            name: path in the folder.
            otherwise: end of the message where there is none.
            kind: type of its content, dict or list.

        Raises:
            InvalidInput: if there is none, or it can't be read.
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
        image: checkpoint of the image tower.
        text: checkpoint of the text tower.
    """

    image: Checkpoint
    text: Checkpoint

    @classmethod
    def of(cls, image: Checkpoint, text: Checkpoint) -> Paired:
        """Join two checkpoints."""
        revision = "+".join(filter(None, (image.revision, text.revision)))
        return cls(image.folder, f"{image.label}+{text.label}", revision, image, text)

    @property
    def notice(self) -> str:
        """That of the image tower, then that of the text tower if it is another."""
        return " ".join(dict.fromkeys(filter(None, (self.image.notice, self.text.notice))))

    @property
    def origins(self) -> Origins:
        """Those of both."""
        image, text = self.image.origins, self.text.origins
        return Origins((*image.conversions, *text.conversions), (*image.unused, *text.unused))

    @cached_property
    def conversions(self) -> Mapping[Path, Conversion]:
        """Those of both."""
        return {**self.image.conversions, **self.text.conversions}

    @cached_property
    def tokenizer(self) -> TextTokenizer:
        """The text checkpoint's tokenizer."""
        return self.text.tokenizer


@dataclass(frozen=True)
class ImagesOnly(Checkpoint):
    """A checkpoint of which pictures alone are embedded.

    Attributes:
        whole: the checkpoint, with its tokenizer if it has one.
    """

    whole: Checkpoint

    @classmethod
    def of(cls, whole: Checkpoint) -> ImagesOnly:
        """Leave out a checkpoint's texts."""
        return cls(whole.folder, whole.label, whole.revision, whole)

    @property
    def slug(self) -> str:
        """The label as a folder name, unlike that of the whole checkpoint's artefacts."""
        return f"{super().slug}-image-only"

    @cached_property
    def tokenizer_json(self) -> str:
        """No tokenizer."""
        return NO_TEXTS


def refuse_revision(model: str, revision: str | None) -> None:
    """Raise InvalidInput for a revision of a folder."""
    if revision:
        raise InvalidInput(f"--revision {revision} is for checkpoints on the hub, {model} is a folder: leave it out")
