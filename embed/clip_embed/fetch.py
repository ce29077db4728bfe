"""Pictures that are named by a path or a URL: several are fetched at once, ahead of their use."""

from __future__ import annotations

import threading
from collections.abc import Callable, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import dataclass, field
from urllib.parse import quote

from clip_client import camera_files
from clip_client.addresses import Network, TooSlow, Unreachable
from clip_client.downloads import Downloader
from clip_client.errors import ClipError, InvalidInput, Timeout, Unavailable
from clip_client.guarded_downloads import Guard
from clip_client.preprocess import Limits
from clip_client.regular_files import read_picture
from clip_embed.chunks import Chunk, Picture
from clip_embed.locations import opened_url, shown, told
from clip_embed.retries import Hosts, Lanes, retried

_WEB = ("http://", "https://")
_KEPT = "%/:?#[]@!$&'()*+,;=~|^`{}<>\"\\"  # characters of URLs that stay as they are: all of ASCII but blanks
_SLOW_LANES = 8  # threads for each download that counts: those that are slow stop counting
_MOST_BYTES = 2**28
"""Bytes of pictures that were fetched and not used yet, above which no further ones are begun."""


@dataclass(frozen=True)
class FetchOptions:
    """Bounds on fetching one picture.

    Attributes:
        timeout_s: of one try, from the look-up of the host to the last byte, redirects included.
        retries: after a host that is down, too slow or too busy.
        threads: pictures that are fetched at once, but for those that are slow or tried again.
        networks, ports: that may be fetched from, besides public addresses and the web's ports.
    """

    timeout_s: float = 20.0
    retries: int = 2
    threads: int = 32
    networks: tuple[Network, ...] = ()
    ports: tuple[range, ...] = ()


class Contents:
    """Files of a chunk's pictures on their way.

    Args:
        files: content of each, or its future.
        is_taken: told the number of bytes that are given away.
    """

    def __init__(self, files: Sequence[bytes | Future[bytes] | None], is_taken: Callable[[int], None]) -> None:
        self._files, self._is_taken = files, is_taken

    def wait(self, problems: dict[int, str]) -> list[bytes | None]:
        """Return the files; None, and a reason among the problems, for one that can't be had."""
        contents: list[bytes | None] = []
        for n, file in enumerate(self._files):
            contents.append(None)
            try:
                if n not in problems:
                    contents[n] = self._content(file)
            except ClipError as problem:
                problems[n] = str(problem)
        self._files = ()
        return contents

    def _content(self, file: bytes | Future[bytes] | None) -> bytes:
        if file is None:
            raise InvalidInput("has no picture")
        if isinstance(file, bytes):
            return file
        content = file.result()
        self._is_taken(len(content))
        return content


@dataclass
class Fetcher:
    """Reader of files, URLs and objects; safe to use from several threads."""

    options: FetchOptions = FetchOptions()
    limits: Limits = Limits()
    _held: int = 0
    _lock: threading.Lock = field(default_factory=threading.Lock)

    def __post_init__(self) -> None:
        self._files = ThreadPoolExecutor(self.options.threads, thread_name_prefix="read")
        self._far = ThreadPoolExecutor(_SLOW_LANES * self.options.threads, thread_name_prefix="fetch")
        self._lanes, self._hosts = Lanes(self.options.threads), Hosts()
        guard = Guard(self.options.networks, self.options.ports)
        self._downloader = Downloader(guard.open, self.limits.image_bytes, self.options.timeout_s, Unreachable, TooSlow)

    @property
    def is_full(self) -> bool:
        """Tell if what was fetched has to be used before more is."""
        return self._held > _MOST_BYTES

    def begin(self, chunk: Chunk) -> Contents:
        """Begin to fetch the pictures of a chunk, those without a problem."""
        files = [None if n in chunk.problems else self._begun(picture) for n, picture in enumerate(chunk.pictures)]
        return Contents(files, lambda size: self._hold(-size))

    def close(self) -> None:
        """Stop the threads; what hangs is given up."""
        self._files.shutdown(cancel_futures=True)
        self._far.shutdown(wait=False, cancel_futures=True)

    def _begun(self, picture: Picture | None) -> bytes | Future[bytes] | None:
        if not isinstance(picture, str):
            return picture
        pool, fetch = (self._far, self._fetched) if is_far(picture) else (self._files, self._read)
        return pool.submit(self._counted, fetch, picture)

    def _counted(self, fetch: Callable[[str], bytes], picture: str) -> bytes:
        content = fetch(picture)
        self._hold(len(content))
        return content

    def _hold(self, size: int) -> None:
        with self._lock:
            self._held += size

    def _read(self, path: str) -> bytes:
        return read_picture(path, camera_files.most_bytes(path, self.limits.image_bytes))

    def _fetched(self, url: str) -> bytes:
        is_web = url.lower().startswith(_WEB)
        host = url.partition("://")[2].partition("/")[0].lower()
        read = self._downloaded if is_web else self._of_store
        retries = self.options.retries if self._hosts.is_up(host) else 0
        try:
            content = retried(lambda: self._in_lane(read, url), lambda: read(url), retries)
        except (Timeout, Unavailable):
            self._hosts.failed(host)
            raise
        self._hosts.answered(host)
        return content

    def _in_lane(self, read: Callable[[str], bytes], url: str) -> bytes:
        with self._lanes.taken():
            return read(url)

    def _downloaded(self, url: str) -> bytes:
        """Download a URL; blanks and letters beyond ASCII behind its host are encoded, as browsers do."""
        scheme, _, rest = url.partition("://")
        host, slash, path = rest.partition("/")
        return self._downloader.read(f"{scheme}://{host}{slash}{quote(path, safe=_KEPT)}")

    def _of_store(self, url: str) -> bytes:
        most = self.limits.image_bytes
        try:
            files, path = opened_url(url)
            size = files.size(path)
            if size is not None and size > most:
                raise InvalidInput(f"{shown(url)} has {size:,} bytes, at most {most:,} are taken: pass a smaller one")
            content = bytes(files.cat_file(path, 0, size if size is not None else most + 1))
        except ClipError:
            raise
        except FileNotFoundError as problem:
            raise InvalidInput(f"nothing is at {shown(url)}: check the name") from problem
        except Exception as problem:  # each file system has errors of its own
            raise Unavailable(f"{shown(url)} can't be read ({told(problem)}): look at its address and credentials") from problem
        if len(content) > most:
            raise InvalidInput(f"{shown(url)} has more than {most:,} bytes: pass a smaller one")
        return content


def is_far(picture: Picture | None) -> bool:
    """Tell if a picture lies on another machine."""
    return isinstance(picture, str) and "://" in picture
