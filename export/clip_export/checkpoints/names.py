"""Meaning of ``--model``: a folder, a file, a hub id, or open_clip's model and tag, in the spellings that people use.

Only the names of files here are looked at; nothing comes from the network. The rules, in their order:

1. A folder or a file that is here is meant, whatever else has its name; behind ``hf:`` is always the hub.
2. A prefix says the kind: ``open_clip:``, ``hf:``, ``hf://``, ``hf-hub:``, ``hf_clip:``, ``local-dir:``, ``file:``, or a URL.
3. OpenAI's names, alone, are OpenAI's weights: ``ViT-B/32``, ``ViT-B-32`` and ``clip/ViT-B-32`` (Roboflow) are the hub's
   ``openai/clip-vit-base-patch32``. Its ResNets are only in open_clip: ``RN50`` is ``open_clip:RN50-quickgelu/openai``.
4. ``MODEL/TAG`` is open_clip's. ``MODEL`` alone is its best-known tag; ``open_clip:ViT-B-32`` is LAION's. Weights that were
   trained with the other activation get the model that has it.
5. A well-known name without its owner is that hub id: ``clip-ViT-B-32`` is sentence-transformers'.
6. ``ORG/NAME`` is a hub id, unless it is a misspelled ``MODEL/TAG``. Known ids are put right: the hub redirects few capitals.

A meaning that isn't what was typed carries a note.
"""

from __future__ import annotations

import re
from dataclasses import dataclass, replace
from typing import NoReturn

from clip_client.errors import InvalidInput
from clip_export.checkpoints import hub_addresses, known, local_paths, open_clip_meaning, open_clip_names, short_names
from clip_export.checkpoints.hub_addresses import Address
from clip_export.checkpoints.meanings import File, Folder, HubId, Meaning, OpenClipName
from clip_export.checkpoints.typed_text import EXPECTED, cleaned, plain, quoted

__all__ = ["File", "Folder", "HubId", "Meaning", "OpenClipName", "meaning"]

_PREFIX = re.compile(
    r"(?P<open_clip>open[_-]?clip\s*:(?://)?)|(?P<hub>(?:hf|huggingface|hf[_-]hub|hf[_-]clip)\s*:(?://)?)"
    r"|(?P<local>local-dir\s*:|file:(?://(?:localhost(?=/))?)?)",
    re.I,
)
_OPENAI = {
    "ViT-B-32": "openai/clip-vit-base-patch32",
    "ViT-B-16": "openai/clip-vit-base-patch16",
    "ViT-L-14": "openai/clip-vit-large-patch14",
    "ViT-L-14-336": "openai/clip-vit-large-patch14-336",
    **dict.fromkeys(["RN50", "RN101", "RN50x4", "RN50x16", "RN50x64"], ""),
}
"""open_clip's names of OpenAI's models, and their hub ids where they have one."""

_OPENAI_IN_FRONT = re.compile(r"(?:(?:openai|clip|roboflow)\s*(?:[/:\s_-]|::)\s*)*", re.I)
_OPENAI_FILE = re.compile(r"https?://openaipublic\.azureedge\.net/clip/models/\w+/([\w-]+)\.pt", re.I)
_MARQO = re.compile(r"^(?:open[_-]?clip|hf)/(?=[^/]+/)", re.I)  # it writes the prefixes so


@dataclass(frozen=True)
class _Asked:
    """A name that is being resolved.

    Attributes:
        text: the part of it that isn't resolved yet.
        revision: of ``--revision``.
        open_clip: True behind ``open_clip:``.
    """

    text: str
    revision: str | None
    open_clip: bool = False


def meaning(model: str, revision: str | None = None) -> Meaning:
    """Return the meaning of ``--model``, or of ``--text-model``.

    Args:
        model: as it was typed.
        revision: of ``--revision``.

    Raises:
        InvalidInput: if it has none, where the message has the nearest names; if the revision is another than the name's, or
            the meaning has no revisions.
    """
    asked = _Asked(model, hub_addresses.checked_revision(revision))
    if model.strip() and (here := _local(asked)):
        return here
    asked = replace(asked, text=cleaned(model))
    return _local(asked) or _prefixed(asked) or _bare(asked)


