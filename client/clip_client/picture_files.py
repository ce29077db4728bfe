"""Picture files of a folder; the walk opens regular files only and follows no circle of links."""

import os
import stat
from collections import deque
from dataclasses import dataclass, field
from pathlib import Path

from clip_client import camera_files
from clip_client.errors import InvalidInput
from clip_client.preprocess import Limits
from clip_client.regular_files import kind, open_regular, reason

_TAKEN = ".jpg .jpeg .jpe .jfif .jfi .jif .pjpeg .pjp .mpo .png .apng .webp .gif .bmp .tif .tiff .avif .avifs"
ENDINGS = frozenset(_TAKEN.split()).union(*(kind.endings for kind in camera_files.KINDS))
"""Suffixes of the picture files that are taken, in any case, some if a library for them is installed; the only list of them."""

_USUAL = (".jpg", ".png", ".webp", ".gif", ".tif", ".avif", ".heic")
USUAL_ENDINGS = f"{', '.join(_USUAL)} and {len(ENDINGS) - len(_USUAL)} others"
"""Those that people have, for messages."""

_OTHER_PICTURES = (
    ".jxl .jp2 .j2k .j2c .jpc .jpf .jpx .jxr .wdp .avci .svgz .icns .cur "
    ".pnm .qoi .xbm .xpm .svg .psd .ico .tga .eps .xcf .dib .pcx .ppm .pgm .pbm .exr .hdr"
)
_UNTAKEN = frozenset(_OTHER_PICTURES.split())
"""Suffixes of other pictures, which are named as left out, since people would miss them."""

_TIFF = (b"II*\0", b"MM\0*")  # RAW files too
_MAGIC = (b"\xff\xd8\xff", b"\x89PNG\r\n\x1a\n", b"GIF87a", b"GIF89a", *_TIFF)
_APPLE_DOUBLE = b"\x00\x05\x16\x07"


@dataclass(frozen=True)
class PictureFile:
    """A picture's file."""

    name: str  # path below the folder, with slashes; bytes that aren't UTF-8 are surrogates, as `os.fsdecode` makes them
    path: str  # absolute, without links
    size: int  # in bytes
    mtime_ns: int  # time of the last change


@dataclass
class Scan:
    """Contents of a folder, by name below it."""

    pictures: list[PictureFile] = field(default_factory=list)  # sorted; each file once, however many links lead to it
    left_out: dict[str, str] = field(default_factory=dict)  # reasons, of what looks like a picture, or may hold some
    others: list[str] = field(default_factory=list)  # files that aren't pictures
    repeated: list[str] = field(default_factory=list)  # links to files and folders of the scan


def scan(folder: Path, limits: Limits = Limits()) -> Scan:
    """Walk a folder, its links to files and folders included; raise InvalidInput if there is no such folder."""
    if not folder.is_dir():
        raise InvalidInput(f"no folder {folder}: expected a folder of pictures")
    walk = _Walk(limits)
    walk.folder("", os.path.realpath(folder))
    walk.scan.pictures.sort(key=lambda file: file.name)
    return walk.scan


def is_picture_name(name: str) -> bool:
    """Return true if a name ends as a picture's does."""
    return _ending(name) in ENDINGS


