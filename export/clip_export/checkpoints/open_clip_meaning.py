"""Meaning of open_clip's names: ``MODEL/TAG``, ``MODEL``, ``MODEL/FILE``."""

from __future__ import annotations

import difflib
import re
from collections.abc import Sequence

from clip_client.errors import InvalidInput
from clip_export.checkpoints import hub_addresses, local_paths, open_clip_names
from clip_export.checkpoints.meanings import File, OpenClipName
from clip_export.checkpoints.open_clip_names import Model, key
from clip_export.checkpoints.typed_text import quoted

_OF_CODE = re.compile(r"""\b(?:model_name|model|pretrained)\s*=\s*|["']""")  # 'ViT-B-32', pretrained='openai'
_OTHERS = 3  # names that a note or a message adds
_LONGEST = 80  # characters of a tag in a message


def of(text: str, revision: str | None) -> File | OpenClipName | None:
    """Return the meaning of a text that begins with one of open_clip's models; None for another text.

    Raises:
        InvalidInput: if the model has no such weights, or the file isn't here.
    """
    named = open_clip_names.split(_OF_CODE.sub("", text))
    if named is None:
        return None
    model, rest = named
    if local_paths.is_weights(rest):
        return _file(model.name, rest, text, revision)
    if rest and text.endswith(f"@{rest}") and not open_clip_names.tag_of(open_clip_names.with_both_activations(model), rest):
        return _alone(model, hub_addresses.joined_revision(rest, revision))
    tag, at, of_name = rest.partition("@")
    revision = hub_addresses.joined_revision(of_name if at else None, revision)
    return _tagged(model, tag, revision) if tag else _alone(model, revision)


def of_installed(text: str, revision: str | None) -> File | OpenClipName | None:
    """Return the meaning of a text by the models of the open_clip that is installed, newer ones or ones that were added.

    Raises:
        InvalidInput: if the file isn't here.
    """
    from clip_export.checkpoints import open_clip

    model, _, rest = text.partition("/")
    try:
        library = open_clip.library()
    except InvalidInput:
        return None
    if model not in library.list_models():
        return None
    if local_paths.is_weights(rest):
        return _file(model, rest, text, revision)
    tags = library.list_pretrained_tags_by_model(model)
    if rest in tags or (tags and not rest):
        return OpenClipName(model, rest or tags[0], revision, "" if rest else f"{model} alone is taken as {model}/{tags[0]}")
    raise _no_weights(model, rest, tags)


def _file(model: str, file: str, text: str, revision: str | None) -> File:
    """Return a file of weights for a model: behind its name, or in a folder of its name."""
    here = [path for path in map(local_paths.expanded, (file, text)) if local_paths.kind(path) == "file"]
    if not here:
        raise InvalidInput(f"no file {file}: expected open_clip:{model}/ and a safetensors file, or one of open_clip's tags")
    if revision:
        raise InvalidInput(f"--revision {revision} is for checkpoints on the hub, {quoted(file)} is a file: leave it out")
    return File(here[0], model)


def _alone(model: Model, revision: str | None) -> OpenClipName:
    """Return the best-known weights of a model."""
    if not model.best_known:
        raise _no_weights(model.name, "", ())
    meant = _tagged(model, model.best_known, revision)
    others = [tag for tag in model.tags if tag != meant.tag]
    more = f"; others: {', '.join(others[:_OTHERS])}{', …' if len(others) > _OTHERS else ''}" if others else ""
    fitted = f" ({meant.note})" if meant.note else ""
    note = f"{model.name} alone is taken as its best-known weights, open_clip:{meant.model}/{meant.tag}{fitted}{more}"
    return OpenClipName(meant.model, meant.tag, revision, note)


def _tagged(model: Model, text: str, revision: str | None) -> OpenClipName:
    """Return the weights of a model that a tag means, with the model of the activation that they were trained with."""
    tag = open_clip_names.tag_of(open_clip_names.with_both_activations(model), text)
    if tag is None:
        raise _no_weights(model.name, text, list(model.tags))
    fitted = open_clip_names.of_its_activation(model, tag)
    if fitted is model:
        return OpenClipName(model.name, tag, revision)
    activation = "with" if fitted.quick_gelu else "without"
    return OpenClipName(fitted.name, tag, revision, f"{tag} was trained {activation} QuickGELU, so its model is {fitted.name}")


def _no_weights(model: str, tag: str, tags: Sequence[str]) -> InvalidInput:
    if not tags:
        others = ", ".join(open_clip_names.nearest_models(model, with_weights=True))
        return InvalidInput(
            f"open_clip has no weights of {model}: expected a file of them, open_clip:{model}/FILE; the nearest models with "
            f"weights: {others}"
        )
    alike = [name for name in tags if key(tag) and key(tag) in key(name)] or difflib.get_close_matches(tag[:_LONGEST], tags)
    of_others = open_clip_names.models_with(tag)
    near = f"; the nearest: {', '.join(alike[:_OTHERS])}" if alike else ""
    other = f"; {quoted(tag)} is one of {', '.join(of_others[:_OTHERS])}" if of_others else ""
    return InvalidInput(
        f"open_clip has no weights {tag[:_LONGEST]!r} of {model}: expected one of {', '.join(tags)}, or a safetensors file, "
        f"open_clip:{model}/FILE{near}{other}"
    )
