"""The SDK against a real server: right embeddings, errors by item, and no waiting beyond what was asked."""

from __future__ import annotations

import contextlib
import io
import re
import signal
import threading
import time
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image
from repositories import other_checkpoint
from servers import Server, free_ports, http_files, running
from transformers import CLIPModel, CLIPTokenizer
from transformers.image_utils import load_image
from transformers.models.clip.image_processing_pil_clip import CLIPImageProcessorPil

import pictures
from clip_client import Clip, ContractMismatch, InvalidInput, ModelSpec, Timeout, Unavailable

JPEGS = pictures.jpegs(70)
TEXTS = [f"a picture of thing number {n}" for n in range(70)]
HOSTILE = pictures.hostile()


@pytest.fixture(scope="module")
def expected(checkpoint: Path) -> tuple[np.ndarray, np.ndarray]:
    """Unit embeddings of JPEGS and TEXTS from transformers itself."""
    model = CLIPModel.from_pretrained(checkpoint).eval()
    images = [load_image(Image.open(io.BytesIO(jpeg))) for jpeg in JPEGS]
    pixels = CLIPImageProcessorPil.from_pretrained(checkpoint)(images=images, return_tensors="pt")
    tokens = CLIPTokenizer.from_pretrained(checkpoint)(TEXTS, padding=True, return_tensors="pt")
    with torch.inference_mode():
        features = model.get_image_features(**pixels).pooler_output, model.get_text_features(**tokens).pooler_output
    image, text = (torch.nn.functional.normalize(one, dim=1).numpy() for one in features)
    return image, text


def test_a_list_longer_than_a_batch_comes_back_in_order(clip: Clip, expected: tuple[np.ndarray, np.ndarray]) -> None:
    for embeddings, reference in zip((clip.embed_image(JPEGS), clip.embed_text(TEXTS)), expected, strict=True):
        assert (embeddings.dtype, embeddings.shape) == (np.float32, reference.shape)
        assert (embeddings * reference).sum(axis=1).min() >= 0.9999
        np.testing.assert_allclose(np.linalg.norm(embeddings, axis=1), 1, atol=1e-5)


def test_one_gives_one(clip: Clip, expected: tuple[np.ndarray, np.ndarray]) -> None:
    assert clip.embed_image(JPEGS[0]) @ expected[0][0] >= 0.9999
    assert clip.embed_text(TEXTS[0]) @ expected[1][0] >= 0.9999


def test_none_gives_none(clip: Clip) -> None:
    assert clip.embed_image([]).shape == (0, clip.spec.embedding_size)
    assert clip.embed_text(iter([])).shape == (0, clip.spec.embedding_size)


def test_every_kind_of_image(clip: Clip, tmp_path: Path) -> None:
    png = pictures.encoded(pictures.picture(120, 100), "PNG")
    path = tmp_path / "picture.png"
    path.write_bytes(png)
    image = Image.open(path)
    with http_files({"/picture.png": png}) as url:
        kinds = [png, path, str(path), io.BytesIO(png), image, np.asarray(image), f"{url}/picture.png"]
        embeddings = clip.embed_image(kinds)
    np.testing.assert_allclose(embeddings, np.tile(embeddings[0], (len(kinds), 1)), atol=1e-5)


def test_a_batch_with_bad_images_loses_only_those(clip: Clip, expected: tuple[np.ndarray, np.ndarray]) -> None:
    batch = list(JPEGS[:32])
    bad = dict(zip((0, 7, 8, 20, 31), ("empty", "truncated", "text", "bomb", "broken png"), strict=True))
    for n, kind in bad.items():
        batch[n] = HOSTILE[kind][0]
    rows = clip.embed_image(batch, on_error="none")
    assert {n for n, row in enumerate(rows) if row is None} == bad.keys() == rows.errors.keys()
    for n, kind in bad.items():
        assert re.search(HOSTILE[kind][1], rows.errors[n])
    good = [n for n in range(32) if n not in bad]
    assert len(good) == 27
    assert min(rows[n] @ expected[0][n] for n in good) >= 0.9999


