"""One config.pbtxt for the container's native backends and for their stand-ins."""

from __future__ import annotations

import shutil
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import numpy as np
import pytest
import tritonclient.grpc as grpc_client
import yaml
from conftest import FLOATS
from google.protobuf import text_format
from servers import Server, running
from tritonclient.grpc.model_config_pb2 import ModelConfig
from tritonclient.utils import InferenceServerException
from ups import wait_for

import pictures
from clip_client import Clip, ModelSpec, engines

ROOT = Path(__file__).parents[1]
ENGINES = Path(engines.__file__).parent

DOCUMENTED = {
    "onnxruntime": {"intra_op_thread_count", "inter_op_thread_count", "execution_mode"},
    "openvino": {
        "NUM_STREAMS",
        "PERFORMANCE_HINT",
        "INFERENCE_PRECISION_HINT",
        "INFERENCE_NUM_THREADS",
        "CPU_RUNTIME_CACHE_CAPACITY",
        "FIXED_SHAPES_BYTES",
    },
}
"""Parameters in the README of triton-inference-server/onnxruntime_backend; what OpenVINO's CPU plugin reads, and our engine."""


def parse(path: Path) -> ModelConfig:
    return text_format.Parse(path.read_text(), ModelConfig())


def configs(repository: Path) -> dict[str, ModelConfig]:
    return {path.parent.name: parse(path) for path in sorted(repository.glob("*/config.pbtxt"))}


