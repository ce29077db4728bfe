"""Forms of input that users have besides lists; clients that are closed, copied or asked to wait."""

from __future__ import annotations

import copy
import inspect
import itertools
import math
import pickle
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pyarrow as pa
import pytest
import torch
from PIL import Image

from clip_client import AsyncClip, AsyncSearch, Clip, ClipError, InvalidInput, Search, Timeouts, Unavailable
from clip_client.embedding_streams import ItemStream

BAD_WAITS = [math.nan, -1, "3", None, True]


class Raising:
    """A path whose owner is broken."""

    def __fspath__(self) -> str:
        raise LookupError("no such place")


@pytest.fixture
def picture(tmp_path: Path) -> Path:
    path = tmp_path / "red.png"
    Image.new("RGB", (8, 8), "red").save(path)
    return path


def test_columns_of_arrow_and_arrays_of_paths_are_lists(clip: Clip, picture: Path) -> None:
    texts = clip.embed_text(["a cat", "a dog"])
    assert np.array_equal(clip.embed_text(pa.array(["a cat", "a dog"])), texts)
    assert clip.embed_text(pa.array(["a cat", None]), on_error="none").errors.keys() == {1}
    assert [item.source for item in clip.embed_texts(pa.chunked_array([["a cat"], ["a dog"]]))] == ["a cat", "a dog"]
    paths = np.array([str(picture)] * 2, object)
    assert clip.embed_image(paths).shape == clip.embed_image(paths.astype(str)).shape == (2, clip.spec.embedding_size)
    assert clip.classify(paths, ["a", "b"]).best == [clip.classify(picture, ["a", "b"]).best] * 2
    assert clip.similarity(np.array(["a cat", "a dog"])).shape == (2, 2)
    assert clip.count_tokens(text for text in ("a cat", "a dog")) == clip.count_tokens(["a cat", "a dog"])
    assert clip.count_tokens("a cat") == clip.count_tokens(["a cat"])


@pytest.mark.parametrize("items", [{"a cat": 1}, pd.DataFrame({"caption": ["a cat"]}), np.array("a cat"), 3, None])
def test_what_would_give_names_or_nothing_is_refused(clip: Clip, items: Any) -> None:
    for call in (clip.embed_text, clip.embed_texts, clip.count_tokens, clip.encode, clip.similarity):
        with pytest.raises(InvalidInput, match=r"can't be|has shape|is an array|expected"):
            call(items)


def test_a_path_that_raises_is_one_item(clip: Clip, picture: Path) -> None:
    rows = clip.embed_image([Raising(), picture], on_error="none")
    assert rows[1] is not None
    assert "LookupError: no such place" in rows.errors[0]
    assert [bool(item.reason) for item in clip.embed_images([Raising(), picture], on_error="none")] == [True, False]


def test_tensors_with_a_gradient_or_bfloat16_are_embeddings(clip: Clip) -> None:
    rows = torch.eye(clip.spec.embedding_size)[:2]
    for tensor in (rows.requires_grad_(), rows.detach().bfloat16()):
        assert np.allclose(clip.similarity(tensor), np.eye(2))


def test_names_with_bytes_that_are_no_text_can_be_printed(clip: Clip) -> None:
    with pytest.raises(InvalidInput) as caught:
        clip.embed_image("caf\udce9.png")
    assert "caf\\udce9.png" in str(caught.value).encode().decode()
    [item] = clip.embed_images(["caf\udce9.png"], on_error="none")
    assert item.reason.encode()


@pytest.mark.parametrize("wait", BAD_WAITS)
def test_waits_that_are_no_seconds_are_refused(wait: Any) -> None:
    with Clip("127.0.0.1:9") as clip, Search("http://127.0.0.1:9") as search:
        for call in (clip.wait_ready, search.wait_ready, clip.health):
            with pytest.raises(InvalidInput, match="timeout_s is"):
                call(timeout_s=wait)


def test_bounds_without_end_are_taken(clip: Clip, search: Search) -> None:
    clip.wait_ready(timeout_s=math.inf)
    address, [url] = str(clip._opening.args[0][0]), [search.url]
    for bound in (math.inf, 1e300):
        with Clip(address, timeout_s=bound, timeouts=Timeouts(connect_s=bound)) as patient:
            assert patient.embed_text("a cat").shape
        with Search(url, timeout_s=bound, timeouts=Timeouts(connect_s=bound)) as patient_search:
            assert isinstance(patient_search.collections(), list)


@pytest.mark.parametrize(
    "options", [{"requests_in_flight": "3"}, {"requests_in_flight": math.inf}, {"requests_in_flight": True}, {"name": 3}]
)
def test_options_of_another_type_are_named(options: dict[str, Any]) -> None:
    with pytest.raises(InvalidInput, match=next(iter(options))):
        Clip("127.0.0.1:9", **options)


def test_a_stream_ends_with_its_client(clip: Clip) -> None:
    """Without waiting for a server that is there: as long as the timeout, and never idle."""
    patient = Clip(str(clip._opening.args[0][0]), timeout_s=10_000)
    stream: ItemStream[Any] = patient.embed_texts(itertools.repeat("a cat", 5_000))
    next(stream)
    patient.close()
    with pytest.raises(Unavailable, match="closed"):
        list(stream)


def test_a_search_can_be_pickled_and_copied(search: Search) -> None:
    for other in (pickle.loads(pickle.dumps(search)), copy.deepcopy(search)):
        with other:
            assert (other.url, other.collections()) == (search.url, search.collections())


@pytest.mark.parametrize(
    "make",
    [
        lambda: Search(token="secret-1"),
        lambda: Search(headers={"x-key": "secret-1"}),
        lambda: AsyncSearch(token="secret-1"),
        lambda: AsyncClip(),
    ],
)
def test_secrets_and_clients_of_a_loop_are_not_pickled(make: Callable[[], Any]) -> None:
    with pytest.raises(ClipError, match=r"can't be (copied or )?pickled") as caught:
        pickle.dumps(make())
    assert "secret-1" not in str(caught.value)


def test_help_of_a_blocking_iterator_tells_no_asynchronous_one() -> None:
    assert inspect.signature(Search.rows).return_annotation == "Iterator[dict[str, Any]]"


def test_an_ipv6_address_is_shown_as_it_is_written() -> None:
    with Clip("[::1]:9", timeout_s=2) as clip, pytest.raises(ClipError) as caught:
        clip.embed_text("a cat")
    assert "%5B" not in str(caught.value)


def test_the_other_protocol_is_told(search: Search, clip: Clip) -> None:
    grpc = str(clip._opening.args[0][0])
    with Clip(f"http://{grpc}") as other, pytest.raises(Unavailable, match="gRPC perhaps"):
        other.embed_text("a cat")
    with Clip(search.url) as other, pytest.raises(Unavailable, match="not as a Triton does"):
        other.embed_text("a cat")
