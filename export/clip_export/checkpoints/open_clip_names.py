"""open_clip's models and tags as people write them, from a stored list: open_clip itself takes seconds to import.

``open_clip_names.json`` has the models in open_clip's order, and the tags of each: the repository on the hub, and the
activation. A test keeps it equal with the installed open_clip.
"""

from __future__ import annotations

import difflib
import json
import re
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from functools import cache
from pathlib import Path

FILE = Path(__file__).with_name("open_clip_names.json")

QUICK = "-quickgelu"
"""Ending of the models whose activation is QuickGELU, as OpenAI trained."""

_BEST_KNOWN = {
    "ViT-B-32": "laion2b_s34b_b79k",
    "ViT-B-16": "laion2b_s34b_b88k",
    "ViT-B-16-plus-240": "laion400m_e32",
    "ViT-L-14": "laion2b_s32b_b82k",
    "ViT-H-14": "laion2b_s32b_b79k",
    "ViT-H-14-quickgelu": "dfn5b",
    "ViT-H-14-CLIPA-336": "datacomp1b",
    "ViT-g-14": "laion2b_s34b_b88k",
    "ViT-bigG-14": "laion2b_s39b_b160k",
    "convnext_base_w": "laion2b_s13b_b82k_augreg",
    "convnext_base_w_320": "laion_aesthetic_s13b_b82k_augreg",
    "convnext_large_d_320": "laion2b_s29b_b131k_ft_soup",
    "convnext_xxlarge": "laion2b_s34b_b82k_augreg_soup",
    "coca_ViT-B-32": "laion2b_s13b_b90k",
    "coca_ViT-L-14": "laion2b_s13b_b90k",
    "nllb-clip-base-siglip": "v1",
    "nllb-clip-large-siglip": "v1",
    "MobileCLIP-B": "datacompdr",
}
"""Tag of a model that is named alone, where OpenAI has none of its activation and there are several."""

_OTHER_SPELLINGS = {
    "mobileclipblt": ("MobileCLIP-B", "datacompdr_lt"),
    "pecoreb16224": ("PE-Core-B-16", ""),
    "pecoreg14448": ("PE-Core-bigG-14-448", ""),
    "eva02bige14": ("EVA02-E-14", ""),
    "eva02bige14plus": ("EVA02-E-14-plus", ""),
}
"""Names that their authors use, by key: model and tag."""

_MODEL = re.compile(r"(?:[\w\s.+()-]|[/@](?=\d))+")
_SHORT = re.compile(r"(?:vit|siglip|clip|eva|mobileclip)[\w.-]*/\d+(?:[-@]\d+)?(?:px)?", re.I)
_CAPITAL_G = re.compile(r"V?i[tT][-_ ]?G")
_NEAREST = 3
_LONGEST = 100  # characters of a name that is compared; likeness takes the square of it
_LIKE_A_MODEL, _LIKE_A_MODEL_OF_A_TAG = 0.85, 0.6
"""Likeness above which a name in front of something is a mistyped model; in front of a known tag."""


@dataclass(frozen=True)
class Tag:
    """Weights of a model.

    Attributes:
        name: open_clip's.
        hub: hub id of their repository.
        quick_gelu: True if they were trained with QuickGELU.
    """

    name: str
    hub: str
    quick_gelu: bool


@dataclass(frozen=True)
class Model:
    """An architecture.

    Attributes:
        name: open_clip's.
        quick_gelu: True if its activation is QuickGELU.
        parameters: their number, in millions.
        tags: by name, in open_clip's order.
    """

    name: str
    quick_gelu: bool
    parameters: float
    tags: Mapping[str, Tag]

    @property
    def best_known(self) -> str:
        """The tag of a model that is named alone; empty if it has none."""
        if self.name in _BEST_KNOWN:
            return _BEST_KNOWN[self.name]
        return "openai" if "openai" in self.tags else next(iter(self.tags), "")


@cache
def models() -> dict[str, Model]:
    """Return open_clip's models by name, in its order."""
    content = json.loads(FILE.read_text(encoding="utf-8"))
    return {
        name: Model(
            name,
            entry["quick_gelu"],
            entry["parameters"],
            {tag: Tag(tag, weights["hub"], weights["quick_gelu"]) for tag, weights in entry["tags"].items()},
        )
        for name, entry in content.items()
    }