@pytest.mark.parametrize("kind", HOSTILE)
def test_a_hostile_image_is_an_error_of_its_own(kind: str, clip: Clip, expected: tuple[np.ndarray, np.ndarray]) -> None:
    encoded, message = HOSTILE[kind]
    with pytest.raises(InvalidInput, match=message):
        clip.embed_image(encoded)
    rows = clip.embed_image([JPEGS[0], encoded], on_error="none")
    assert rows[0] @ expected[0][0] >= 0.9999
    assert rows[1] is None


def test_errors_that_are_raised_name_positions_and_files(clip: Clip) -> None:
    with pytest.raises(
        InvalidInput, match=r"2 of 3 images can't be embedded: image 1: .*image 2: no image file no\.jpg"
    ) as caught:
        clip.embed_image([JPEGS[0], b"", "no.jpg"])
    assert caught.value.errors.keys() == {1, 2}


def test_one_bad_item_can_be_none(clip: Clip) -> None:
    assert clip.embed_image(b"", on_error="none") is None
    assert clip.embed_text(b"\xff", on_error="none") is None


@pytest.mark.parametrize(
    "text", ["", "x" * 100_000, "word " * 10_000, "🎂", "before\x00after", "\n"], ids=lambda text: text[:9]
)
def test_any_text_has_an_embedding(text: str, clip: Clip) -> None:
    assert np.linalg.norm(clip.embed_text(text)) == pytest.approx(1, abs=1e-5)


def test_a_bad_text_leaves_its_neighbours_alone(clip: Clip, expected: tuple[np.ndarray, np.ndarray]) -> None:
    rows = clip.embed_text([TEXTS[0], b"caf\xe9", "\ud800", 7, TEXTS[1]], on_error="none")  # type: ignore[list-item]
    assert rows[0] @ expected[1][0] >= 0.9999
    assert rows[4] @ expected[1][1] >= 0.9999
    assert rows.errors.keys() == {1, 2, 3}
    assert "isn't UTF-8" in rows.errors[1]
    assert "can't be encoded" in rows.errors[2]
    assert "can't be an int" in rows.errors[3]


def test_trailing_zeros_of_a_file_arrive(clip: Clip) -> None:
    padded = clip.embed_image(JPEGS[0] + b"\0" * 10)
    np.testing.assert_allclose(padded, clip.embed_image(JPEGS[0]), atol=1e-6)
    assert clip.embed_image(pictures.encoded(Image.new("RGB", (8, 8)), "BMP")).any()


def test_compare_gives_cosines_and_probabilities(clip: Clip, expected: tuple[np.ndarray, np.ndarray]) -> None:
    image, text = expected
    comparison = clip.compare(JPEGS[:3], TEXTS[:4])
    cosines = image[:3] @ text[:4].T
    np.testing.assert_allclose(comparison.cosines, cosines, atol=1e-4)
    expected_probabilities = torch.softmax(torch.tensor(cosines) * clip.spec.logit_scale, dim=1).numpy()
    np.testing.assert_allclose(comparison.probabilities, expected_probabilities, atol=1e-3)


@pytest.mark.parametrize(
    ("subject", "prompt", "shape"),
    [(JPEGS[0], TEXTS[0], ()), (JPEGS[0], TEXTS[:3], (3,)), (JPEGS[:2], TEXTS[0], (2,)), (JPEGS[:2], TEXTS[:3], (2, 3))],
    ids=["one-one", "one-many", "many-one", "many-many"],
)
def test_a_comparison_has_the_shape_of_what_was_asked(subject, prompt, shape: tuple[int, ...], clip: Clip) -> None:
    comparison = clip.compare(subject, prompt)
    assert comparison.cosines.shape == comparison.probabilities.shape == shape
    prompts = prompt if isinstance(prompt, list) else [prompt]
    np.testing.assert_allclose(comparison.probabilities.reshape(-1, len(prompts)).sum(axis=1), 1, atol=1e-5)


