"""Lists of pictures: a path or an http(s) URL a line. A list becomes a folder of links, and is added as a folder is."""

from __future__ import annotations

import codecs
import os
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from clip_client.counting import counted
from clip_client.errors import ClipError, InvalidInput
from clip_client.file_names import source_path
from clip_client.picture_files import is_picture_name
from clip_client.regular_files import read_regular
from clip_client.text_files import decoded
from clip_serve.up.messages import remark, say
from clip_serve.up.stop import Stop
from clip_serve.up.web_pictures import fetch, files_of, shown

_MOST_BYTES = 2**28  # of a list
_TABLES = (".json",)  # others are embedded
_SHOWN = 1_000  # entries that the page may show in full; each is an argument of the sidecar
_URLS = ("http://", "https://")
_WIDE = (codecs.BOM_UTF16_LE, codecs.BOM_UTF16_BE)
_BESIDE = (".txt", ".json")


@dataclass(frozen=True)
class Listed:
    """Entries of a list: absolute paths and URLs, each once, and the number of repetitions."""

    paths: Sequence[str]
    urls: Sequence[str]
    repeated: int

    @property
    def shown(self) -> list[Path]:
        """Return the paths that the page may show in full."""
        return [Path(path) for path in self.paths[:_SHOWN]]


def read(file: Path) -> Listed:
    """Read a list; raise InvalidInput if it can't be read, isn't one, or has no entry."""
    if file.suffix.lower() in _TABLES:
        raise InvalidInput(f"{file} is a table: pass the pictures' folder, and the table as --metadata {file}")
    if is_picture_name(file.name):
        raise InvalidInput(f"{file} is a picture: pass its folder, or a list of pictures")
    lines = [line for line in _lines(file) if not line.startswith("#") or os.path.lexists(_absolute(line, file.parent))]
    urls = [line for line in lines if line.lower().startswith(_URLS)]
    paths = [_absolute(line, file.parent) for line in lines if not line.lower().startswith(_URLS)]
    outer = _without_inner(dict.fromkeys(paths))
    web = list(dict.fromkeys(urls))
    if not lines:
        raise InvalidInput(f"{file} lists no pictures: expected a path or an http(s) URL a line")
    return Listed(outer, web, len(lines) - len(outer) - len(web))


def stage(file: Path, listed: Listed, folder: Path, stop: Stop) -> int:
    """Bring a folder of links and fetched pictures in line with a list; return the number of entries left out.

    Raises:
        InvalidInput: the folder can't be written.
        Stopped: a signal came.
    """
    try:
        folder.mkdir(mode=0o700, parents=True, exist_ok=True)
        links = _links(listed.paths, os.path.abspath(file.parent))
        fetched = [name for url in listed.urls for name in files_of(url)]
        _remove_others(folder, {*links, *fetched})
        problems = {target: reason for name, target in links.items() if (reason := _link(folder / name, target))}
    except OSError as problem:
        raise InvalidInput(f"{folder} can't be written ({problem.strerror}): name another --data") from problem
    entries = len(links) + len(listed.urls)
    problems |= fetch(listed.urls, folder, stop)
    for entry, reason in problems.items():
        remark(f"left out {shown(entry)}: {reason}")
    counts = f"{entries - len(problems)} to be added + {listed.repeated} repeated + {len(problems)} left out"
    say(f"{file}: {counted(entries + listed.repeated, 'line')} = {counts}")
    return len(problems)


def _lines(file: Path) -> list[str]:
    """Return the lines with something in them; names needn't be UTF-8, and `find -print0` ends them with zeros."""
    try:
        content = read_regular(file, _MOST_BYTES)[0]
    except ClipError as problem:
        raise InvalidInput(f"{file} can't be read: {problem}") from problem
    content = content.removeprefix(codecs.BOM_UTF8)
    try:
        text = decoded(content)[0] if content.startswith(_WIDE) else os.fsdecode(content)
    except InvalidInput as problem:
        raise InvalidInput(f"{file} {problem}") from problem
    lines = text.split("\0") if "\0" in text else [line.removesuffix("\r") for line in text.split("\n")]
    return [line for line in lines if line.strip()]


def _absolute(line: str, folder: Path) -> str:
    """Return the path of a line, without following links: below the list's folder, else below the working directory."""
    forms = [source_path(form) for form in dict.fromkeys((line, line.strip()))]
    forms = [os.path.expanduser(form) if form.startswith("~/") else form for form in forms]
    places = [os.path.abspath(os.path.join(base, form)) for form in forms for base in (folder, os.getcwd())]
    return next(filter(os.path.lexists, places), places[-2])


def _without_inner(paths: dict[str, None]) -> list[str]:
    """Return paths without those in a folder of the list: links to both would lie in each other."""
    return [path for path in paths if not any(str(parent) in paths for parent in Path(path).parents)]


def _links(paths: Sequence[str], base: str) -> dict[str, str]:
    """Return the target of each link by its name: the path below the list's folder, else the whole path; captions too."""
    links = dict[str, str]()
    for path in paths:
        below = path.startswith(f"{base.rstrip('/')}/")
        name = os.path.relpath(path, base) if below else path.lstrip("/") or "root"
        links[name] = path
    return links


def _link(link: Path, target: str) -> str:
    """Make a link, and links to the texts beside its target; return the reason if that fails."""
    stem, stem_of_link = os.path.splitext(target)[0], os.path.splitext(link)[0]
    beside = {f"{stem_of_link}{ending}": f"{stem}{ending}" for ending in _BESIDE if os.path.isfile(f"{stem}{ending}")}
    try:
        link.parent.mkdir(parents=True, exist_ok=True)
        for name, source in {str(link): target, **beside}.items():
            if os.path.islink(name):
                os.unlink(name)
            os.symlink(source, name)
    except (OSError, ValueError) as problem:
        return f"no link to it can be made ({problem})"
    return ""


def _remove_others(folder: Path, wanted: set[str]) -> None:
    """Remove what a former list had; links themselves, never what they lead to."""
    for root, folders, files in os.walk(folder, topdown=False):
        for name in (*files, *(name for name in folders if os.path.islink(os.path.join(root, name)))):
            path = os.path.join(root, name)
            if os.path.relpath(path, folder) not in wanted:
                os.unlink(path)
        if not os.listdir(root) and root != str(folder):
            os.rmdir(root)
