"""Hub ids and the hub's URLs as people write and paste them."""

from __future__ import annotations

import os
import re
from collections.abc import Sequence
from dataclasses import dataclass
from urllib.parse import SplitResult, unquote, urlsplit

from clip_client.errors import InvalidInput
from clip_export.checkpoints.local_paths import is_weights
from clip_export.checkpoints.typed_text import quoted

_HOSTS = frozenset({"huggingface.co", "www.huggingface.co", "hf.co", "www.hf.co", "hf-mirror.com"})
_URL = re.compile(r"[a-z][a-z0-9+.-]*://|https?:", re.I)
_GIT = re.compile(r"git@([\w.-]+):")
_HF_PATH = re.compile(r"(?P<id>[^/@]+/[^/@]+)(?:@(?P<revision>refs/[^/]+/[^/]+|[^/]+))?(?:/(?P<file>.+))?")

_PART = r"[A-Za-z0-9_](?:[A-Za-z0-9_.-]*[A-Za-z0-9_])?"
_ID = re.compile(rf"{_PART}/{_PART}")
_LONGEST_NAME = 96  # characters; huggingface_hub refuses longer ones

_NO_REVISION = re.compile(r"[ ~^:?*\[\\]|\.\.|@\{|^[/.]|[/.]$")  # git's rules, see git check-ref-format
_PULL_REQUEST = re.compile(r"(?:refs/)?pr/(\d+)")

_OF_A_REVISION = frozenset({"blame", "blob", "commit", "commits", "edit", "raw", "resolve", "revision", "tree", "upload"})
"""Pages of a repository whose address goes on with a revision."""

_KINDS = {"datasets": "a data set", "spaces": "a space", "collections": "a collection", "papers": "a paper"}
_PAGES = frozenset(
    {"blog", "chat", "docs", "join", "learn", "login", "new", "organizations", "posts", "search", "settings", "tasks"}
)


@dataclass(frozen=True)
class Address:
    """Part of the hub that a text names.

    Attributes:
        id: ORG/NAME, or NAME alone.
        revision: branch, tag, commit or pull request; None if the text has none.
        file: weights or a folder in the repository; empty if the text leads to neither.
    """

    id: str
    revision: str | None = None
    file: str = ""


def is_url(text: str) -> bool:
    """Return True for an address with a scheme or git's, and for one that begins with the hub's host."""
    host = text.partition("/")[0].lower()
    return bool(_URL.match(text) or _GIT.match(text)) or ("/" in text and host in _hosts())


def of_url(text: str) -> Address:
    """Return the part of the hub that a URL leads to: of a repository, a revision, a file, a pull request, or of its API.

    Raises:
        InvalidInput: if it leads elsewhere, or to none of the hub's models.
    """
    url = _split(text)
    if (url.netloc.rpartition("@")[2].lower() not in _hosts()) and (url.hostname or "") not in _hosts():
        raise InvalidInput(
            f"the host {quoted(url.hostname or '')} isn't a hub of models: expected https://huggingface.co/ORG/NAME; "
            "download a file from elsewhere and pass its path"
        )
    segments = [unquote(segment) for segment in url.path.split("/") if segment]
    segments = segments[1:] if segments[:1] == ["api"] else segments
    if segments[:1] == ["models"]:
        segments = segments[1:]
    return of_segments(segments)


def of_segments(segments: Sequence[str]) -> Address:
    """Return the address that a path on the hub's pages stands for.

    Raises:
        InvalidInput: if it isn't a model's.
    """
    first = segments[0] if segments else ""
    if first in _KINDS:
        raise InvalidInput(
            f"{'/'.join(segments[:3])} is {_KINDS[first]} of the hub: expected a model, https://huggingface.co/ORG/NAME"
        )
    if first in _PAGES or not segments:
        raise InvalidInput("that page of the hub isn't a model's: expected https://huggingface.co/ORG/NAME")
    id_, at, revision = "/".join(segments[:2]).removesuffix(".git").partition("@")
    page, rest = (segments[2], segments[3:]) if len(segments) > 2 else ("", [])
    if page == "discussions" and rest and rest[0].isdecimal():
        return Address(id_, f"refs/pr/{rest[0]}")
    if page in _OF_A_REVISION and rest:
        length = 3 if rest[0] == "refs" else 1
        return Address(id_, "/".join(rest[:length]), _part("/".join(rest[length:]), page == "tree"))
    return Address(id_, revision if at else None)