def _local(asked: _Asked) -> Folder | File | None:
    """Return the folder or file here that has that name."""
    path = local_paths.expanded(asked.text)
    kind = local_paths.kind(path)
    if kind == "other" or (kind == "unreadable" and local_paths.is_path(asked.text)):
        reason = "can't be looked into: check its permissions" if kind == "unreadable" else "is neither a folder nor a file"
        raise InvalidInput(f"{quoted(asked.text)} {reason}")
    if kind not in ("folder", "file"):
        return None
    if asked.revision:
        raise InvalidInput(
            f"--revision {asked.revision} is for checkpoints on the hub, {quoted(asked.text)} is a {kind}: leave it out"
        )
    if kind == "folder":
        folder, note = local_paths.folder_of(path)
        return Folder(folder, asked.open_clip, note or _shadowed(asked.text))
    if whole := local_paths.folder_of_weights(path):
        return Folder(whole, asked.open_clip, f"{path} is the weights of a checkpoint: its folder {whole} is exported")
    return File(path, None)


def _shadowed(text: str) -> str:
    """Return a note for a folder here with the name of something else that is well known."""
    if known.as_on_the_hub(text) in known.hub_ids():
        return f"the folder {text} here is exported; the hub's is hf:{text}"
    if open_clip_names.split(text):
        return f"the folder {text} here is exported, not open_clip's model"
    return ""


def _prefixed(asked: _Asked) -> Meaning | None:
    """Return the meaning of a name with a prefix or of a URL; None for another."""
    if url := _OPENAI_FILE.fullmatch(asked.text):
        return _openai(replace(asked, text=url[1]))
    prefix = _PREFIX.match(asked.text)
    if prefix is None:
        text = plain(asked.text)
        return _on_hub(asked, hub_addresses.of_url(text)) if hub_addresses.is_url(text) else None
    rest = replace(asked, text=asked.text[prefix.end() :].strip())
    if not rest.text.strip("/"):
        raise InvalidInput(f"nothing is behind {prefix[0]!r}: {EXPECTED}")
    if prefix.lastgroup == "local":
        return _local(rest) or _missing(rest.text)
    if prefix.lastgroup == "open_clip":
        return _behind_open_clip(replace(rest, open_clip=True))
    return _prefixed(rest) or _behind_hub(replace(rest, text=plain(rest.text)))


def _behind_open_clip(asked: _Asked) -> Meaning:
    if resolved := _prefixed(asked) or _local(asked):
        return resolved
    _refuse_paths(asked.text)
    text = plain(asked.text).strip().rstrip("/")
    if meant := open_clip_meaning.of(text, asked.revision) or open_clip_meaning.of_installed(text, asked.revision):
        return meant
    address = hub_addresses.of_text(text)
    if address and hub_addresses.is_id(address.id) and not open_clip_names.mistyped(address.id):
        return _on_hub(asked, address)
    first = text.partition("/")[0]
    raise InvalidInput(
        f"open_clip has no model {first[:80]!r}, nor is there a folder {quoted(text)}; the nearest are: "
        f"{', '.join(open_clip_names.nearest_models(first))}; a hub id is open_clip:hf-hub:ORG/NAME"
    )


def _behind_hub(asked: _Asked) -> Meaning:
    if openai := _openai(asked):
        return openai
    address = hub_addresses.of_hf_path(asked.text)
    if address is None:
        raise InvalidInput(f"{quoted(asked.text)} is no hub id: expected ORG/NAME, such as openai/clip-vit-base-patch32")
    return _on_hub(asked, address)


def _bare(asked: _Asked) -> Meaning:
    """Return the meaning of a name without a prefix that isn't here."""
    _refuse_paths(asked.text)
    text = _MARQO.sub("", plain(asked.text)).strip().rstrip("/")
    asked = replace(asked, text=text)
    first, second = (_openai, _well_known) if "/" in text else (_well_known, _openai)
    named = first(asked) or second(asked) or open_clip_meaning.of(text, asked.revision) or _in_short(asked)
    if named:
        return named
    if part := _part_of_a_known(text):
        return _on_hub(asked, part)
    address = hub_addresses.of_text(text)
    if local_paths.is_weights(text) or address is None or not address.id or (" " in text and "/" in text):
        _missing(asked.text)
    if open_clip_names.mistyped(address.id):
        near = _nearest(text) or _nearest(text.partition("/")[0])
        raise InvalidInput(f"neither open_clip nor this folder has {quoted(text)}{near}; if it is a hub id, pass hf:{text}")
    return _on_hub(asked, address)


def _well_known(asked: _Asked) -> HubId | None:
    """Return the known hub id whose owner was left out, unless open_clip's model has the same name."""
    name, at, revision = asked.text.partition("@")
    ids = [] if re.search(r"/(?!\d)", name) or open_clip_names.model_named(asked.text) else known.with_name(name)
    if not ids or (open_clip_names.split(asked.text) and ids[0].partition("/")[2] != name):
        return None
    return _on_hub(asked, Address(name.replace("/", "-"), revision if at else None))


