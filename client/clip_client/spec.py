"""ModelSpec: all about a checkpoint that a client, a server and an index must agree on."""

from __future__ import annotations

import dataclasses
import hashlib
import json
import math
import re
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Literal, get_args

from clip_client import notices
from clip_client.errors import ContractMismatch, InvalidInput

FORMAT = 1
"""Version of the JSON form and of the model repository's layout."""

SPEC_FILE = "spec.json"
TOKENIZER_FILE = "tokenizer.json"

# Tensor names of the six Triton models.
IMAGE, PIXELS, TEXT, TOKENS, EMBEDDING, ERROR = "image", "pixels", "text", "tokens", "embedding", "error"
ORIGIN = "origin"  # of an answer: space and fingerprint of the checkpoint, see ModelSpec.origin
PREPARED_CHECKSUMS, CHECKSUMS = "prepared_checksums", "checksums"  # of both steps, see clip_client.checksums

Tower = Literal["image", "text"]
TOWERS: tuple[Tower, ...] = get_args(Tower)
ResizeMode = Literal["shortest_edge", "shortest_edge_torchvision", "longest_edge", "squash", "patches"]
Interpolation = Literal["nearest", "lanczos", "bilinear", "bicubic", "box", "hamming"]
Padding = Literal["trailing", "masked", "full"]
Activation = Literal["softmax", "sigmoid"]
Transparency = Literal["white", "ignored"]

_LINEAGE = ("inherited_space", "image_sha256", "text_sha256")
"""Fields that the ensembles' parameters don't have: clients of contract 1 refuse those that they don't know."""
_IDENTITY_ONLY = ("name", "checkpoint", "revision", "notice", "approximation", *_LINEAGE)  # no other embeddings
_OF_BOTH_TOWERS = ("family", "embedding_size")
OF_TOWER: dict[Tower, tuple[str, ...]] = {
    "image": ("image_size", "resize_mode", "resize_size", "interpolation", "mean", "std", "transparency", "patch_size"),
    "text": ("tokenizer_sha256", "context_length", "padding", "pad_token", "end_token"),
}
"""Fields that shape a tower's embeddings."""
_UNLESS = {
    "transparency": "white",
    "patch_size": 0,
    "notice": "",
    "approximation": "",
    **dict.fromkeys(_LINEAGE, ""),
}  # fields that are left out where they hold this, as if they had never been added
_NAME = re.compile(r"[A-Za-z][A-Za-z0-9_-]*")