@pytest.fixture(scope="module")
def both_backends(exported: Path, checkpoint: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A repository with an ONNX Runtime and an OpenVINO encoder."""
    from clip_export import cli

    folder = tmp_path_factory.mktemp("both")
    artifacts, repository = shutil.copytree(exported / "artifacts", folder / "artifacts"), folder / "model_repository"
    where = ["--artifacts", str(artifacts), "--repository", str(repository)]
    assert cli.main(["--model", str(checkpoint), *where, *FLOATS, "--text-variant", "openvino-fp16"]) == 0
    return repository


def test_encoders_use_only_documented_parameters(both_backends: Path) -> None:
    encoders = {name: config for name, config in configs(both_backends).items() if name.endswith("_encoder")}
    assert {config.backend for config in encoders.values()} == set(DOCUMENTED)
    for config in encoders.values():
        assert set(config.parameters) <= DOCUMENTED[config.backend]


def test_the_engines_honour_every_parameter_that_is_written(both_backends: Path) -> None:
    for config in configs(both_backends).values():
        for parameter in config.parameters if config.backend in DOCUMENTED else ():
            assert f'"{parameter}"' in (ENGINES / f"{config.backend}.py").read_text()


def test_weights_have_the_native_backends_default_names(both_backends: Path) -> None:
    for name, config in configs(both_backends).items():
        default = {"onnxruntime": "model.onnx", "openvino": "model.xml", "python": "model.py"}.get(config.backend)
        assert config.platform == "ensemble" or (both_backends / name / "1" / default).exists()
        assert not config.default_model_filename


def test_the_running_server_reads_this_very_file(server: Server, repository: Path) -> None:
    client = grpc_client.InferenceServerClient(server.address)
    for name, config in configs(repository).items():
        served = client.get_model_config(name).config
        for field, value in config.ListFields():
            if field.name not in ("instance_group", "dynamic_batching", "ensemble_scheduling"):
                assert getattr(served, field.name) == value, (name, field.name)
        assert [group.count for group in served.instance_group] == [group.count for group in config.instance_group]


@pytest.fixture(scope="module")
def openvino_server(both_backends: Path) -> Iterator[Server]:
    """That repository, served."""
    with running(both_backends) as server:
        yield server


def test_texts_of_different_lengths_share_batches(openvino_server: Server, clip: Clip) -> None:
    texts = ["word " * (1 + 9 * n % 60) for n in range(96)]
    alone = clip.embed_text(texts)  # ONNX Runtime, which gets one length
    client = grpc_client.InferenceServerClient(openvino_server.address)

    def counts() -> tuple[int, int]:
        [encoder] = client.get_inference_statistics("clip_text_encoder").model_stats
        return encoder.inference_count, encoder.execution_count

    def batches() -> int:
        """Send all at once; return the number of batches."""
        texts_before, before = counts()
        with Clip(openvino_server.address) as mixed, ThreadPoolExecutor(len(texts)) as pool:
            together = np.stack(list(pool.map(mixed.embed_text, texts)))
        np.testing.assert_allclose(together, alone, atol=2e-4)
        wait_for(lambda: counts()[0] == texts_before + len(texts))  # Triton counts a request after it has sent the response
        return counts()[1] - before

    # Where other programs have the cores, texts come one by one, and are answered so.
    assert any(batches() < len(texts) / 2 for _ in range(8))


def test_models_in_this_process_give_what_the_stand_ins_give(both_backends: Path, openvino_server: Server) -> None:
    texts = ["a cat", "", "🎂 " * 200, *(f"number {n}" for n in range(60)), b"caf\xe9"]
    with Clip.local(both_backends) as here, Clip(openvino_server.address) as there:
        ours, theirs = here.embed_text(texts, on_error="none"), there.embed_text(texts, on_error="none")
        np.testing.assert_array_equal(ours[:-1], theirs[:-1])
        assert ours.errors == theirs.errors
        assert ours.errors.keys() == {len(texts) - 1}
        np.testing.assert_array_equal(here.embed_image(pictures.jpegs(5)), there.embed_image(pictures.jpegs(5)))


def asked(server: Server, **tensors: np.ndarray) -> grpc_client.InferResult:
    """The answer of the text encoder to tensors by name."""
    inputs = []
    for name, values in tensors.items():
        inputs.append(grpc_client.InferInput(name, values.shape, "BYTES" if name == "text" else "INT32"))
        inputs[-1].set_data_from_numpy(values)
    return grpc_client.InferenceServerClient(server.address).infer("clip_text_encoder", inputs)


def test_the_encoder_takes_texts_or_tokens(openvino_server: Server) -> None:
    texts = np.array([[b"a cat"], [b"caf\xe9"], [b"a dog on a mat"]], np.object_)
    answer = asked(openvino_server, text=texts)
    errors = [error.decode() for error in answer.as_numpy("error").ravel()]
    assert [bool(error) for error in errors] == [False, True, False]
    assert "isn't UTF-8" in errors[1]
    assert not answer.as_numpy("embedding")[1].any()
    client = grpc_client.InferenceServerClient(openvino_server.address)
    sent = grpc_client.InferInput("text", texts.shape, "BYTES")
    sent.set_data_from_numpy(texts)
    tokens = client.infer("clip_text_tokenize", [sent]).as_numpy("tokens")
    by_tokens = asked(openvino_server, tokens=tokens)
    np.testing.assert_array_equal(by_tokens.as_numpy("embedding"), answer.as_numpy("embedding"))
    assert by_tokens.as_numpy("error") is None
    with Clip(openvino_server.address) as clip, ThreadPoolExecutor(8) as pool:  # both kinds beside each other
        many = [f"number {n}" for n in range(32)]
        together = [pool.submit(clip.embed_text, text) for text in many]
        among = [pool.submit(asked, openvino_server, tokens=tokens) for _ in range(32)]
        np.testing.assert_allclose([each.result() for each in together], clip.embed_text(many), atol=1e-5)
        for each in among:
            np.testing.assert_allclose(each.result().as_numpy("embedding"), answer.as_numpy("embedding"), atol=1e-5)


def test_the_encoder_refuses_both_or_neither(openvino_server: Server) -> None:
    text, tokens = np.array([[b"a cat"]], np.object_), np.ones((1, 8), np.int32)
    with pytest.raises(InferenceServerException, match="either text or tokens"):
        asked(openvino_server, text=text, tokens=tokens)
    empty = grpc_client.InferenceServerClient(openvino_server.address)
    with pytest.raises(InferenceServerException, match="0 inputs"):  # Triton's own
        empty.infer("clip_text_encoder", [])
    assert asked(openvino_server, text=text).as_numpy("embedding").any()


@pytest.mark.long
def test_an_older_repository_with_two_steps_answers_the_same(
    both_backends: Path, openvino_server: Server, tmp_path: Path
) -> None:
    older = Path(shutil.copytree(both_backends, tmp_path / "older"))
    ensemble, encoder = (parse(older / name / "config.pbtxt") for name in ("clip_text", "clip_text_encoder"))
    del encoder.input[1:], encoder.output[1:], ensemble.output[2:], ensemble.ensemble_scheduling.step[:]
    encoder.input[0].optional = False
    first = ensemble.ensemble_scheduling.step.add(model_name="clip_text_tokenize", model_version=-1)
    first.input_map["text"], first.output_map["tokens"], first.output_map["error"] = "text", "tokens", "error"
    second = ensemble.ensemble_scheduling.step.add(model_name="clip_text_encoder", model_version=-1)
    second.input_map["tokens"], second.output_map["embedding"] = "tokens", "embedding"
    (older / "clip_text_encoder" / "1" / "tokenizer.json").unlink()
    for config in (ensemble, encoder):
        (older / config.name / "config.pbtxt").write_text(text_format.MessageToString(config))
    texts = ["a cat", "", "a dog " * 30, b"caf\xe9"]
    with running(older) as server, Clip(server.address) as before, Clip(openvino_server.address) as now:
        then, after = before.embed_text(texts, on_error="none"), now.embed_text(texts, on_error="none")
        np.testing.assert_array_equal(then[:-1], after[:-1])
        assert then.errors == after.errors


def test_the_image_has_the_same_openvino_backend() -> None:
    dockerfile = (ROOT / "deploy" / "triton.Dockerfile").read_text()
    assert "rm --recursive /opt/tritonserver/backends/openvino" in dockerfile
    copied = [line.split()[1] for line in dockerfile.splitlines() if line.startswith("COPY serve/clip_inside_triton/backends")]
    assert all((ROOT / path).exists() for path in copied)
    assert len(copied) == 2


def test_compose_mounts_the_same_folder_read_only() -> None:
    service = yaml.safe_load((ROOT / "docker-compose.yml").read_text())["services"]["triton"]
    assert any(volume.split(":")[0] == "./model_repository" and volume.endswith(":ro") for volume in service["volumes"])


def test_the_contract_is_in_the_ensembles(repository: Path, spec: ModelSpec) -> None:
    image, text = (configs(repository)[f"clip_{tower}"] for tower in ("image", "text"))
    for config, source in ((image, "image"), (text, "text")):
        parameters = {key: parameter.string_value for key, parameter in config.parameters.items()}
        assert ModelSpec.from_parameters(parameters) == spec
        assert [(tensor.name, list(tensor.dims)) for tensor in config.input] == [(source, [1])]
        assert [(tensor.name, list(tensor.dims)) for tensor in config.output] == [
            ("embedding", [spec.embedding_size]),
            ("error", [1]),
            ("origin", [1]),
            ("prepared_checksums", [2]),
        ]