def _openai(asked: _Asked) -> HubId | OpenClipName | None:
    """Return OpenAI's weights for one of its names, alone or behind ``openai`` or ``clip``, with a revision or without."""
    text = asked.text[_OPENAI_IN_FRONT.match(asked.text).end() :]  # type: ignore[union-attr]  # it matches nothing, too
    named, revision = open_clip_names.model_named(text), asked.revision
    if named is None and "@" in text:
        name, _, of_name = text.rpartition("@")  # ViT-L/14@336px has one of its own
        named = open_clip_names.model_named(name)
        if named and open_clip_names.tag_of(open_clip_names.with_both_activations(named[0]), of_name):
            return None
        revision = hub_addresses.joined_revision(of_name, revision) if named else None
    if named is None or named[0].name not in _OPENAI:
        return None
    model = named[0]
    if hub_id := _OPENAI[model.name]:
        more = f"; open_clip has others, as open_clip:{model.name}/{model.best_known}" if model.best_known != "openai" else ""
        return HubId(hub_id, revision, note=f"{asked.text} is taken as OpenAI's weights, {hub_id} on the hub{more}")
    quick = f"{model.name}{open_clip_names.QUICK}"
    return OpenClipName(quick, "openai", revision, f"{asked.text} is taken as OpenAI's weights, open_clip:{quick}/openai")


def _in_short(asked: _Asked) -> HubId | None:
    hub_id = short_names.hub_id(asked.text, known.hub_ids())
    if hub_id is None or known.as_on_the_hub(asked.text) == hub_id:
        return None
    return HubId(hub_id, asked.revision, note=f"{asked.text} is taken as {hub_id} on the hub")


def _on_hub(asked: _Asked, address: Address) -> HubId:
    """Return the repository of an address, in the hub's spelling where it is known."""
    revision = hub_addresses.joined_revision(address.revision, asked.revision)
    hub_id = _with_owner(address.id) if "/" not in address.id else known.as_on_the_hub(address.id)
    if not hub_addresses.is_id(hub_id):
        name, colon, behind = address.id.partition(":")
        hint = f"; a revision follows @, {quoted(f'{name}@{behind}')}" if colon and hub_addresses.is_id(name) else ""
        raise InvalidInput(
            f"no checkpoint folder {quoted(asked.text)}, and {quoted(address.id)} can't be a hub id: expected ORG/NAME of "
            f"letters, digits, '-', '_' and '.'{hint or _nearest(address.id)}"
        )
    put_right = f"{address.id} is {hub_id} on the hub" if hub_id != address.id else ""
    part = f"{quoted(address.file)} of {hub_id} is taken, not its other weights" if address.file else ""
    return HubId(hub_id, revision, asked.open_clip, address.file, "; ".join(filter(None, [put_right, part])))


def _part_of_a_known(text: str) -> Address | None:
    """Return the address of ``ORG/NAME/FILE`` where ORG/NAME is known and FILE has weights."""
    owner, name, *file = text.split("/", 2) if text.count("/") >= 2 else ("", "")
    hub_id = known.as_on_the_hub(f"{owner}/{name}")
    is_part = file and local_paths.is_weights(text) and hub_id in known.hub_ids()
    return Address(hub_id, file=file[0]) if is_part else None


def _with_owner(name: str) -> str:
    ids = known.with_name(name)
    if len(ids) == 1:
        return ids[0]
    if ids:
        raise InvalidInput(f"{quoted(name)} is the name of several on the hub: pass one of {', '.join(ids)}")
    raise InvalidInput(f"no folder {quoted(name)} here, and no known checkpoint has that name: {EXPECTED}{_nearest(name)}")


def _refuse_paths(text: str) -> None:
    """Raise InvalidInput for what can only be a path, since nothing is there."""
    if text.startswith(("/", "./", "../", "~")) or text in (".", ".."):
        _missing(text)
    local_paths.refuse_windows(text)


def _missing(text: str) -> NoReturn:
    """Raise InvalidInput for a path or name that nothing here has."""
    kind = "file" if local_paths.is_weights(text) else "checkpoint folder"
    beside = local_paths.nearest(local_paths.expanded(text))
    near = f"; beside it lies {beside}" if beside else _nearest(text)
    raise InvalidInput(f"no {kind} {quoted(text)}: {EXPECTED}{near}")


def _nearest(text: str) -> str:
    names = known.nearest(text)
    return f"; the nearest names: {', '.join(names)}" if names else ""
