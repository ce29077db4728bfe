"""Checksums of answers: whatever changes on its way through a server is noticed, and asked for again."""

from __future__ import annotations

import dataclasses
import json
import shutil
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from conftest import FLOATS
from relays import grpc_relay
from servers import Server, running
from sidecars import PICTURES
from tritonclient.grpc import service_pb2

from clip_client import Clip
from clip_client.checksums import checksum_tensor, is_damaged, of_array, of_strings
from clip_client.errors import Unavailable
from clip_client.rest_tensors import answered_tensors
from clip_client.spec import CHECKSUMS, PREPARED_CHECKSUMS
from clip_export import cli

BOTH = ["--image-variant", "openvino-fp16", "--text-variant", "openvino-fp16"]
PICTURE = PICTURES[0]
INFER = "/inference.GRPCInferenceService/ModelInfer"
ITEMS = {"image": [PICTURE, b"no picture"], "text": ["a cat", "a dog that barks at it"]}


@pytest.fixture(scope="module")
def published(exported: Path, checkpoint: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A repository with two OpenVINO encoders, whose backend tells checksums."""
    folder = tmp_path_factory.mktemp("checksums")
    artifacts, repository = shutil.copytree(exported / "artifacts", folder / "artifacts"), folder / "model_repository"
    where = ["--artifacts", str(artifacts), "--repository", str(repository)]
    assert cli.main(["--model", str(checkpoint), *where, *FLOATS, *BOTH]) == 0
    return repository


@pytest.fixture(scope="module")
def sound_server(published: Path) -> Iterator[Server]:
    """That repository, served."""
    with running(published) as server:
        yield server


class Damage:
    """Changes one bit of a tensor in the first ``times`` requests or answers."""

    def __init__(self, place: str, tensor: int, byte: int, times: int = 1) -> None:
        self.place, self.tensor, self.byte, self.left, self.calls = place, tensor, byte, times, 0

    def __call__(self, place: str, method: str, message: bytes) -> bytes:
        if method != INFER or place != self.place:
            return message
        self.calls += 1
        if self.left == 0:
            return message
        self.left -= 1
        parsed: Any = service_pb2.ModelInferRequest if place == "request" else service_pb2.ModelInferResponse
        changed = parsed.FromString(message)
        tensors = changed.raw_input_contents if place == "request" else changed.raw_output_contents
        content = bytearray(tensors[self.tensor])
        content[self.byte] ^= 1
        tensors[self.tensor] = bytes(content)
        return bytes(changed.SerializeToString())


def embedding(tower: str, clip: Clip) -> np.ndarray[Any, Any]:
    embed: Callable[..., Any] = clip.embed_image if tower == "image" else clip.embed_text
    answer = embed(ITEMS[tower], on_error="none")
    return np.array([np.zeros(clip.spec.embedding_size) if row is None else row for row in answer], np.float32)


TENSORS = {("text", "server"): 4, ("image", "server"): 5, ("image", "client"): 2}
"""Number of tensors in an answer: embeddings, checksums of one step or two, and unless pixels are sent errors and origins."""


@pytest.mark.parametrize(
    ("tower", "place", "tensor"), [(*way, tensor) for way, count in TENSORS.items() for tensor in range(count)]
)
def test_a_damaged_answer_is_asked_for_again(tower: str, place: str, tensor: int, sound_server: Server) -> None:
    damage = Damage("answer", tensor, 6)
    with Clip(sound_server.address) as alone:
        expected = embedding(tower, alone)
    with grpc_relay(sound_server, damage=damage) as address, Clip(address, preprocess=place) as clip:  # type: ignore[arg-type]
        np.testing.assert_array_equal(embedding(tower, clip), expected)
    assert (damage.left, damage.calls) == (0, 2)


@pytest.mark.parametrize("tower", ["text", "image"])
def test_a_request_that_changes_on_its_way_is_sent_again(tower: str, sound_server: Server) -> None:
    damage = Damage("request", 0, 7)
    with Clip(sound_server.address) as alone:
        expected = embedding(tower, alone)
    with grpc_relay(sound_server, damage=damage) as address, Clip(address) as clip:
        np.testing.assert_array_equal(embedding(tower, clip), expected)
    assert (damage.left, damage.calls) == (0, 2)


def test_the_answer_to_another_request_is_refused(sound_server: Server) -> None:
    answers: list[bytes] = []

    def exchange(place: str, method: str, message: bytes) -> bytes:
        if place == "answer" and method == INFER:
            answers.append(message)
            return answers[0]
        return message

    with grpc_relay(sound_server, damage=exchange) as address, Clip(address) as clip:
        assert clip.embed_text("a cat").any()
        with pytest.raises(Unavailable, match="answers with other bytes than its models gave"):
            clip.embed_text("a dog")
        assert len(answers) == 4
        assert clip.embed_text("a cat").any()


def test_counts_of_tokens_are_checked(sound_server: Server) -> None:
    texts = ["a cat", "a dog that barks at it"]
    damage = Damage("answer", 0, 4)
    with grpc_relay(sound_server, damage=damage) as address, Clip(address) as clip, Clip(sound_server.address) as alone:
        assert clip.count_tokens(texts) == alone.count_tokens(texts)
    assert (damage.left, damage.calls) == (0, 2)


def test_an_encoder_that_tells_none_has_its_input_checked(server: Server) -> None:
    damage = Damage("request", 0, 7)
    with grpc_relay(server, damage=damage) as address, Clip(address) as clip, Clip(server.address) as alone:
        np.testing.assert_array_equal(clip.embed_text("a cat"), alone.embed_text("a cat"))
    assert (damage.left, damage.calls) == (0, 2)


@pytest.mark.parametrize("place", ["server", "client"])
def test_a_model_that_tells_none_any_more_is_asked_without(place: str, server: Server) -> None:
    """As after a roll to another variant: the client still knows the ensembles of before."""
    calls: list[str] = []

    def count(where: str, method: str, message: bytes) -> bytes:
        calls.extend([method] * (where == "request"))
        return message

    with grpc_relay(server, damage=count) as address, Clip(address, preprocess=place) as clip:  # type: ignore[arg-type]
        expected = embedding("image", clip), clip.count_tokens(ITEMS["text"]), embedding("text", clip)
        known = clip._calls._known
        assert known
        outdated = dataclasses.replace(known.model, checksums={"image": (PREPARED_CHECKSUMS, CHECKSUMS), "text": (CHECKSUMS,)})
        clip._calls._known = dataclasses.replace(known, model=outdated)
        np.testing.assert_array_equal(embedding("image", clip), expected[0])
        assert clip.count_tokens(ITEMS["text"]) == expected[1]
        calls.clear()
        np.testing.assert_array_equal(embedding("text", clip), expected[2])
        assert calls.count(INFER) == 1  # it has asked what is served


@pytest.mark.long
def test_a_client_goes_on_with_a_variant_that_tells_none(published: Path, repository: Path, tmp_path: Path) -> None:
    served = tmp_path / "served"
    shutil.copytree(published, served)
    with running(served) as server, Clip(server.address) as clip:
        before = clip.embed_text("a cat")
        server.stop()
        other = Server(repository, ports=server.ports)
        try:
            other.wait_ready()
            for _ in range(2):
                np.testing.assert_allclose(clip.embed_text("a cat"), before, atol=1e-3)
        finally:
            other.stop()


def test_a_repository_in_this_process_is_asked_for_none(published: Path, sound_server: Server) -> None:
    with Clip.local(published) as here, Clip(sound_server.address) as there:
        for tower in ITEMS:
            np.testing.assert_allclose(embedding(tower, here), embedding(tower, there), atol=1e-5)


@pytest.mark.parametrize("cut", [b"\1", b"\2\0\0\0a", b"\xff\xff\xff\x7fab"])
def test_a_tensor_over_http_whose_lengths_are_damaged_is_no_answer(cut: bytes) -> None:
    content = b"\1\0\0\0a" + cut
    about = {"name": "error", "datatype": "BYTES", "shape": [1, 1], "parameters": {"binary_data_size": len(content)}}
    head = json.dumps({"outputs": [about]}).encode()
    with pytest.raises(ValueError, match=r"beyond the end|cannot reshape"):
        answered_tensors(head + content, str(len(head)), ["error"])


@pytest.mark.parametrize("shape", [(3, 512), (2, 7), (1, 5, 5, 3), (4, 1)])
@pytest.mark.parametrize("kind", [np.float32, np.int32, np.uint8])
def test_any_changed_byte_changes_its_rows_sum_alone(shape: tuple[int, ...], kind: type) -> None:
    batch = np.random.default_rng(3).integers(1, 99, shape).astype(kind)
    before = of_array(batch)
    for byte in range(0, batch.nbytes, 3):
        changed = batch.copy()
        changed.view(np.uint8).reshape(-1)[byte] ^= 64
        [differs] = np.flatnonzero(of_array(changed) != before)
        assert differs == byte // (batch.nbytes // len(batch))


@pytest.mark.parametrize("length", [1, 7, 4096, 4097, 5000])
def test_any_changed_byte_changes_a_strings_checksum(length: int) -> None:
    string = bytes(n % 251 for n in range(length))
    others = [(string, b"x"), (string + b"\0", b""), (string[:-1], b"")]
    for byte in range(0, length, max(1, length // 64)):
        changed = bytearray(string)
        changed[byte] ^= 1
        others.append((bytes(changed), b""))
    [expected] = of_strings([string], [b""])
    assert expected not in of_strings(*zip(*others, strict=True))


def test_links_of_two_steps_are_compared() -> None:
    came, pixels, embeddings = of_strings([b"x"], [b""]), np.ones((1, 4, 4, 3), np.uint8), np.ones((1, 8), np.float32)
    steps = [checksum_tensor(came, pixels), checksum_tensor(of_array(pixels), embeddings)]
    assert not is_damaged(came, steps, embeddings)
    assert not is_damaged(came, steps[:1], None)
    assert is_damaged(came, [steps[0], checksum_tensor(of_array(pixels + 1), embeddings)], embeddings)
    assert is_damaged(came, steps, embeddings * 2)
    assert is_damaged(of_strings([b"y"], [b""]), steps[:1], None)
