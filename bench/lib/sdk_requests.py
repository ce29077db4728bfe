"""Requests to Triton through the SDK."""

import itertools
from collections.abc import Sequence

from clip_client import Clip
from clip_client.spec import Tower
from lib.load import Request
from lib.samples import texts

_TEXTS = 20_000  # then they come again; Triton remembers none


def sdk_request(clip: Clip, tower: Tower, files: Sequence[bytes], batch: int = 1) -> Request:
    """Return a request that embeds the next ``batch`` pictures of ``files``, or the next new texts."""
    if tower == "image":
        return lambda n: clip.embed_image([files[(n * batch + k) % len(files)] for k in range(batch)])
    unsent = itertools.cycle(texts(_TEXTS))
    return lambda _: clip.embed_text([next(unsent) for _ in range(batch)])
