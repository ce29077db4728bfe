"""``Clip.local``: the published models in this process give what a Triton gives, errors included."""

from __future__ import annotations

import gc
import shutil
import subprocess
import sys
import textwrap
import threading
import weakref
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import numpy as np
import openvino
import openvino.opset13 as opset
import psutil
import pytest
from google.protobuf import text_format
from repositories import other_checkpoint
from servers import Server, http_files, running
from tritonclient.grpc.model_config_pb2 import ModelConfig

import pictures
from clip_client import Clip, ContractMismatch, InvalidInput, ModelSpec, Unavailable, engines, model_config
from clip_client.spec import EMBEDDING
from clip_export import cli
from clip_export.variants import VARIANTS

JPEGS = pictures.jpegs(40)
BAD = [content for kind, (content, _) in pictures.hostile().items() if kind != "50 MB"]
IMAGES = [*JPEGS[:20], *pictures.awkward().values(), *BAD, *JPEGS[20:]]
TEXTS = [
    *(f"a picture of thing number {n} " * (1 + n % 5) for n in range(60)),
    *("", "🎂", "\n", "before\x00after", "é" * 300, b"caf\xe9", "\ud800", 7, "x" * 200_000),
]


@pytest.fixture(scope="module")
def here(repository: Path) -> Iterator[Clip]:
    """The small checkpoint in this process."""
    with Clip.local(repository) as here:
        yield here


@pytest.fixture
def own(repository: Path, tmp_path: Path) -> Path:
    """A repository to be damaged."""
    return Path(shutil.copytree(repository, tmp_path / "model_repository"))


def python(code: str, *arguments: object) -> str:
    """Run a program that must end by itself; return what it prints."""
    command = [sys.executable, "-c", textwrap.dedent(code), *map(str, arguments)]
    ended = subprocess.run(command, capture_output=True, text=True, timeout=60, check=False)
    assert ended.returncode == 0, ended.stderr
    return ended.stdout


def assert_same(ours: Any, theirs: Any) -> None:
    """Both are lists from ``on_error="none"``: equal to the bit, with the same errors."""
    assert ours.errors == theirs.errors
    for n, (our, their) in enumerate(zip(ours, theirs, strict=True)):
        assert (our is None) == (their is None) == (n in theirs.errors)
        assert our is None or our.tobytes() == their.tobytes(), n


def test_images_are_those_of_triton(here: Clip, clip: Clip) -> None:
    ours = here.embed_image(IMAGES, on_error="none")
    assert len(ours.errors) == len(BAD)
    assert_same(ours, clip.embed_image(IMAGES, on_error="none"))


def test_texts_are_those_of_triton(here: Clip, clip: Clip) -> None:
    ours = here.embed_text(TEXTS, on_error="none")
    assert len(ours.errors) == 4
    assert_same(ours, clip.embed_text(TEXTS, on_error="none"))


def test_every_method_answers_as_with_a_server(here: Clip, clip: Clip) -> None:
    here.wait_ready(timeout_s=5)
    assert here.spec == clip.spec
    assert here.count_tokens(["a", "a cat", b"\xff", "x " * 500]) == clip.count_tokens(["a", "a cat", b"\xff", "x " * 500])
    ours, theirs = (one.compare(JPEGS[:2], ["a cat", "a dog"]) for one in (here, clip))
    np.testing.assert_array_equal(ours.probabilities, theirs.probabilities)
    assert here.embed_image([]).shape == here.embed_text([]).shape == (0, here.spec.embedding_size)
    assert here.embed_image(JPEGS[0]).shape == (here.spec.embedding_size,)


def test_every_kind_of_image_is_taken(here: Clip, tmp_path: Path) -> None:
    png, path = pictures.encoded(pictures.picture(120, 100), "PNG"), tmp_path / "picture.png"
    path.write_bytes(png)
    with http_files({"/picture.png": png}) as url:
        embeddings = here.embed_image([png, path, str(path), pictures.picture(120, 100), f"{url}/picture.png"])
    np.testing.assert_allclose(embeddings, np.tile(embeddings[0], (5, 1)), atol=1e-5)


