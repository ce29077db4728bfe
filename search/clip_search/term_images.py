"""Encoded files of image terms: from the request, a URL or a path, as JPEG where the model reads no such file."""

import contextlib

from clip_client import camera_files
from clip_client.preprocess import Limits
from clip_search import fetch
from clip_search.budget import Budget, Share
from clip_search.options import FetchOptions
from clip_search.query import Term

_SOURCES = {"image_url": fetch.fetched, "image_path": fetch.read}


class TermImages:
    """Reader of image terms.

    Args:
        options: what may be fetched or read.
        decoding: memory for pictures that are decoded.
    """

    def __init__(self, options: FetchOptions, decoding: Budget) -> None:
        self._options, self._decoding = options, decoding

    def image(self, term: Term, share: Share) -> bytes:
        """Return the encoded file of an image term, as JPEG if it is HEIC or RAW.

        Its memory is in the share, unless it came with the request.

        Raises:
            InvalidInput: it can't be had, or not be decoded.
            Busy: others have the memory.
        """
        file = self._file(term, share)
        needed = camera_files.memory(file)
        with self._decoding.held(needed) if needed else contextlib.nullcontext():
            return camera_files.as_jpeg(file, Limits().image_pixels)

    def _file(self, term: Term, share: Share) -> bytes:
        """Return the file of an image term as it is; raises as :meth:`image`."""
        if term.kind == "image":
            return bytes(term.value)
        most = self._options.image_bytes
        share.take(most)
        file = b""
        try:
            file = _SOURCES[term.kind](term.value, self._options)
        finally:
            share.give_back(most - len(file))
        return file