class _Walk:
    """Breadth-first walk; links come last, so that a file of the folder is known by its own name."""

    def __init__(self, limits: Limits) -> None:
        self.scan = Scan()
        self._most_bytes = limits.image_bytes
        self._missing = {kind: kind.missing() for kind in camera_files.KINDS}
        self._seen: set[tuple[int, int]] = set()
        self._folders: deque[tuple[str, str]] = deque()
        self._links: deque[tuple[str, str]] = deque()
        self._following = False  # from the first link on, a file may come a second time

    def folder(self, name: str, path: str) -> None:
        """Scan a folder and all below it."""
        self._folders.append((name, path))
        while self._folders or self._links:
            if self._folders:
                self._list(*self._folders.popleft())
            else:
                self._follow(*self._links.popleft())

    def _list(self, name: str, path: str) -> None:
        try:
            status = os.stat(path)
            if self._repeated(name, status):
                return
            with os.scandir(path) as entries:
                inside = sorted(entries, key=lambda entry: entry.name)
        except OSError as problem:
            self.scan.left_out[f"{name or '.'}/"] = f"the folder can't be read ({reason(problem)}): look at its permissions"
            return
        for entry in inside:
            self._entry(f"{name}/{entry.name}" if name else entry.name, os.path.join(path, entry.name))

    def _entry(self, name: str, path: str) -> None:
        try:
            status = os.lstat(path)
            if stat.S_ISLNK(status.st_mode):
                self._links.append((name, path))
            else:
                self._take(name, path, status)
        except OSError as problem:  # it vanished, or nobody may look
            self.scan.left_out[name] = f"can't be read ({reason(problem)})"

    def _follow(self, name: str, path: str) -> None:
        self._following = True
        try:
            self._take(name, os.path.realpath(path, strict=True), os.stat(path))
        except FileNotFoundError:
            self._lost(name, "a link to nothing: what it names isn't there")
        except OSError as problem:
            self._lost(name, f"a link that can't be followed ({reason(problem)})")

    def _lost(self, name: str, reason: str) -> None:
        """Name a link that may have led to pictures; others are locks of editors and the like."""
        self._set_aside(name, reason, is_missed=is_picture_name(name) or not os.path.splitext(name)[1])

    def _take(self, name: str, path: str, status: os.stat_result) -> None:
        if stat.S_ISDIR(status.st_mode):
            if is_picture_name(name):
                self.scan.left_out[name] = "a folder, not a picture; what lies in it is looked at"
            self._folders.append((name, path))
        elif not stat.S_ISREG(status.st_mode):
            self._set_aside(name, f"{kind(status.st_mode)}, not a file", is_missed=is_picture_name(name))
        else:
            self._regular(PictureFile(name, path, status.st_size, status.st_mtime_ns), status)

    def _regular(self, file: PictureFile, status: os.stat_result) -> None:
        try:
            if not _is_picture(file.name, file.path):
                told = f"{_ending(file.name)[1:].upper()} isn't taken: convert it to JPEG, PNG, WebP or AVIF"
                self._set_aside(file.name, told, is_missed=_ending(file.name) in _UNTAKEN)
            elif lacking := self._lacking(file):
                self._set_aside(file.name, lacking, is_missed=True)
            elif not self._repeated(file.name, status):
                self._picture(file)
        except InvalidInput as problem:  # its first bytes would have told
            self.scan.left_out[file.name] = str(problem)

    def _lacking(self, file: PictureFile) -> str:
        """Return the message about a library that isn't installed; empty if none is needed, as for a JPEG named HEIC."""
        camera = camera_files.kind_by_ending(_ending(file.name))
        lacking = self._missing[camera] if camera else ""
        return "" if lacking and _is_magic(_start(file.path), but=_TIFF) else lacking

    def _picture(self, file: PictureFile) -> None:
        most = camera_files.most_bytes(file.name, self._most_bytes)
        if not file.size:
            self.scan.left_out[file.name] = "the file is empty (0 bytes)"
        elif file.size > most:
            self.scan.left_out[file.name] = f"has {file.size:,} bytes, at most {most:,} are taken: pass a smaller one"
        else:
            self.scan.pictures.append(file)

    def _set_aside(self, name: str, reason: str, *, is_missed: bool) -> None:
        """Leave a file out with its reason where people would miss it; others aren't pictures."""
        if is_missed:
            self.scan.left_out[name] = reason
        else:
            self.scan.others.append(name)

    def _repeated(self, name: str, status: os.stat_result) -> bool:
        """Note a file or folder, and return true for a repetition; hard links of a file are files of their own."""
        key = (status.st_dev, status.st_ino)
        if key in self._seen and (stat.S_ISDIR(status.st_mode) or self._following):
            self.scan.repeated.append(name)
            return True
        self._seen.add(key)
        return False


def _is_picture(name: str, path: str) -> bool:
    """Return true for a picture by its suffix, else by its first bytes; raise InvalidInput if these can't be read."""
    base = name.rpartition("/")[2]
    ending = _ending(base)
    if ending in ENDINGS:
        return not (base.startswith("._") and _start(path).startswith(_APPLE_DOUBLE))
    return not ending and not base.startswith(".") and _is_magic(_start(path))


def _ending(name: str) -> str:
    """Return the suffix in small letters, without the blanks that a careless renaming leaves behind it."""
    return os.path.splitext(name)[1].lower().rstrip()


def _start(path: str) -> bytes:
    with open_regular(path) as file:
        try:
            return file.read(16)
        except OSError as problem:
            raise InvalidInput(f"can't be read ({reason(problem)}): look at the disk") from problem


def _is_magic(start: bytes, but: tuple[bytes, ...] = ()) -> bool:
    """Return true for the first bytes of a picture, in another format than some."""
    webp = start[:4] == b"RIFF" and start[8:12] == b"WEBP"
    is_picture = webp or start[4:12] in (b"ftypavif", b"ftypavis") or start.startswith(_MAGIC)
    return is_picture and not start.startswith(but)
