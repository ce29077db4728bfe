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
    },
}
"""Parameters in the README of triton-inference-server/onnxruntime_backend, and properties that OpenVINO's CPU plugin reads."""


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
    with Clip(openvino_server.address) as mixed, ThreadPoolExecutor(len(texts)) as pool:
        together = np.stack(list(pool.map(mixed.embed_text, texts)))
    np.testing.assert_allclose(together, alone, atol=2e-4)
    client = grpc_client.InferenceServerClient(openvino_server.address)

    def counts() -> tuple[int, int]:
        [encoder] = client.get_inference_statistics("clip_text_encoder").model_stats
        return encoder.inference_count, encoder.execution_count

    wait_for(lambda: counts()[0] == len(texts))  # Triton counts a request after it has sent the response
    assert counts()[1] < len(texts) / 2


def test_models_in_this_process_give_what_the_stand_ins_give(both_backends: Path, openvino_server: Server) -> None:
    texts = ["a cat", "", "🎂 " * 200, *(f"number {n}" for n in range(60)), b"caf\xe9"]
    with Clip.local(both_backends) as here, Clip(openvino_server.address) as there:
        ours, theirs = here.embed_text(texts, on_error="none"), there.embed_text(texts, on_error="none")
        np.testing.assert_array_equal(ours[:-1], theirs[:-1])
        assert ours.errors == theirs.errors
        assert ours.errors.keys() == {len(texts) - 1}
        np.testing.assert_array_equal(here.embed_image(pictures.jpegs(5)), there.embed_image(pictures.jpegs(5)))


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
        ]
