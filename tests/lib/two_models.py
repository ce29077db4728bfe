"""Two models of different spaces without a server: a vector is drawn by the content, and by the space that it is of."""

from __future__ import annotations

import contextlib
import hashlib
import io
import time
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import Future
from pathlib import Path
from typing import Any

import numpy as np
from PIL import Image

from clip_client.errors import Unavailable
from clip_client.spec import ModelSpec
from clip_search.embedder import Embedded
from clip_search.ingest import Outcome, add
from clip_search.items import AddOptions, Item
from clip_search.lru import Lru
from clip_search.options import FetchOptions, IndexOptions, Options
from clip_search.query import Term
from clip_search.sidecar import Sidecar

SIZES = {"old": 16, "new": 24}
INDEX = IndexOptions(exact_rows=200, tail_rows=100)


def spec(space: str) -> ModelSpec:
    """Spec of a checkpoint of that name; its space has the name, too."""
    shape: dict[str, Any] = {"image_size": 32, "resize_mode": "squash", "resize_size": 32, "interpolation": "bicubic"}
    norm: dict[str, Any] = {"mean": (0.5,) * 3, "std": (0.5,) * 3}
    text: dict[str, Any] = {"context_length": 8, "padding": "trailing", "pad_token": 0, "end_token": 1}
    scores: dict[str, Any] = {"logit_scale": 100.0, "logit_bias": 0.0, "activation": "softmax"}
    sums: dict[str, Any] = {"weights_sha256": "0" * 64, "tokenizer_sha256": "0" * 64, "inherited_space": space}
    about = {"name": space, "checkpoint": space, "revision": "", "family": "clip"}
    return ModelSpec(embedding_size=SIZES[space], **about, **shape, **norm, **text, **scores, **sums)


def vector(content: bytes | str, space: str) -> np.ndarray:
    """Vector of a picture's file or a text, float32 [D] of unit length."""
    raw = content if isinstance(content, bytes) else content.encode()
    seed = hashlib.sha256(space.encode() + raw).digest()[:8]
    drawn = np.random.default_rng(int.from_bytes(seed, "big")).normal(size=SIZES[space]).astype(np.float32)
    return drawn / np.linalg.norm(drawn)


class Vectors(list):  # type: ignore[type-arg]
    """Answer of a model: vectors or None, and the reasons."""

    def __init__(self, rows: Sequence[Any], errors: dict[int, str]) -> None:
        super().__init__(rows)
        self.errors = errors


class Model:
    """Stand-in for an embedder; ``is_down`` takes its server away, ``pause_s`` makes it slow."""

    def __init__(self, space: str) -> None:
        self.space, self.is_down, self.pause_s, self.asked = space, False, 0.0, 0  # pictures
        self.waiting = self.batches = self.batched = 0
        self.cache: Lru[Any, Any] = Lru(0)

    @property
    def spec(self) -> ModelSpec:
        if self.is_down:
            raise Unavailable(f"{self.space} isn't there")
        return spec(self.space)

    def known(self) -> ModelSpec | None:
        return None if self.is_down else spec(self.space)

    def not_ready(self) -> str:
        return f"{self.space} isn't there" if self.is_down else ""

    def images(self, files: Sequence[bytes]) -> Vectors:
        return self._made(files)

    def texts(self, texts: Sequence[str]) -> Vectors:
        return self._made(texts)

    def text(self, text: str) -> Future[Embedded]:
        made: Future[Embedded] = Future()
        made.set_result(Embedded(vector(text, self.space), self.spec))
        return made

    def close(self) -> None:
        pass

    def _made(self, given: Sequence[Any]) -> Vectors:
        _ = self.spec
        self.asked += sum(isinstance(one, bytes) for one in given)
        time.sleep(self.pause_s)
        errors = {n: "it isn't a picture" for n, one in enumerate(given) if one == b"bad"}
        return Vectors([None if n in errors else vector(one, self.space) for n, one in enumerate(given)], errors)


def picture(number: int) -> bytes:
    """PNG of one colour."""
    file = io.BytesIO()
    Image.new("RGB", (8, 8), (number % 256, number // 256 % 256, 7)).save(file, "PNG")
    return file.getvalue()


class World:
    """Sidecar in this process with the models ``old``, which serves, and ``new``, and a folder of pictures."""

    def __init__(self, folder: Path, index: IndexOptions = INDEX, **options: Any) -> None:
        self.folder = folder
        self.pictures = folder / "pictures"
        self.pictures.mkdir(parents=True, exist_ok=True)
        fetch = FetchOptions(folders=(self.pictures,))
        self.sidecar = Sidecar(Options(str(folder / "data"), triton="127.0.0.1:9", index=index, fetch=fetch, **options))
        models: Any = self.sidecar.models
        models.main.close()
        self.old, self.new = Model("old"), Model("new")
        models.main = self.sidecar.embedder = self.old  # type: ignore[assignment]
        models._others = {("new", False): self.new, ("old", False): self.old}
        self.sidecar.open_all()

    def source(self, number: int) -> str:
        """Path of a picture's file."""
        path = self.pictures / f"{number}.png"
        if not path.exists():
            path.write_bytes(picture(number))
        return str(path)

    def add(self, *numbers: int, name: str = "a", conflict: Any = "error", **fields: Any) -> Outcome:
        """Add rows with a picture by path and a text."""
        items = [Item(f"r{n}", Term("image_path", self.source(n)), f"text {n}", metadata={"n": n, **fields}) for n in numbers]
        return add(self.sidecar, self.sidecar.collection(name), items, AddOptions(conflict))

    def state(self, name: str = "a") -> dict[str, Any]:
        return self.sidecar.seconds.state(name) or {"state": "none", "reason": ""}

    def settled(self, *states: str, name: str = "a", timeout_s: float = 60) -> dict[str, Any]:
        """Wait for one of these states."""
        assert until(lambda: self.state(name)["state"] in states, timeout_s), self.state(name)
        return self.state(name)

    def answers(self, name: str = "a") -> tuple[str, dict[str, Any]]:
        """Space that serves and the number that each id's vectors say, looked up one by one; checks every vector."""
        collection = self.sidecar.collection(name)
        space = collection.about.space
        rows = {}
        for values in collection.table.page(
            "", -1, 10_000, ["id", "n", "has_image", "has_text", "vector_image", "vector_text"]
        ):
            number = values["n"]
            rows[values["id"]] = number
            for tower, content in (("image", picture(number)), ("text", f"text {number}")):
                expected = vector(content, space)
                assert np.allclose(values[f"vector_{tower}"], expected, atol=1e-6), (values["id"], tower)
                scores, found = collection.search(expected, tower, 1, "")  # type: ignore[arg-type]
                assert found.tolist() == [values["row"]], (values["id"], tower)
                assert scores[0] > 0.999
        return space, rows

    def close(self) -> None:
        self.sidecar.close()


@contextlib.contextmanager
def world(folder: Path, **options: Any) -> Iterator[World]:
    """A world that is closed at the end."""
    made = World(folder, **options)
    try:
        yield made
    finally:
        made.close()


def until(condition: Callable[[], bool], timeout_s: float = 60) -> bool:
    """Wait for a condition; tell if it came true."""
    deadline = time.monotonic() + timeout_s
    while not condition():
        if time.monotonic() > deadline:
            return False
        time.sleep(0.02)
    return True
