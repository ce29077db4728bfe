"""Pictures as tables and lists name them: paths, URLs, and encoded files in base64."""

from __future__ import annotations

import base64
import binascii
import os
import re
from dataclasses import dataclass
from urllib.parse import unquote_to_bytes, urljoin

from clip_client.errors import InvalidInput
from clip_embed.chunks import Picture
from clip_embed.fields import is_unicode
from clip_embed.locations import STORES, shown

_WEB = ("http", "https")
_FILE = re.compile(r"file:(//(localhost)?)?(?=/)", re.I)
_SCHEME = re.compile(r"([a-z][a-z0-9+.-]*)://", re.I)
_BASE64 = ("/9j/", "iVBORw0KGgo", "UklGR", "R0lGOD", "SUkq", "TU0A", "Qk", "AAAA")
"""First letters of JPEG, PNG, WebP, GIF, TIFF, BMP and AVIF in base64."""
_LETTERS = re.compile(r"[A-Za-z0-9+/\s]+={0,2}\s*")
_FOREIGN = "is a file of this machine, named by a table that was downloaded: expected a URL"
_SHORTEST = 64  # letters of an encoded picture; paths that look like base64 are shorter


@dataclass(frozen=True)
class References:
    """Resolver of what one table says.

    A table that was downloaded may be a stranger's: it names no files of this machine, and no servers but the web's, object
    stores and the one that it came from.

    Attributes:
        folder: of the table, a path or a URL; relative paths start there.
        only_below: folders of this machine that it may name files in; None for all.
    """

    folder: str
    only_below: tuple[str, ...] | None = None

    def picture(self, written: str) -> Picture:
        """Return the place of a picture, or its content; raise InvalidInput if it may not be read."""
        written = written.strip()
        if not is_unicode(written):
            raise InvalidInput("has half of a surrogate pair in its path: write the table again")
        if written[:5].lower() == "data:":
            return _of_data_url(written)
        if (content := _of_base64(written)) is not None:
            return content
        if "://" in written and not _FILE.match(written):
            return self._url(written)
        return self._path(written)

    @property
    def _is_remote(self) -> bool:
        return "://" in self.folder

    def _url(self, url: str) -> str:
        match = _SCHEME.match(url)
        scheme = match[1].lower() if match else url.partition("://")[0]
        if scheme in _WEB:
            return url
        if "::" not in url and (scheme in STORES or self._is_own(url)):
            return url
        raise InvalidInput(f"{shown(url)[:200]} can't be fetched: expected http(s)://, s3://, gs://, az:// or a path")

    def _is_own(self, url: str) -> bool:
        """Tell if a URL is of the server that the table came from."""
        scheme, _, rest = self.folder.partition("://")
        same = url.startswith(f"{scheme}://")
        return self._is_remote and same and (scheme == "memory" or url.split("/")[2] == rest.split("/")[0])

    def _path(self, path: str) -> str:
        uri = _FILE.match(path)
        if not self._is_remote:
            named = os.fsdecode(unquote_to_bytes(path[uri.end() :].partition("?")[0])) if uri else path
            joined = os.path.join(self.folder, named)
            self._check_place(joined)
            return joined if ".." in named else os.path.normpath(joined)  # a link's parent isn't the folder that it lies in
        if uri or os.path.isabs(path) or path.startswith("\\"):
            raise InvalidInput(f"{path[:200]} {_FOREIGN}")
        if self.folder.lower().startswith(tuple(f"{scheme}://" for scheme in _WEB)):
            return urljoin(f"{self.folder}/", path)
        return f"{self.folder}/{os.path.normpath(path)}"

    def _check_place(self, path: str) -> None:
        if self.only_below is not None:
            real = os.path.realpath(path)
            if not any(real.startswith(f"{os.path.realpath(folder)}/") for folder in self.only_below):
                raise InvalidInput(f"{path[:200]} {_FOREIGN}")


def _of_data_url(url: str) -> bytes:
    head, comma, body = url.partition(",")
    content = unquote_to_bytes(body)
    if not comma:
        raise InvalidInput("a data: URL without a comma: expected data:image/jpeg;base64,…")
    if head.lower().endswith(";base64"):
        try:
            return base64.b64decode(content)
        except binascii.Error as problem:
            raise InvalidInput(f"a data: URL whose base64 is damaged ({problem}): encode it again") from problem
    return content


def _of_base64(text: str) -> bytes | None:
    if len(text) < _SHORTEST or not text.startswith(_BASE64) or not _LETTERS.fullmatch(text):
        return None
    try:
        return base64.b64decode(text)
    except binascii.Error as problem:
        raise InvalidInput(f"looks like a picture in base64, but is damaged ({problem}): encode it again") from problem
