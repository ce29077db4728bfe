"""Labels as prompts, and the mean of a label's prompts as its embedding: zero-shot classification as CLIP's authors do it.

The mathematics are those of Prompt_Engineering_for_ImageNet.ipynb in https://github.com/openai/CLIP: each prompt's embedding
has unit length, the mean over the templates is brought to unit length again.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence

import numpy as np

from clip_client.comparison import Floats
from clip_client.errors import ContractMismatch, InvalidInput
from clip_client.prompt_templates import DEFAULT, TEMPLATES
from clip_client.type_names import a_type

Templates = str | Sequence[str]
"""Name of a list in :data:`~clip_client.prompt_templates.TEMPLATES`, one template, or several."""

_HOLE = "{}"
_SHORTEST = 1e-6  # a mean of unit vectors that is shorter has no direction


def checked_labels(labels: Iterable[str]) -> tuple[str, ...]:
    """Return labels as a tuple.

    Raises:
        InvalidInput: there are none, or one is no text, empty, or there twice; the message names it.
    """
    if isinstance(labels, str | bytes) or not isinstance(labels, Iterable):
        raise InvalidInput(f"labels is {_shown(labels)}: expected a list of texts, ['cat', 'dog'] say")
    listed, positions = tuple(labels), dict[str, int]()
    for n, label in enumerate(listed):
        if not isinstance(label, str):
            raise InvalidInput(f"label {n} is {_shown(label)}: expected a text")
        if not label.strip():
            raise InvalidInput(f"label {n} is empty: name it, or leave it out")
        if (plain := label.strip()) in positions:
            raise InvalidInput(f"labels {positions[plain]} and {n} are both {plain!r}: pass each once")
        positions[plain] = n
    if not listed:
        raise InvalidInput("there are no labels: pass at least one")
    return listed


def checked_templates(templates: Templates) -> tuple[str, ...]:
    """Return templates by their name, or as they are.

    Raises:
        InvalidInput: no such name, or a template that isn't a text with ``{}`` for the label and no other braces.
    """
    if isinstance(templates, str):
        if _HOLE not in templates and templates not in TEMPLATES:
            names = ", ".join(TEMPLATES)
            raise InvalidInput(f"templates is {templates!r}: expected one of {names}, or a text with {_HOLE} for the label")
        listed: tuple[str, ...] = TEMPLATES.get(templates, (templates,))
    elif isinstance(templates, Iterable) and not isinstance(templates, bytes):
        listed = tuple(one for template in templates for one in _named(template))
    else:
        raise InvalidInput(f"templates is {_shown(templates)}: expected a name, a text with {_HOLE}, or a list of them")
    for n, template in enumerate(listed):
        _check_template(n, template)
    if not listed:
        raise InvalidInput(f"there are no templates: pass at least one, {DEFAULT!r} say")
    return listed


def _named(template: str) -> tuple[str, ...]:
    """Return the templates of a name, or what was passed as it is, which is checked later."""
    return TEMPLATES.get(template, (template,)) if isinstance(template, str) else (template,)


def prompts(labels: Iterable[str], templates: Templates = DEFAULT) -> list[str]:
    """Return every label in every template, L * T texts: those of the first label come first.

    Raises:
        InvalidInput: as :func:`checked_labels` and :func:`checked_templates`.
    """
    sentences = checked_templates(templates)
    return [sentence.replace(_HOLE, label) for label in checked_labels(labels) for sentence in sentences]


def label_embeddings(embeddings: Floats, labels: Sequence[str]) -> Floats:
    """Return one embedding per label from those of its prompts.

    Args:
        embeddings: float32 [L * T, D] of :func:`prompts`, of unit length.
        labels: L of them, for the message.

    Returns:
        float32 [L, D], of unit length.

    Raises:
        ContractMismatch: a label's prompts have embeddings without a common direction.
    """
    means = embeddings.reshape(len(labels), -1, embeddings.shape[1]).mean(axis=1)  # [L, T, D] -> [L, D]
    lengths = np.linalg.norm(means, axis=1, keepdims=True)
    for label, length in zip(labels, lengths[:, 0], strict=True):
        if not length > _SHORTEST:
            raise ContractMismatch(f"the prompts of {label!r} have embeddings that cancel each other out: pass other templates")
    return np.asarray(means / lengths, np.float32)


def _check_template(n: int, template: object) -> None:
    if not isinstance(template, str):
        raise InvalidInput(f"template {n} is {_shown(template)}: expected a text with {_HOLE} for the label")
    if _HOLE not in template:
        raise InvalidInput(f"template {n}, {template!r}, has no {_HOLE}: expected one for the label")
    if set("{}") & set(template.replace(_HOLE, "")):
        raise InvalidInput(f"template {n}, {template!r}, has other braces: expected {_HOLE} alone, for the label")


def _shown(value: object) -> str:
    return f"{a_type(value)}, {str(value)[:80]!r}"