def of_text(text: str) -> Address | None:
    """Return the address that a text without a scheme stands for; None if it isn't one.

    ``ORG/NAME``, ``NAME``, either with ``@REVISION``; a path of the hub's pages, ``ORG/NAME/tree/REVISION``; a folder's name
    in the hub's cache, ``models--ORG--NAME``.

    Raises:
        InvalidInput: if it is a data set's or a space's.
    """
    text = re.sub(r"/{2,}", "/", text).rstrip("/")
    if text.startswith("models--"):
        text = text.removeprefix("models--").replace("--", "/", 1)
    name, at, revision = text.partition("@")
    segments = name.split("/")
    if segments[0] in _KINDS or (len(segments) > 2 and segments[2] in _OF_A_REVISION and not at):
        return of_segments(segments)
    if at:
        return Address(name.rstrip("/").removesuffix(".git"), unquote(revision))
    return Address(name.removesuffix(".git")) if len(segments) <= 2 else None


def of_hf_path(text: str) -> Address | None:
    """Return the address of ``ORG/NAME@REVISION/PATH``, as huggingface_hub's file system has it behind ``hf://``.

    Raises:
        InvalidInput: if it is a data set's or a space's.
    """
    path = _HF_PATH.fullmatch(re.sub(r"/{2,}", "/", text).rstrip("/"))
    if path is None or path["id"].partition("/")[0] in _KINDS or (path["file"] or "").partition("/")[0] in _OF_A_REVISION:
        return of_text(text)
    file = path["file"] or ""
    return Address(path["id"].removesuffix(".git"), unquote(path["revision"] or "") or None, _part(file, "." not in file))


def checked_revision(revision: str | None) -> str | None:
    """Return a revision as the hub takes it: ``pr/66`` becomes ``refs/pr/66``.

    Raises:
        InvalidInput: if no revision can have that name.
    """
    if revision is None:
        return None
    text = revision.strip()
    if not text or not text.isprintable() or _NO_REVISION.search(text):
        raise InvalidInput(
            f"the revision {revision[:80]!r} can't be one: expected a branch, a tag, a commit, or refs/pr/NUMBER of the hub"
        )
    request = _PULL_REQUEST.fullmatch(text)
    return f"refs/pr/{request[1]}" if request else text


def is_id(text: str) -> bool:
    """Return True for ORG/NAME that the hub may have, by the rules of huggingface_hub."""
    return bool(_ID.fullmatch(text)) and not re.search(r"--|\.\.", text) and len(text.partition("/")[2]) <= _LONGEST_NAME


def _part(path: str, is_folder: bool) -> str:
    """Return a path in a repository that can be a checkpoint; empty for a page, such as that of README.md."""
    return path if is_folder or is_weights(path) else ""


def _split(text: str) -> SplitResult:
    if git := _GIT.match(text):
        text = f"ssh://{git[1]}/{text[git.end() :]}"
    try:
        text = re.sub(r"(?i)^(https?):/*", r"\1://", text)  # a path that was put in order has one slash
        url = urlsplit(text if _URL.match(text) else f"https://{text}")
        _ = url.hostname, url.port
    except ValueError as problem:
        raise InvalidInput(f"that URL can't be read ({problem}): expected https://huggingface.co/ORG/NAME") from problem
    return url


def _hosts() -> frozenset[str]:
    """Return the hub's hosts, with that of HF_ENDPOINT."""
    endpoint = os.environ.get("HF_ENDPOINT", "")
    try:
        own = urlsplit(endpoint).netloc.rpartition("@")[2].lower()
    except ValueError:
        own = ""
    return _HOSTS | {own} if own else _HOSTS


def joined_revision(of_name: str | None, of_option: str | None) -> str | None:
    """Return the revision of a name and of ``--revision``, of which one or both may be given.

    Raises:
        InvalidInput: if they differ, or that of the name can't be one.
    """
    revision = checked_revision(of_name)
    if revision and of_option and revision != of_option:
        raise InvalidInput(f"the name says revision {revision}, and --revision says {of_option}: leave one of them out")
    return revision or of_option