@dataclass(frozen=True, kw_only=True)
class ModelSpec:
    """One checkpoint, described so that embeddings can be reproduced and compared.

    Attributes:
        name: prefix of the published models; ``clip`` gives ``clip_image`` and ``clip_text``.
        checkpoint: folder name or hub id that the weights came from.
        revision: commit or branch on the hub; empty for a folder.
        family: kind of towers that the weights fit, e.g. ``clip``.
        image_size: side S of the square that the image tower sees, in pixels.
        resize_mode: ``shortest_edge`` keeps the aspect ratio and crops the centre, ``shortest_edge_torchvision`` does so with
            torchvision's rounding, ``longest_edge`` keeps the ratio and fills up with black, ``squash`` changes the ratio,
            ``patches`` keeps it about, in whole patches that :mod:`clip_client.naflex` packs into the square.
        resize_size: length of that edge (squashed: of both) after the resize, in pixels; the most patches for ``patches``.
        interpolation: Pillow's name of the resampling filter.
        mean: per channel RGB, of pixels scaled to 0..1; subtracted inside the exported graph.
        std: per channel RGB; divided by inside the exported graph.
        context_length: most tokens that the text tower takes, start and end included.
        padding: ``trailing`` may be dropped, whatever it holds (causal tower); ``masked`` may be dropped, and holds no end
            token (the tower looks at nothing behind the last one); ``full`` must reach ``context_length``.
        pad_token: fills rows up to the length of the batch, or of the context.
        end_token: ends every text; a row without one stands for "no text".
        embedding_size: D, length of an embedding.
        logit_scale: factor on cosines before the activation (already exponentiated).
        logit_bias: added after the scale.
        activation: how logits become probabilities, ``softmax`` over prompts or ``sigmoid`` each.
        weights_sha256: digest of the weight files.
        tokenizer_sha256: digest of ``tokenizer.json``.
        transparency: treatment of the colour that a PNG or GIF may declare transparent: ``white``, or the declaration is
            ``ignored``.
        patch_size: side of a patch in pixels for ``patches``, else 0.
        notice: its author's sentence on its purpose, cleaned; empty for none.
        approximation: variant of the image tower that computes less than the checkpoint does, and by how much; empty for none.
        image_sha256: digest of the image tower's weights; empty if nobody computed it.
        text_sha256: the same of the text tower.
        inherited_space: space of the parent whose image tower this checkpoint kept; empty for a space of its own.
    """

    name: str
    checkpoint: str
    revision: str
    family: str
    image_size: int
    resize_mode: ResizeMode
    resize_size: int
    interpolation: Interpolation
    mean: tuple[float, float, float]
    std: tuple[float, float, float]
    context_length: int
    padding: Padding
    pad_token: int
    end_token: int
    embedding_size: int
    logit_scale: float
    logit_bias: float
    activation: Activation
    weights_sha256: str
    tokenizer_sha256: str
    transparency: Transparency = "white"
    patch_size: int = 0
    notice: str = ""
    approximation: str = ""
    image_sha256: str = field(default="", compare=False)  # weights_sha256 says the same
    text_sha256: str = field(default="", compare=False)
    inherited_space: str = ""

    def __post_init__(self) -> None:
        if not isinstance(self.notice, str):
            raise InvalidInput(f"notice is {type(self.notice).__name__}, expected a text")
        for name in ("approximation", *_LINEAGE):
            if not isinstance(getattr(self, name), str):
                raise InvalidInput(f"{name} is {type(getattr(self, name)).__name__}, expected a text")
        object.__setattr__(self, "notice", notices.cleaned(self.notice))
        if not _NAME.fullmatch(self.name):
            raise InvalidInput(f"name {self.name!r} must be letters, digits, '_' and '-', starting with a letter")
        _check_choice("resize_mode", self.resize_mode, get_args(ResizeMode))
        _check_choice("interpolation", self.interpolation, get_args(Interpolation))
        _check_choice("padding", self.padding, get_args(Padding))
        _check_choice("activation", self.activation, get_args(Activation))
        _check_choice("transparency", self.transparency, get_args(Transparency))
        for size in ("image_size", "resize_size", "context_length", "embedding_size"):
            if getattr(self, size) < 1:
                raise InvalidInput(f"{size} is {getattr(self, size)}, expected at least 1")
        self._check_patches()
        if self.padding == "masked" and self.pad_token == self.end_token:
            raise InvalidInput(
                f"pad_token and end_token are both {self.end_token}: a masked tower can't tell padding from text"
            )
        if len(self.mean) != 3 or len(self.std) != 3 or 0 in self.std:
            raise InvalidInput(f"mean {self.mean} and std {self.std} must be three numbers each, std not 0")
        numbers = {"mean": self.mean, "std": self.std, "logit_scale": (self.logit_scale,), "logit_bias": (self.logit_bias,)}
        for number, values in numbers.items():
            if not all(map(math.isfinite, values)):
                raise InvalidInput(f"{number} is {getattr(self, number)}, expected finite numbers")

    def _check_patches(self) -> None:
        if (self.resize_mode == "patches") != (self.patch_size > 0):
            raise InvalidInput(
                f"patch_size is {self.patch_size} with resize_mode {self.resize_mode}, expected one with patches only"
            )
        if self.patch_size and self.image_size != (expected := patches_side(self.patch_size, self.resize_size)):
            raise InvalidInput(
                f"image_size is {self.image_size}, expected {expected}: {self.resize_size} patches of {self.patch_size} pixels"
            )

    @property
    def fingerprint(self) -> str:
        """Fingerprint of the checkpoint, 16 hex digits: weights, tokenizer and all that shapes an embedding or a score.

        Name, checkpoint, revision and notice are left out: a copy of the same weights gives the same embeddings. So is an
        approximation, whose embeddings are near enough to be searched with the others, as those of int8.
        """
        return _digest({k: v for k, v in self._stated().items() if k not in _IDENTITY_ONLY})

    @property
    def space(self) -> str:
        """Fingerprint of the space that both towers write into: embeddings of one space can be compared, others never.

        A checkpoint's own fingerprint, unless only its text tower was changed: then its parent's space.
        """
        return self.inherited_space or self.fingerprint

    @property
    def origin(self) -> str:
        """Source of an answer, as the ensembles' output of that name has it: the space, a blank, the fingerprint."""
        return f"{self.space} {self.fingerprint}"

    def tower_fingerprint(self, tower: Tower) -> str:
        """Return the fingerprint of a tower, 16 hex digits: its weights and what shapes its embeddings; empty if unknown."""
        weights = self.image_sha256 if tower == "image" else self.text_sha256
        if not weights:
            return ""
        shaping = {name: getattr(self, name) for name in (*_OF_BOTH_TOWERS, *OF_TOWER[tower])}
        return _digest({"tower": tower, "weights": weights, **shaping})

    def ensemble(self, tower: Tower) -> str:
        """Return the name of the Triton ensemble that joins a tower's steps, e.g. ``clip_image``."""
        return ensemble(self.name, tower)

    def to_fields(self) -> dict[str, Any]:
        """Return all fields, with the format and the fingerprint, ready for JSON."""
        return {"format": FORMAT, **self._stated(), "fingerprint": self.fingerprint}

    def _stated(self) -> dict[str, Any]:
        """Return the fields, without those of :data:`_UNLESS` that hold their usual value."""
        return {k: v for k, v in dataclasses.asdict(self).items() if k not in _UNLESS or v != _UNLESS[k]}

    @classmethod
    def from_fields(cls, fields: Mapping[str, Any]) -> ModelSpec:
        """Check and restore the fields of :meth:`to_fields`.

        Raises:
            ContractMismatch: another format, missing or unknown fields, a value of a wrong type, or another fingerprint.
        """
        if fields.get("format") != FORMAT:
            raise ContractMismatch(f"the model spec isn't of format {FORMAT}: export the checkpoint again")
        values = {key: value for key, value in fields.items() if key not in ("format", "fingerprint")}
        known = {field.name for field in dataclasses.fields(cls)}
        if difference := (known - _UNLESS.keys() - values.keys()) | (values.keys() - known):
            raise ContractMismatch(
                f"the model spec lacks, or doesn't know: {', '.join(sorted(difference))}: export the checkpoint again"
            )
        try:
            spec = cls(**{**values, "mean": tuple(values["mean"]), "std": tuple(values["std"])})
        except TypeError as problem:
            raise ContractMismatch(
                f"the model spec has a value of a wrong type ({problem}): export the checkpoint again"
            ) from problem
        if spec.fingerprint != fields.get("fingerprint"):
            raise ContractMismatch(
                f"the model spec says fingerprint {fields.get('fingerprint')}, its fields give {spec.fingerprint}: "
                "it was edited by hand; export the checkpoint again"
            )
        return spec

    def to_parameters(self) -> dict[str, str]:
        """Return the fields as the string parameters of a Triton model configuration, each value in JSON.

        Without those of :meth:`lineage_parameters`.
        """
        return {key: json.dumps(value) for key, value in self.to_fields().items() if key not in _LINEAGE}

    def lineage_parameters(self) -> dict[str, str]:
        """Return the rest for another model's configuration, and the fingerprint of the spec that it completes."""
        return {"fingerprint": self.fingerprint, **{name: getattr(self, name) for name in _LINEAGE}}

    def completed(self, parameters: Mapping[str, str]) -> ModelSpec:
        """Return the spec with what :meth:`lineage_parameters` gave; unchanged where they are of another spec, or none."""
        if parameters.get("fingerprint") != self.fingerprint:
            return self
        space, image, text = (parameters.get(name, "") for name in _LINEAGE)
        return dataclasses.replace(self, inherited_space=space, image_sha256=image, text_sha256=text)

    @classmethod
    def from_parameters(cls, parameters: Mapping[str, str]) -> ModelSpec:
        """Restore a spec from :meth:`to_parameters`; raise ContractMismatch for those of some other model."""
        try:
            return cls.from_fields({key: json.loads(value) for key, value in parameters.items()})
        except json.JSONDecodeError as problem:
            raise ContractMismatch(f"the model's parameters hold no spec ({problem}): was it published here?") from problem

    def to_json(self) -> str:
        """Serialise to an indented JSON object."""
        return json.dumps(self.to_fields(), indent=1) + "\n"

    @classmethod
    def from_json(cls, text: str) -> ModelSpec:
        """Parse the JSON of :meth:`to_json`; raises as :meth:`from_fields`."""
        try:
            return cls.from_fields(json.loads(text))
        except (json.JSONDecodeError, AttributeError) as problem:
            raise ContractMismatch(f"the model spec isn't a JSON object ({problem}): export the checkpoint again") from problem

    def save(self, path: Path) -> None:
        """Write the JSON form to a file."""
        path.write_text(self.to_json(), encoding="utf-8")

    @classmethod
    def load(cls, path: Path) -> ModelSpec:
        """Read the JSON form from a file."""
        return cls.from_json(path.read_text(encoding="utf-8"))


def ensemble(name: str, tower: Tower) -> str:
    """Return the name of the Triton ensemble of a published model, e.g. ``clip_image`` for ``clip`` and ``image``."""
    return f"{name}_{tower}"


def _digest(fields: Mapping[str, Any]) -> str:
    return hashlib.sha256(json.dumps(fields, sort_keys=True).encode()).hexdigest()[:16]


def _check_choice(field: str, value: str, allowed: tuple[str, ...]) -> None:
    if value not in allowed:
        raise InvalidInput(f"{field} is {value!r}, expected one of {', '.join(allowed)}")


def patches_side(patch_size: int, most_patches: int) -> int:
    """Return the side in pixels of the square of patches that :mod:`clip_client.naflex` makes, its header row included."""
    return (1 + math.isqrt(most_patches - 1)) * patch_size + 1