def test_either_side_can_be_images_or_texts(clip: Clip) -> None:
    same = clip.compare(JPEGS[0], JPEGS[0], prompt_type="image")
    assert same.cosines == pytest.approx(1, abs=1e-5)
    assert clip.compare("a cat", JPEGS[:2], subject_type="text", prompt_type="image").cosines.shape == (2,)


def test_the_spec_is_the_checkpoints(clip: Clip, spec: ModelSpec) -> None:
    assert clip.spec == spec


def test_threads_can_share_a_client(clip: Clip, expected: tuple[np.ndarray, np.ndarray]) -> None:
    worst: list[float] = []

    def work(start: int) -> None:
        embeddings = clip.embed_image(JPEGS[start::8])
        worst.append(float((embeddings * expected[0][start::8]).sum(axis=1).min()))

    threads = [threading.Thread(target=work, args=(n,)) for n in range(8)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert len(worst) == 8
    assert min(worst) >= 0.9999


@pytest.mark.parametrize(
    ("use", "message"),
    [
        (lambda clip: clip.embed_image(None), "images can't be None: expected one image, or a list"),
        (lambda clip: clip.embed_text(3), "texts can't be an int"),
        (lambda clip: clip.compare(JPEGS[0], "x", subject_type="img"), "a side can't be 'img'"),
        (lambda clip: Clip("localhost"), "expected host:port"),
        (lambda clip: Clip("ftp://localhost:8001"), "expected host:port"),
        (lambda clip: Clip(timeout_s=0), "timeout_s is 0"),
        (lambda clip: Clip(requests_in_flight=0), "requests_in_flight is 0"),
    ],
)
def test_wrong_arguments_are_refused(use, message: str, clip: Clip) -> None:
    with pytest.raises(InvalidInput, match=message):
        use(clip)


def test_a_closed_client_says_so(server: Server) -> None:
    clip = Clip(server.address)
    clip.close()
    with pytest.raises(Unavailable, match="was closed"):
        clip.embed_text("x")


def test_no_prompts_give_no_columns(clip: Clip) -> None:
    assert clip.compare(JPEGS[:2], []).probabilities.shape == (2, 0)


def test_a_fault_of_a_single_image_is_what_it_is(clip: Clip) -> None:
    (port,) = free_ports(1)
    with pytest.raises(Unavailable):
        clip.embed_image(f"http://127.0.0.1:{port}/x.jpg")


def test_long_texts_do_not_hold_up_the_others(clip: Clip) -> None:
    took: list[float] = []
    with ThreadPoolExecutor(1) as pool:
        longest = [pool.submit(clip.embed_text, ["ab " * 40_000] * 32) for _ in range(20)]
        while not longest[-1].done():
            start = time.monotonic()
            clip.embed_text(f"a cat {len(took)}")
            took.append(time.monotonic() - start)
    assert all(len(texts.result()) == 32 for texts in longest)
    assert len(took) > 3
    assert max(took) < 5


def test_a_wrong_option_is_refused(clip: Clip) -> None:
    with pytest.raises(InvalidInput, match="on_error is 'ignore', expected 'raise' or 'none'"):
        clip.embed_text("x", on_error="ignore")  # type: ignore[call-overload]


@contextlib.contextmanager
def frozen(server: Server) -> Iterator[None]:
    """Suspend tritonserver for a while."""
    process = server.tritonserver()
    process.send_signal(signal.SIGSTOP)
    while any(status.read_text().rsplit(") ", 1)[1][0] != "T" for status in Path(f"/proc/{process.pid}/task").glob("*/stat")):
        time.sleep(0.001)  # its threads stop one after the other, on a busy machine not at once
    try:
        yield
    finally:
        process.send_signal(signal.SIGCONT)


class TestFaults:
    """Answers to a client whose server is down, frozen, or comes back."""

    @pytest.fixture
    def own(self, repository: Path) -> Iterator[Server]:
        with running(repository) as server:
            yield server

    def test_nobody_there(self) -> None:
        (port,) = free_ports(1)
        with Clip(f"127.0.0.1:{port}", timeout_s=5) as clip:
            start = time.monotonic()
            with pytest.raises(Unavailable, match=r"can't be reached .* 'clipserve serve' starts one"):
                clip.embed_text("x")
            assert time.monotonic() - start < 5
        with Clip(f"127.0.0.1:{port}", timeout_s=0.2) as clip:  # too short for the retries: still not a timeout
            with pytest.raises(Unavailable, match="can't be reached"):
                clip.embed_text("x")
            with pytest.raises(Unavailable, match=r"not ready within 0\.5 s: .* can't be reached"):
                clip.wait_ready(timeout_s=0.5)

    def test_a_frozen_server_is_a_timeout_in_the_time_asked_for(self, own: Server) -> None:
        with Clip(own.address, timeout_s=1) as clip:
            clip.embed_text("warm")
            start = time.monotonic()
            with frozen(own), pytest.raises(Timeout, match="didn't answer for clip_text in time"):
                clip.embed_text("x")
            assert 0.9 < time.monotonic() - start < 2
            assert clip.embed_text("x").any()

    def test_a_list_is_given_up_with_its_first_request(self, own: Server) -> None:
        with Clip(own.address, timeout_s=1) as clip:
            clip.embed_text("warm")
            start = time.monotonic()
            with frozen(own), pytest.raises(Timeout):
                clip.embed_text(["x"] * 500)
            assert time.monotonic() - start < 2

    def test_another_checkpoint_after_a_restart_is_noticed(self, repository: Path, spec: ModelSpec, tmp_path: Path) -> None:
        other = other_checkpoint(repository, tmp_path / "other", spec)
        changed = ModelSpec.load(other / "clip_text" / "1" / "spec.json")
        server = Server(repository)
        server.wait_ready()
        with Clip(server.address) as clip:
            clip.embed_text("x")
            server.stop()
            with pytest.raises(Unavailable):
                clip.embed_text("x")
            again = Server(other, ports=server.ports)
            again.wait_ready()
            with pytest.raises(ContractMismatch, match=f"{changed.fingerprint}, .* began with {spec.fingerprint}"):
                clip.embed_text("x")
            again.stop()

    def test_a_restart_is_survived(self, repository: Path) -> None:
        server = Server(repository)
        server.wait_ready()
        with Clip(server.address) as clip:
            before = clip.embed_text("the same")
            server.stop()
            with pytest.raises(Unavailable):
                clip.embed_text("the same")
            again = Server(repository, ports=server.ports)
            clip.wait_ready(timeout_s=30)
            np.testing.assert_allclose(clip.embed_text("the same"), before, atol=1e-6)
            again.stop()


def test_images_prepared_by_the_client_give_the_servers_embeddings(server: Server, clip: Clip) -> None:
    images = [*pictures.jpegs(3), b"no picture", pictures.picture(90, 70), np.zeros((50, 60, 3), np.uint8)]
    with Clip(server.address, preprocess="client") as here:
        ours, theirs = here.embed_image(images, on_error="none"), clip.embed_image(images, on_error="none")
    assert ours.errors == theirs.errors == {3: theirs.errors[3]}
    good = [n for n in range(len(images)) if n != 3]
    np.testing.assert_allclose([ours[n] for n in good], [theirs[n] for n in good], atol=1e-6)


def test_images_are_prepared_here_or_there_and_nowhere_else(server: Server) -> None:
    with pytest.raises(InvalidInput, match=r"preprocess is 'elsewhere': expected 'server' or 'client'"):
        Clip(server.address, preprocess="elsewhere")