def key(text: str) -> str:
    """Return a name without what people write in different ways: capitals, separators, ``px``, ``+`` for plus."""
    return re.sub(r"(?<=\d)px\b|[^a-z0-9]", "", text.lower().replace("+", "plus").replace("_", "-"))


def tag_of(model: Model, text: str) -> str | None:
    """Return the tag of a model that a text means, in whatever capitals and separators."""
    return {key(tag): tag for tag in model.tags}.get(key(text))


def model_named(text: str) -> tuple[Model, str] | None:
    """Return the model that a text alone means, and the tag if it says that too; None if it isn't one.

    ``ViT-G``, with a capital G, is the literature's name of bigG; ``vit-g-14`` and ``VIT-G-14`` are g.
    """
    if not _MODEL.fullmatch(text):
        return None
    name = re.sub(r"^(eva0[12])clip", r"\1", key(text))
    if name in _OTHER_SPELLINGS:
        model, tag = _OTHER_SPELLINGS[name]
        return models()[model], tag
    if name.startswith("vitg14") and _CAPITAL_G.search(text):
        name = name.replace("vitg14", "vitbigg14")
    known = _keys().get(name)
    return (models()[known], "") if known else None


def split(text: str) -> tuple[Model, str] | None:
    """Return the model that a text begins with, and the rest behind a separator; the longest model counts.

    ``MODEL/TAG``, ``MODEL:TAG``, ``MODEL, TAG``, ``MODEL TAG`` and ``MODEL__TAG`` are split; ``MODEL-TAG`` is where TAG is one
    of the model's; ``TAG/MODEL`` is turned round.
    """
    if whole := model_named(text):
        return whole
    for model, rest, clear in _splits(text):
        if (named := model_named(model)) and (clear or tag_of(with_both_activations(named[0]), rest)):
            return named[0], rest
    tag, _, model = text.rpartition("/")
    named = model_named(model)
    return (named[0], tag) if named and tag_of(with_both_activations(named[0]), tag) else None


def of_its_activation(model: Model, tag: str) -> Model:
    """Return the model that a tag's weights were trained as: with QuickGELU or without, where open_clip has both."""
    other = counterpart(model)
    if other is None:
        return model
    weights = model.tags.get(tag) or other.tags.get(tag)
    return model if weights is None or weights.quick_gelu == model.quick_gelu else other


def counterpart(model: Model) -> Model | None:
    """Return the same architecture with the other activation, where open_clip has it."""
    name = model.name.removesuffix(QUICK) if model.name.endswith(QUICK) else f"{model.name}{QUICK}"
    return models().get(name)


def models_with(tag: str) -> list[str]:
    """Return the names of the models that have a tag."""
    return [model.name for model in models().values() if tag_of(model, tag)]


def mistyped(text: str) -> bool:
    """Return True for ``MODEL/TAG`` of which one half is misspelled, rather than a hub id."""
    if _SHORT.fullmatch(text):
        return True
    first, _, second = text.partition("/")
    likeness = _LIKE_A_MODEL_OF_A_TAG if models_with(second) else _LIKE_A_MODEL
    return bool(second and difflib.get_close_matches(key(first), _keys(), n=1, cutoff=likeness))


def nearest_models(text: str, with_weights: bool = False) -> list[str]:
    """Return the names of the models that are most like a text, the likest first."""
    keys = {name: model for name, model in _keys().items() if models()[model].tags or not with_weights}
    asked = key(text[:_LONGEST])
    return [keys[name] for name in difflib.get_close_matches(asked, keys, n=_NEAREST, cutoff=0)]


@cache
def pairs() -> tuple[str, ...]:
    """Return ``MODEL/TAG`` of all weights, in open_clip's order."""
    return tuple(f"{model.name}/{tag}" for model in models().values() for tag in model.tags)


@cache
def _keys() -> dict[str, str]:
    return {key(name): name for name in models()}


def with_both_activations(model: Model) -> Model:
    """Return a model with the tags of its counterpart too."""
    other = counterpart(model)
    return Model(model.name, model.quick_gelu, model.parameters, {**(other.tags if other else {}), **model.tags})


def _splits(text: str) -> Iterator[tuple[str, str, bool]]:
    """Yield beginning, rest, and True where the separator is never a part of a model's name; the longest beginning first."""
    for match in reversed([*re.finditer(r"\s*(?:::|__|[:,/@\s])\s*|[-_]", text)]):
        if match.start() and match.end() < len(text):
            yield text[: match.start()], text[match.end() :], match[0] not in ("-", "_")
