"""A user's code: type checkers judge it in their strictest mode, and each assertion here is one on types."""

from __future__ import annotations

from collections.abc import AsyncIterator, Iterator
from typing import Any

import numpy as np
import numpy.typing as npt
from typing_extensions import assert_type

from clip_client import AsyncClip, AsyncSearch, Clip, Comparison, Embeddings, ModelSpec, Search
from clip_client.search import Added, Row

Floats = npt.NDArray[np.float32]


def threads(clip: Clip, search: Search) -> None:
    """Use the blocking clients."""
    assert_type(clip.embed_image("cat.jpg"), Floats)
    assert_type(clip.embed_image("cat.jpg", on_error="none"), Floats | None)
    assert_type(clip.embed_text(["a cat"], on_error="none"), Embeddings)
    assert_type(clip.compare("cat.jpg", ["a cat"], prompt_type="text"), Comparison)
    assert_type(clip.spec, ModelSpec)
    assert_type(clip.count_tokens(["a cat"]), list[int])
    assert_type(search.query("photos", "a cat", k=5)[0].score, float)
    assert_type(search.add("photos", [Row(text="a cat")]), Added)
    assert_type(search.rows("photos", where="year > 2000"), Iterator[dict[str, Any]])
    assert_type(search.close(), None)
    clip.embed_text(3)  # type: ignore[call-overload]  # pyright: ignore
    search.query("photos", "a cat", number=5)  # type: ignore[call-arg]  # pyright: ignore
    search.delete()  # type: ignore[call-arg]  # pyright: ignore


async def loop() -> None:
    """Use the asynchronous clients."""
    async with AsyncClip("localhost:8001", timeout_s=5) as clip, AsyncSearch() as search:
        assert_type(await clip.embed_image("cat.jpg"), Floats)
        assert_type(await clip.embed_image("cat.jpg", on_error="none"), Floats | None)
        assert_type(await clip.embed_text(["a cat"], on_error="none"), Embeddings)
        assert_type(await clip.compare("cat.jpg", ["a cat"]), Comparison)
        assert_type(await clip.spec(), ModelSpec)
        assert_type((await search.query("photos", "a cat", k=5))[0].score, float)
        assert_type(search.rows("photos"), AsyncIterator[dict[str, Any]])
        async for row in search.rows("photos"):
            assert_type(row, dict[str, Any])
        await clip.embed_text(3)  # type: ignore[call-overload]  # pyright: ignore
        await search.query("photos", "a cat", number=5)  # type: ignore[call-arg]  # pyright: ignore


with Clip(timeout_s=5) as opened, Search() as found:
    threads(opened, found)
