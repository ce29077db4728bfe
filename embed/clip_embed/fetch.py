"""Pictures that are named by a path or a URL."""

from __future__ import annotations

import time
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field

from clip_client import camera_files
from clip_client.downloads import Downloader, open_url
from clip_client.errors import ClipError, InvalidInput, Timeout, Unavailable
from clip_client.preprocess import Limits
from clip_client.regular_files import read_picture
from clip_embed.chunks import Picture
from clip_embed.locations import opened_url, remote_errors, shown

_WEB = ("http://", "https://")


@dataclass(frozen=True)
class FetchOptions:
    """Bounds on fetching one picture.

    Attributes:
        timeout_s: from the connection to the last byte.
        retries: after a host that is down or too slow.
        threads: pictures that are fetched at once.
    """

    timeout_s: float = 20.0
    retries: int = 2
    threads: int = 32


@dataclass
class Fetcher:
    """Reader of files, URLs and objects; safe to use from several threads."""

    options: FetchOptions = FetchOptions()
    limits: Limits = Limits()
    _pool: ThreadPoolExecutor = field(init=False)

    def __post_init__(self) -> None:
        self._pool = ThreadPoolExecutor(self.options.threads, thread_name_prefix="fetch")

    def contents(self, pictures: Sequence[Picture | None], problems: dict[int, str]) -> list[bytes | None]:
        """Return the files of pictures; None, and a reason among the problems, for one that can't be had."""

        def content(n: int) -> bytes | None:
            picture = pictures[n]
            if n in problems:
                return None
            try:
                if picture is None:
                    raise InvalidInput("has no picture")
                return picture if isinstance(picture, bytes) else self._fetched(picture)
            except ClipError as problem:
                problems[n] = str(problem)
                return None

        if any(isinstance(picture, str) for picture in pictures):
            return list(self._pool.map(content, range(len(pictures))))
        return [content(n) for n in range(len(pictures))]

    def close(self) -> None:
        """Stop the threads."""
        self._pool.shutdown(cancel_futures=True)

    def _fetched(self, picture: str) -> bytes:
        if picture.lower().startswith(_WEB):
            return self._downloaded(picture)
        if "://" in picture:
            return self._of_store(picture)
        return read_picture(picture, camera_files.most_bytes(picture, self.limits.image_bytes))

    def _downloaded(self, url: str) -> bytes:
        downloader = Downloader(open_url, self.limits.image_bytes, self.options.timeout_s)
        for attempt in range(self.options.retries + 1):
            try:
                return downloader.read(url)
            except (Unavailable, Timeout):
                if attempt == self.options.retries:
                    raise
                time.sleep(2.0**attempt / 2)
        raise AssertionError("unreachable")

    def _of_store(self, url: str) -> bytes:
        try:
            files, path = opened_url(url)
            with remote_errors(url):
                size = files.size(path)
            if size is not None and size > self.limits.image_bytes:
                raise InvalidInput(f"{shown(url)} has {size:,} bytes, at most {self.limits.image_bytes:,} are taken")
            with remote_errors(url):
                return bytes(files.cat_file(path))
        except OSError as problem:
            raise InvalidInput(f"{shown(url)} can't be read ({problem})") from problem