@pytest.mark.parametrize(
    "use",
    [
        lambda clip: clip.embed_image(None),
        lambda clip: clip.embed_image([JPEGS[0], b"", "no.jpg"]),
        lambda clip: clip.embed_image("no.jpg"),
        lambda clip: clip.embed_text(3),
        lambda clip: clip.embed_text([b"\xff", "x"]),
        lambda clip: clip.embed_text("x", on_error="ignore"),
        lambda clip: clip.compare(JPEGS[0], "x", subject_type="img"),
        lambda clip: clip.count_tokens(["\ud800"]),
        lambda clip: clip.embed_image("http://127.0.0.1:9/x.jpg"),
    ],
)
def test_errors_are_those_of_a_server(use: Callable[[Clip], Any], here: Clip, clip: Clip) -> None:
    errors = []
    for one in (here, clip):
        with pytest.raises(Exception) as caught:  # noqa: PT011  (compared below)
            use(one)
        errors.append((type(caught.value), str(caught.value), getattr(caught.value, "errors", None)))
    assert errors[0] == errors[1]


def test_a_name_that_is_not_there_names_those_that_are(repository: Path, server: Server) -> None:
    with (
        Clip(server.address, name="other") as there,
        pytest.raises(InvalidInput, match="serves no model other_image: publish it"),
    ):
        there.embed_text("x")
    with pytest.raises(InvalidInput, match=r"serves no model other_image: publish it, or pass the name it has: clip$"):
        Clip.local(repository, name="other")


