"""The compose file and the image it builds, as far as they can be checked without a Docker engine."""

from __future__ import annotations

import json
import re
import subprocess
from pathlib import Path

import pytest
import yaml
from compose_spec import PyOptions

ROOT = Path(__file__).parents[1]
COMPOSE = (ROOT / "docker-compose.yml").read_text()
DOCKERFILE = (ROOT / "deploy" / "triton.Dockerfile").read_text()
SEARCH_DOCKERFILE = (ROOT / "deploy" / "search.Dockerfile").read_text()


def parse(text: str):
    compose = PyOptions(apply_merge=True).from_yaml(text)
    compose.validate()
    return compose


def test_the_compose_specification_accepts_the_file() -> None:
    compose = parse(COMPOSE)
    assert sorted(compose.services) == ["export", "search", "triton", "triton-gpu"]
    with pytest.raises(Exception, match="shm_sise"):
        parse(COMPOSE.replace("shm_size", "shm_sise"))


@pytest.mark.parametrize("name", ["triton", "triton-gpu"])
def test_services_are_reachable_from_this_machine_only(name: str) -> None:
    service = yaml.safe_load(COMPOSE)["services"][name]
    assert all(port.startswith("127.0.0.1:") for port in service["ports"])
    assert service["volumes"] == ["./model_repository:/models:ro"]
    assert "shm_size" in service
    assert "healthcheck" in service


def test_the_gpu_is_opt_in() -> None:
    services = yaml.safe_load(COMPOSE)["services"]
    assert services["triton-gpu"]["profiles"] == ["gpu"]
    assert "profiles" not in services["triton"]
    assert "deploy" not in services["triton"]


def test_the_image_installs_the_launchers_list_less_what_it_has() -> None:
    requirements = (ROOT / "serve" / "clip_inside_triton" / "requirements.txt").read_text()
    names = set(re.findall(r"^([\w-]+)==", requirements, re.MULTILINE))
    left_out = set(re.search(r"'\^\((.*)\)=='", DOCKERFILE)[1].split("|"))
    assert names - left_out == {"numpy", "openvino", "pillow", "tokenizers"}
    assert left_out < names


def test_everything_that_is_copied_is_there_and_not_ignored() -> None:
    allowed = {line[1:] for line in (ROOT / ".dockerignore").read_text().splitlines() if line.startswith("!")}
    for line in re.findall(r"^COPY (.*)$", DOCKERFILE + SEARCH_DOCKERFILE, re.MULTILINE):
        for source in line.split()[:-1]:
            assert (ROOT / source).exists()
            assert source.split("/")[0] in allowed


def test_the_image_is_recent_enough_to_be_exposed_and_runs_unprivileged() -> None:
    year, month = re.search(r"ARG TRITON=(\d+)\.(\d+)", DOCKERFILE).groups()
    assert (int(year), int(month)) >= (26, 7)
    assert "\nUSER triton-server\n" in DOCKERFILE


def test_engines_are_built_by_the_release_that_runs_them() -> None:
    release = re.search(r"^ARG TRITON=(.*)$", DOCKERFILE, re.MULTILINE)[1]
    export = (ROOT / "deploy" / "export.Dockerfile").read_text()
    assert re.search(r"^ARG TENSORRT=(.*)$", export, re.MULTILINE)[1] == release
    service = yaml.safe_load(COMPOSE)["services"]["export"]
    assert service["volumes"] == [".:/clipserve"]
    assert service["working_dir"] == "/clipserve"


def test_search_waits_for_triton_and_is_reachable_from_this_machine_only() -> None:
    service = yaml.safe_load(COMPOSE)["services"]["search"]
    assert service["depends_on"] == {"triton": {"condition": "service_healthy"}}
    assert service["ports"] == ["127.0.0.1:1234:1234"]
    assert "\nUSER search\n" in SEARCH_DOCKERFILE
    assert '--triton", "triton:8001' in SEARCH_DOCKERFILE


def test_the_containers_http_answers_health_alone_and_its_key_cannot_be_sent() -> None:
    script = json.loads(re.search(r"^CMD (\[.*\])", DOCKERFILE.replace("\\\n", ""), re.MULTILINE)[1])[2]
    printed = subprocess.run(
        ["sh", "-c", script.replace("exec tritonserver", "printf '%s\\0'")], capture_output=True, check=True, text=True
    ).stdout.split("\0")
    options = dict(argument.split("=", 1) for argument in printed if argument)
    everything = {
        "inference",
        "metadata",
        "model-config",
        "statistics",
        "model-repository",
        "shared-memory",
        "trace",
        "logging",
    }
    closed, _, key = options["--http-restricted-api"].partition(":nobody=")
    assert set(closed.split(",")) == everything  # of Triton's interfaces all but health
    assert set(options["--grpc-restricted-protocol"].partition(":")[0].split(",")) == {
        "model-repository", "shared-memory", "trace", "logging",
    }  # fmt: skip
    assert len(key) > 16_384
    assert "\n" in key
