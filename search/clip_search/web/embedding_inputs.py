"""Images and texts of requests that embed at once: some in memory at a time, each with an error of its own."""

import re
from collections.abc import Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from functools import partial

from clip_client.clip import Embeddings
from clip_client.errors import ClipError, InvalidInput
from clip_search.arrays import Floats
from clip_search.budget import Share
from clip_search.errors import Busy
from clip_search.query import Term
from clip_search.sidecar import Sidecar
from clip_search.web.request_models import MAX_TEXT, file_bytes

MOST = 2048  # items of a request, as OpenAI has it
_MOST_URLS = 64  # pictures fetched for one request, at most: each may take ten seconds
_FETCHED = 16  # pictures in memory at once, each of up to 32 MB
_READERS = 8  # threads that fetch; most of their time is spent waiting
_SCHEME = re.compile(r"[A-Za-z][A-Za-z0-9+.-]*://")  # of any URL: what isn't http(s) is refused as that


@dataclass(frozen=True)
class Picture:
    """Picture of a request: the URL of a file, or the file in base64."""

    value: str
    is_url: bool


def picture(value: str) -> Picture:
    """Return a picture that is told by its beginning: a URL, which base64 can't be, or a file in base64 or a data: URI."""
    return Picture(value, _SCHEME.match(value) is not None)


def embed_images(sidecar: Sidecar, pictures: Mapping[int, Picture], errors: dict[int, str]) -> dict[int, Floats]:
    """Return vectors [D] of pictures by position; note those that can't be read or embedded.

    Raises:
        InvalidInput: more are to be fetched than may be.
        Busy: others have the memory for pictures.
        ClipError: Triton's.
    """
    if (urls := sum(picture.is_url for picture in pictures.values())) > _MOST_URLS:
        raise InvalidInput(f"{urls} pictures are to be fetched: expected at most {_MOST_URLS}; send more requests")
    vectors: dict[int, Floats] = {}
    numbers = [*pictures]
    for start in range(0, len(numbers), _FETCHED):
        part = numbers[start : start + _FETCHED]
        with Share(sidecar.fetched) as share:
            files = _files(sidecar, share, {n: pictures[n] for n in part})
            errors.update({n: str(file) for n, file in files.items() if isinstance(file, ClipError)})
            good = {n: file for n, file in files.items() if isinstance(file, bytes)}
            rows = sidecar.embedder.images([*good.values()])
        _take(vectors, errors, [*good], rows)
    return vectors


def embed_texts(sidecar: Sidecar, texts: Mapping[int, str], errors: dict[int, str]) -> dict[int, Floats]:
    """Return vectors [D] of texts by position; note those that are too long or can't be embedded; raises Triton's errors."""
    long = {n: len(text) for n, text in texts.items() if len(text) > MAX_TEXT}
    errors.update({n: f"the text has {size:,} characters: expected at most {MAX_TEXT:,}" for n, size in long.items()})
    good = {n: text for n, text in texts.items() if n not in long}
    vectors: dict[int, Floats] = {}
    if good:
        _take(vectors, errors, [*good], sidecar.embedder.texts([*good.values()]))
    return vectors


def _files(sidecar: Sidecar, share: Share, pictures: Mapping[int, Picture]) -> dict[int, bytes | ClipError]:
    """Return the files by position, or the reason why there is none."""
    with ThreadPoolExecutor(_READERS) as pool:
        return dict(zip(pictures, pool.map(partial(_file, sidecar, share), pictures.values()), strict=True))


def _file(sidecar: Sidecar, share: Share, picture: Picture) -> bytes | ClipError:
    """Return the encoded file, or the reason why there is none."""
    try:
        term = Term("image_url", picture.value) if picture.is_url else Term("image", file_bytes(picture.value))
        return sidecar.image(term, share)
    except Busy:
        raise
    except ClipError as problem:
        return problem


def _take(vectors: dict[int, Floats], errors: dict[int, str], numbers: Sequence[int], rows: Embeddings) -> None:
    """Note each row's vector, or the reason why it has none."""
    vectors.update({n: row for n, row in zip(numbers, rows, strict=True) if row is not None})
    errors.update({numbers[at]: reason for at, reason in rows.errors.items()})