def test_a_picture_above_pillows_limit_meets_ours(here: Clip, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("PIL.Image.MAX_IMAGE_PIXELS", 60_000)
    assert here.embed_image(JPEGS[4]).any()
    with pytest.raises(InvalidInput, match="15000 x 15000 pixels, at most 100,000,000 are taken"):
        here.embed_image(pictures.bomb())


def test_no_server_and_no_torch_is_loaded(repository: Path) -> None:
    code = """
        import sys
        from clip_client import Clip
        with Clip.local(sys.argv[1]) as clip:
            clip.compare(bytes.fromhex(sys.argv[2]), "a cat")
        print(*{name.partition(".")[0] for name in sys.modules})
    """
    loaded = set(python(code, repository, pictures.encoded(pictures.picture(40, 40)).hex()).split())
    assert "onnxruntime" in loaded
    assert not loaded & {"torch", "tritonclient", "grpc", "transformers", "openvino", "urllib3"}


@pytest.mark.parametrize("package", ["filelock", "google.protobuf", "onnxruntime", "tokenizers"])
def test_a_missing_package_names_the_extra(package: str, repository: Path) -> None:
    code = """
        import sys
        sys.modules[sys.argv[1]] = None
        from clip_client import Clip, Unavailable
        try:
            Clip.local(sys.argv[2])
        except Unavailable as problem:
            print(problem)
    """
    told = python(code, package, repository)
    assert package in told
    assert "pip install 'clipserve[local]'" in told


class TestDevices:
    """Names of devices, and the engines behind them."""

    @pytest.mark.parametrize("device", ["cpu", "AUTO", "CPUExecutionProvider", "cpuexecutionprovider"])
    def test_the_cpu_has_several_names(self, device: str, repository: Path, here: Clip) -> None:
        with Clip.local(repository, device=device) as other:
            np.testing.assert_array_equal(other.embed_text("a cat"), here.embed_text("a cat"))

    @pytest.mark.parametrize("device", ["CUDA", "GPU", "TPU", "", "AzureExecutionProvider", "CPU:0"])
    def test_an_unknown_one_lists_those_there_are(self, device: str, repository: Path) -> None:
        expected = rf"clip_image_encoder can't be run: ONNX Runtime has no device '{device}' here: expected one of AUTO, CPU$"
        with pytest.raises(InvalidInput, match=expected):
            Clip.local(repository, device=device)

    @pytest.mark.parametrize(
        "device", ["NPU", "GPU", "CPU.0", "CPU.7", "AUTO:NPU", "AUTO:", "HETERO", "CUDA", "", "CPU,NPU", "CPU:CPU", "BATCH:CPU"]
    )
    def test_openvino_lists_them_too(self, device: str) -> None:
        with pytest.raises(InvalidInput, match=rf"OpenVINO has no device '{device}' here: expected one of AUTO, CPU"):
            engines.check("openvino", device)

    def test_openvino_does_not_hold_the_file_beside_its_own_weights(self, tmp_path: Path) -> None:
        """Small folios of the file may come back with what is read of it at each inference; its weights may not."""
        file, side = tmp_path / "wide.xml", 4096
        tokens = opset.parameter([-1, side], np.float32)
        weights = opset.constant(np.random.default_rng(0).normal(size=(side, side)).astype(np.float32))
        [embedding] = opset.matmul(tokens, weights, False, False).outputs()
        embedding.set_names({EMBEDDING})
        openvino.save_model(openvino.Model([embedding], [tokens]), file, compress_to_fp16=False)
        encode = engines.opened("openvino", file, {})
        for rows in (3, 32):
            assert encode(np.ones((rows, side), np.float32)).any()
        [held] = [region.rss for region in psutil.Process().memory_maps() if region.path == str(file.with_suffix(".bin"))]
        assert held < file.with_suffix(".bin").stat().st_size / 8

    def test_a_share_of_the_cores_is_any_of_them(self, exported: Path) -> None:
        """Or each process that shares the machine would compute on its first core."""
        code = """
            import os, sys, threading, time
            import numpy as np
            from pathlib import Path
            from clip_client import engines
            encode = engines.opened("openvino", Path(sys.argv[1]), {"INFERENCE_NUM_THREADS": "1"})
            counts, end = set(), time.monotonic() + 1
            def look():
                while time.monotonic() < end:
                    counts.update(len(os.sched_getaffinity(int(task))) for task in os.listdir("/proc/self/task"))
            looking = threading.Thread(target=look)
            looking.start()
            while time.monotonic() < end:
                encode(np.zeros((32, 8), np.int32))
            looking.join()
            print(min(counts), os.cpu_count())
        """
        bound, cores = python(code, exported / "artifacts" / "tiny" / "openvino-fp16" / "text" / "model.xml").split()
        assert bound == cores

    @pytest.mark.parametrize("device", ["cpu", "AUTO", "AUTO:CPU", "HETERO:CPU"])
    def test_openvino_computes_the_same_behind_every_name(self, device: str, exported: Path, spec: ModelSpec) -> None:
        file = exported / "artifacts" / "tiny" / "openvino-fp16" / "text" / "model.xml"
        tokens = np.arange(24, dtype=np.int32).reshape(3, 8)
        tokens[:, 5] = spec.end_token
        precise = {"INFERENCE_PRECISION_HINT": "f32", "NUM_STREAMS": "1", "CPU_RUNTIME_CACHE_CAPACITY": "256"}
        expected = engines.opened("openvino", file, precise)(tokens)
        assert expected.any()
        np.testing.assert_array_equal(engines.opened("openvino", file, precise, device)(tokens), expected)

    @pytest.mark.parametrize(
        ("options", "message"),
        [
            ({"device": None}, "device is None: expected a name"),
            ({"threads": 0}, "threads is 0: expected a number from 1 to 1,024, or None"),
            ({"threads": 10**9}, "threads is 1000000000"),
            ({"threads": "2"}, "threads is '2'"),
            ({"timeout_s": 0}, "timeout_s is 0"),
        ],
        ids=str,
    )
    def test_options_that_cannot_be(self, options: dict[str, Any], message: str, repository: Path) -> None:
        with pytest.raises(InvalidInput, match=message):
            Clip.local(repository, **options)

    def test_threads_change_no_embedding(self, repository: Path, here: Clip) -> None:
        with Clip.local(repository, threads=1) as other:
            cosines = (other.embed_image(JPEGS[:8]) * here.embed_image(JPEGS[:8])).sum(axis=1)
        assert cosines.min() >= 0.99999

    def test_a_tensorrt_plan_says_what_runs_it(self, own: Path) -> None:
        config = own / "clip_text_encoder" / "config.pbtxt"
        config.write_text(config.read_text().replace('backend: "onnxruntime"', 'backend: "tensorrt"'))
        (own / "clip_text_encoder" / "1" / "model.plan").touch()
        expected = r"clip_text_encoder can't be run: a TensorRT plan .* \('docker compose --profile gpu up triton-gpu'"
        with pytest.raises(InvalidInput, match=expected):
            Clip.local(own)


def damaged(file: str, content: bytes | str = b"damaged") -> Callable[[Path], object]:
    return lambda own: (own / file).write_bytes(content if isinstance(content, bytes) else content.encode())


def removed(path: str) -> Callable[[Path], object]:
    return lambda own: shutil.rmtree(own / path) if (own / path).is_dir() else (own / path).unlink()


def edited(file: str, old: str, new: str) -> Callable[[Path], object]:
    def edit(own: Path) -> None:
        text = (own / file).read_text()
        assert old in text
        (own / file).write_text(text.replace(old, new))

    return edit


class TestRepositories:
    """Repositories that can't be opened end in plain errors."""

    @pytest.mark.parametrize(
        ("damage", "kind", "message"),
        [
            (shutil.rmtree, InvalidInput, "no model repository .*: publish a checkpoint"),
            (lambda own: [shutil.rmtree(model) for model in own.iterdir()], InvalidInput, "is empty: publish"),
            (lambda own: [shutil.rmtree(folder) for folder in own.glob("*/1")], InvalidInput, "has no weights for clip_image,"),
            (removed("clip_text"), InvalidInput, "lacks clip_text: publish"),
            (removed("clip_text_encoder/1"), InvalidInput, "has no weights for clip_text_encoder"),
            (removed("clip_text_encoder/1/model.onnx"), InvalidInput, "lacks clip_text_encoder/1/model.onnx"),
            (removed("clip_text_tokenize/1/tokenizer.json"), InvalidInput, "lacks clip_text_tokenize/1/tokenizer.json"),
            (damaged("clip_text/config.pbtxt", "name: 'half"), ContractMismatch, "isn't a model's configuration"),
            (damaged("clip_text/config.pbtxt", b"\xff\xfe"), ContractMismatch, "isn't a model's configuration"),
            (damaged("clip_text/1/spec.json", b"\xff\xfe"), ContractMismatch, "isn't of this version's layout"),
            (damaged("clip_text/1/spec.json", "[]"), ContractMismatch, "isn't of this version's layout"),
            (damaged("clip_text/1/spec.json", "[" * 100_000), ContractMismatch, "isn't of this version's layout"),
            (edited("clip_text/1/spec.json", '"format": 1', '"format": 0'), ContractMismatch, "isn't of this version's layout"),
            (edited("clip_text/1/spec.json", '": 224', '": "224"'), ContractMismatch, "wrong type"),
            (edited("clip_text/config.pbtxt", "max_batch_size: 32", ""), ContractMismatch, "take no batches"),
            (edited("clip_image/config.pbtxt", '"224"', '"[]"'), ContractMismatch, "wrong type"),
            (edited("clip_image_preprocess/config.pbtxt", "image_bytes", "bytes"), ContractMismatch, "lack a limit"),
            (edited("clip_image_preprocess/config.pbtxt", "33554432", "much"), ContractMismatch, "it is no number"),
            (
                edited("clip_text_encoder/config.pbtxt", "onnxruntime", "pytorch"),
                InvalidInput,
                "backend 'pytorch' has no engine",
            ),
        ],
    )
    def test_at_once(self, damage: Callable[[Path], object], kind: type[Exception], message: str, own: Path) -> None:
        damage(own)
        with pytest.raises(kind, match=message):
            Clip.local(own)

    @pytest.mark.parametrize(
        ("damage", "message"),
        [
            (damaged("clip_text_encoder/1/model.onnx"), r"clip_text_encoder can't be opened \(.*\): publish a checkpoint"),
            (damaged("clip_text_encoder/1/model.onnx", b""), "clip_text_encoder can't be opened"),
            (damaged("clip_text_tokenize/1/tokenizer.json", "{}"), r"tokenizer\.json can't be read"),
            (damaged("clip_text_tokenize/1/tokenizer.json", b"\xff"), "clip_text_tokenize can't be opened"),
        ],
    )
    def test_when_a_tower_is_used(self, damage: Callable[[Path], object], message: str, own: Path) -> None:
        damage(own)
        with Clip.local(own) as clip:
            with pytest.raises(ContractMismatch, match=message):
                clip.embed_text("x")
            assert clip.embed_image(JPEGS[0]).any()

    def test_of_two_checkpoints(self, own: Path, spec: ModelSpec, tmp_path: Path) -> None:
        others = other_checkpoint(own, tmp_path / "others", spec)
        shutil.rmtree(own / "clip_text_encoder")
        shutil.copytree(others / "clip_text_encoder", own / "clip_text_encoder")
        with pytest.raises(ContractMismatch, match="holds models of different checkpoints under one name, clip:"):
            Clip.local(own)

    def test_another_name_may_be_broken(self, own: Path) -> None:
        for folder in [*own.iterdir()]:
            shutil.copytree(folder, own / folder.name.replace("clip", "other"))
        shutil.rmtree(own / "other_text_encoder")
        with Clip.local(own) as clip:
            assert clip.embed_text("x").any()

    @pytest.mark.parametrize("repository", [None, 3, b"bytes"])
    def test_no_path(self, repository: Any) -> None:
        with pytest.raises(InvalidInput, match="expected the path of a folder"):
            Clip.local(repository)

    def test_what_is_open_stays_when_the_repository_is_exchanged(self, own: Path, spec: ModelSpec, tmp_path: Path) -> None:
        others = other_checkpoint(own, tmp_path / "others", spec)
        with Clip.local(own) as clip:
            before = clip.embed_image(JPEGS[0])
            own.rename(tmp_path / "old")
            others.rename(own)
            shutil.rmtree(tmp_path / "old")
            np.testing.assert_array_equal(clip.embed_image(JPEGS[0]), before)
            with pytest.raises(ContractMismatch, match=rf"since it was opened, .* began with {spec.fingerprint}: make a new"):
                clip.embed_text("x")
            assert clip.spec == spec
        with Clip.local(own) as clip:
            assert clip.spec.logit_scale == 50
            assert clip.embed_text("x").any()

    def test_the_folder_is_found_again_from_another(self, own: Path, monkeypatch: pytest.MonkeyPatch) -> None:
        monkeypatch.chdir(own.parent)
        with Clip.local() as clip:
            monkeypatch.chdir("/")
            assert clip.embed_text("x").any()


class TestProcess:
    """Threads, forks and memory."""

    def test_threads_share_a_client(self, here: Clip) -> None:
        expected = [here.embed_image(jpeg) for jpeg in JPEGS]
        with ThreadPoolExecutor(8) as pool:
            for ours, alone in zip(pool.map(here.embed_image, JPEGS), expected, strict=True):
                np.testing.assert_array_equal(ours, alone)

    def test_towers_are_opened_once(self, repository: Path, monkeypatch: pytest.MonkeyPatch) -> None:
        opened, original = [], engines.opened

        def noted(backend: str, file: Path, *options: Any) -> engines.Encoder:
            opened.append(file.parents[1].name)
            return original(backend, file, *options)

        monkeypatch.setattr(engines, "opened", noted)
        with Clip.local(repository) as clip, ThreadPoolExecutor(8) as pool:
            assert opened == []
            for embedding in pool.map(clip.embed_text, ["x"] * 16):
                assert embedding.any()
            assert opened == ["clip_text_encoder"]
            clip.wait_ready()
            clip.wait_ready()
        assert opened == ["clip_text_encoder", "clip_image_encoder"]

    def test_pictures_are_decoded_while_a_batch_is_encoded(self, repository: Path, monkeypatch: pytest.MonkeyPatch) -> None:
        decoded, original, pending = threading.Semaphore(0), engines.opened, [64]
        from clip_client import image_preparer

        preprocess = image_preparer.preprocess

        def noted(*arguments: Any) -> Any:
            pixels = preprocess(*arguments)
            decoded.release()
            return pixels

        def waiting(*arguments: Any) -> engines.Encoder:
            encode = original(*arguments)

            def after_the_next(batch: np.ndarray) -> np.ndarray:
                for _ in range(pending.pop() if pending else 0):
                    assert decoded.acquire(timeout=20)
                return encode(batch)

            return after_the_next

        monkeypatch.setattr(image_preparer, "preprocess", noted)
        monkeypatch.setattr(engines, "opened", waiting)
        with Clip.local(repository) as clip:
            assert len(clip.embed_image([JPEGS[0]] * 96)) == 96

    def test_a_forked_process_is_told_to_open_its_own(self, repository: Path) -> None:
        code = """
            import os, sys
            from clip_client import Clip, Unavailable
            clip = Clip.local(sys.argv[1])
            clip.embed_text("x")
            if os.fork():
                os.wait()
                print(clip.embed_text("x").any())
            else:
                try:
                    clip.embed_text("x")
                except Unavailable as problem:
                    print(problem, flush=True)
                clip.close()
                os._exit(0)
        """
        told, works = python(code, repository).splitlines()
        assert "was opened in process" in told
        assert "forked without the engines' threads: open it in the new processes alone" in told
        assert works == "True"

    def test_close_gives_memory_back_and_says_so(self, repository: Path, monkeypatch: pytest.MonkeyPatch) -> None:
        opened, original = [], engines.opened

        def noted(*arguments: Any) -> engines.Encoder:
            encode = original(*arguments)
            opened.append(weakref.ref(encode))
            return encode

        monkeypatch.setattr(engines, "opened", noted)
        before = {*threading.enumerate()}
        clip = Clip.local(repository)
        clip.wait_ready()
        clip.embed_image(JPEGS[:3])
        threads = {*threading.enumerate()} - before
        clip.close()
        clip.close()
        assert len(opened) == 2
        gc.collect()
        assert [encode() for encode in opened] == [None, None]
        assert threads
        assert [thread for thread in threads if thread.is_alive()] == []
        for use in (lambda: clip.embed_image(JPEGS[0]), lambda: clip.embed_text("x"), clip.wait_ready):
            with pytest.raises(Unavailable, match="was closed: make a new client"):
                use()

    def test_a_close_meanwhile_is_an_error_of_ours(self, repository: Path) -> None:
        clip = Clip.local(repository)
        clip.embed_image(JPEGS[0])
        with ThreadPoolExecutor(1) as pool:
            lists = pool.submit(clip.embed_image, JPEGS * 20)
            clip.close()
            with pytest.raises(Unavailable, match=r"was closed|given up"):
                lists.result()

    def test_a_batch_that_an_engine_fails_on_is_named(self, repository: Path, monkeypatch: pytest.MonkeyPatch) -> None:
        def broken(*arguments: Any) -> engines.Encoder:
            def encode(batch: np.ndarray) -> np.ndarray:
                raise RuntimeError("Exception from src/x.cpp:1:\nout of memory")

            return encode

        monkeypatch.setattr(engines, "opened", broken)
        with (
            Clip.local(repository) as clip,
            pytest.raises(Unavailable, match=r"clip_text_encoder failed \(RuntimeError: out of memory\)"),
        ):
            clip.embed_text("x")


RUNNABLE = [name for name, one in VARIANTS.items() if one.backend in engines.NAMES and not one.obstacle()]


@pytest.fixture(scope="module")
def artifacts(checkpoint: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The small checkpoint in every variant that this processor runs."""
    folder = tmp_path_factory.mktemp("variants")
    publish(checkpoint, folder / "artifacts", folder / "model_repository", RUNNABLE[0])
    return folder / "artifacts"


def publish(checkpoint: Path, artifacts: Path, repository: Path, variant: str) -> None:
    where = ["--artifacts", str(artifacts), "--repository", str(repository), "--variants", ",".join(RUNNABLE)]
    chosen = ["--image-variant", variant, "--text-variant", variant, "--force"]
    assert cli.main(["--model", str(checkpoint), *where, *chosen]) == 0


@pytest.mark.slow
@pytest.mark.parametrize("variant", RUNNABLE)
def test_every_variant_gives_what_triton_gives(variant: str, checkpoint: Path, artifacts: Path, tmp_path: Path) -> None:
    publish(checkpoint, artifacts, tmp_path / "model_repository", variant)
    images = [BAD[n % len(BAD)] if n % 30 == 7 else jpeg for n, jpeg in enumerate(pictures.jpegs(300))]
    texts = [b"caf\xe9" if n % 30 == 7 else f"{n} pictures of thing number {n * n} " * (1 + n % 9) for n in range(300)]
    with (
        running(tmp_path / "model_repository") as server,
        Clip(server.address) as there,
        Clip.local(tmp_path / "model_repository") as here,
    ):
        for embed, items in (("embed_image", images), ("embed_text", texts)):
            ours, theirs = (getattr(one, embed)(items, on_error="none") for one in (here, there))
            assert len(ours.errors) == 10
            assert ours.errors == theirs.errors
            good = [n for n in range(300) if n not in ours.errors]
            rows = [np.stack([answer[n] for n in good]) for answer in (ours, theirs)]
            left, right = (one / np.linalg.norm(one, axis=1, keepdims=True) for one in rows)  # float16 is 1e-3 off 1
            assert (left * right).sum(axis=1).min() >= 0.99999
            np.testing.assert_array_equal(*(getattr(one, embed)(items[:7]) for one in (here, there)))  # one batch


def test_configurations_are_read_as_triton_reads_them(repository: Path) -> None:
    for model in repository.iterdir():
        ours, theirs = model_config.read(model), ModelConfig()
        text_format.Parse((model / "config.pbtxt").read_text(), theirs)
        for field in ("name", "backend", "max_batch_size", "default_model_filename"):
            assert getattr(ours, field) == getattr(theirs, field)
        assert {key: ours.parameters[key].string_value for key in ours.parameters} == {
            key: theirs.parameters[key].string_value for key in theirs.parameters
        }


def test_a_configuration_may_be_written_by_hand(tmp_path: Path) -> None:
    (tmp_path / "config.pbtxt").write_text("""
        # a comment
        name: 'clip' "_x", max_batch_size: 8;
        parameters: [ { key: "a" value: { string_value: "1\\n\\303\\251" } }, < key: "b" value < string_value: "2" > > ]
        instance_group [ { kind: KIND_GPU gpus: [ 0, 1 ] } ]
        optimization { cuda { graphs: true } }
    """)
    read = model_config.read(tmp_path)
    assert (read.name, read.max_batch_size, read.backend) == ("clip_x", 8, "")
    assert {key: value.string_value for key, value in read.parameters.items()} == {"a": "1\né", "b": "2"}
