"""The compose file and the image it builds, as far as they can be checked without a Docker engine."""

from __future__ import annotations

import json
import re
import subprocess
import sys
from pathlib import Path

import pytest
import yaml
from command_lines import check
from compose_spec import PyOptions
from snippets import Command

ROOT = Path(__file__).parents[1]
COMPOSE = (ROOT / "docker-compose.yml").read_text()
DOCKERFILE = (ROOT / "deploy" / "triton.Dockerfile").read_text()
SEARCH_DOCKERFILE = (ROOT / "deploy" / "search.Dockerfile").read_text()
DOCKERFILES = sorted((ROOT / "deploy").glob("*.Dockerfile"))


def parse(text: str):
    """Check a file as Compose does, once variables that aren't set have their defaults."""
    compose = PyOptions(apply_merge=True).from_yaml(re.sub(r"\$\{\w+:-([^}]*)\}", r"\1", text))
    compose.validate()
    return compose


def test_the_compose_specification_accepts_the_file() -> None:
    compose = parse(COMPOSE)
    assert sorted(compose.services) == ["export", "export-gpu", "grafana", "prometheus", "search", "triton", "triton-gpu"]
    with pytest.raises(Exception, match="shm_sise"):
        parse(COMPOSE.replace("shm_size", "shm_sise"))


@pytest.mark.parametrize("name", ["triton", "triton-gpu"])
def test_services_are_reachable_from_this_machine_only(name: str) -> None:
    service = yaml.safe_load(COMPOSE)["services"][name]
    assert all(port.startswith("127.0.0.1:") for port in service["ports"])
    assert service["volumes"] == ["./model_repository:/models:ro"]
    assert "shm_size" in service
    assert "healthcheck" in service


def services(*profiles: str) -> dict:
    """Services that ``docker compose up`` starts with these profiles."""
    every = yaml.safe_load(COMPOSE)["services"]
    return {name: service for name, service in every.items() if set(service.get("profiles", profiles)) & set(profiles)}


def default_profile() -> str:
    return re.search(r'^"?COMPOSE_PROFILES"?=(\w+)$', (ROOT / ".env").read_text(), re.MULTILINE)[1]


def has_gpu(service: dict) -> bool:
    return "nvidia" in json.dumps(service.get("deploy", {}))


def test_the_gpu_is_opt_in() -> None:
    assert default_profile() == "cpu"
    assert [name for name, service in services("cpu", "export").items() if has_gpu(service)] == ["export-gpu"]
    assert [name for name, service in services("gpu").items() if has_gpu(service)] == ["triton-gpu"]


@pytest.mark.parametrize(("profile", "triton"), [("cpu", "triton"), ("gpu", "triton-gpu")])
def test_one_triton_runs_and_the_search_follows_it(profile: str, triton: str) -> None:
    running = services(profile)
    assert set(running) == {triton, "search"}
    ports = [port for service in running.values() for port in service["ports"]]
    assert len(ports) == len(set(ports))
    assert running["search"]["depends_on"][triton] == {"condition": "service_healthy", "required": False}
    names = {triton, *running[triton].get("networks", {}).get("default", {}).get("aliases", [])}
    assert re.search(r'"--triton", "([\w-]+):8001"', SEARCH_DOCKERFILE)[1] in names


def test_the_search_shows_the_pictures_of_a_folder_of_the_host() -> None:
    service = services("cpu")["search"]
    assert service["environment"]["CLIPSERVE_SEARCH_IMAGES"] == "/pictures"
    volume = service["volumes"][1]
    assert (volume["target"], volume["read_only"]) == ("/pictures", True)
    assert (ROOT / re.fullmatch(r"\$\{PICTURES:-(.*)\}", volume["source"])[1]).is_dir()


def test_who_observes_is_reachable_from_this_machine_only_and_finds_all_it_names() -> None:
    observers = {name: service for name, service in services("observe").items() if name in ("prometheus", "grafana")}
    assert set(services("cpu", "observe")) == {"triton", "search", *observers}
    for service in observers.values():
        assert all(port.startswith("127.0.0.1:") for port in service["ports"])
        assert re.fullmatch(r"[\w/]+:v?\d+\.\d+\.\d+", service["image"])
        sources = [volume.split(":")[0] for volume in service["volumes"] if volume.startswith("./")]
        assert all((ROOT / source).exists() for source in sources)
    jobs = yaml.safe_load((ROOT / "deploy/observe/prometheus.yml").read_text())["scrape_configs"]
    targets = {job["job_name"]: job["static_configs"][0]["targets"] for job in jobs}
    assert targets == {"triton": ["triton:8002"], "search": ["search:1234"]}
    assert services("cpu")["search"]["environment"]["CLIPSERVE_SEARCH_NAME"] == "search"


def test_an_export_without_options_is_of_the_bundled_checkpoint() -> None:
    options = services("export")["export"]["command"]
    check(Command({}, ("clipserve", "export", *options)))
    assert all((ROOT / path).is_dir() for path in options[1::2])


def test_an_export_needs_no_gpu() -> None:
    assert {name: has_gpu(service) for name, service in services("export").items() if "export" in name} == {
        "export": False,
        "export-gpu": True,
    }


@pytest.mark.parametrize("name", ["triton", "triton-gpu", "search"])
def test_services_that_stay_up_have_limits_and_write_nowhere_but_to_volumes(name: str) -> None:
    service = yaml.safe_load(COMPOSE)["services"][name]
    assert service["read_only"] is True
    assert service["tmpfs"] == ["/tmp:size=2g,mode=1777"]
    assert re.fullmatch(r"\$\{\w+_MEMORY:-\dg\}", service["mem_limit"])
    assert service["pids_limit"] > 0
    assert (service["cap_drop"], service["security_opt"]) == (["ALL"], ["no-new-privileges:true"])


def test_the_image_installs_the_launchers_list_less_what_it_has() -> None:
    requirements = ROOT / "serve" / "clip_inside_triton" / "requirements.txt"
    step = re.search(r"sed --regexp-extended '(.*)'", DOCKERFILE)[1]
    kept = subprocess.run(["sed", "--regexp-extended", step, requirements], capture_output=True, text=True, check=True).stdout
    assert set(re.findall(r"^([\w-]+)==", kept, re.MULTILINE)) == {"numpy", "openvino", "pillow", "tokenizers"}
    whole = requirements.read_text()
    assert kept.count("--hash=") == sum(
        entry.count("--hash=")
        for entry in re.split(r"\n(?=\w)", whole)
        if entry.startswith(("numpy", "openvino", "pillow", "tokenizers"))
    )


@pytest.mark.parametrize("path", DOCKERFILES, ids=lambda path: path.name)
def test_hadolint_has_no_complaint(path: Path) -> None:
    linter = Path(sys.executable).with_name("hadolint")
    checked = subprocess.run([linter, "--ignore", "DL3066", path], capture_output=True, text=True, check=False)
    assert (checked.returncode, checked.stdout) == (0, "")


@pytest.mark.parametrize("path", DOCKERFILES, ids=lambda path: path.name)
def test_images_hold_the_wheel_and_locked_packages_alone(path: Path) -> None:
    last = path.read_text().replace("\\\n", " ").rpartition("\nFROM ")[2]
    for install in re.findall(r"pip install ([^&\n]*)", path.read_text().replace("\\\n", " ")):
        assert "--require-hashes" in install or "/wheels/*.whl" in install or "torch==" in install, install
    assert "COPY client" not in last


def test_everything_that_is_copied_is_there_and_not_ignored() -> None:
    allowed = {line[1:] for line in (ROOT / ".dockerignore").read_text().splitlines() if line.startswith("!")}
    for line in re.findall(r"^COPY (?!--from)(.*)$", "\n".join(path.read_text() for path in DOCKERFILES), re.MULTILINE):
        for source in line.split()[:-1]:
            assert (ROOT / source).exists()
            assert any(source == name or source.startswith(f"{name}/") for name in allowed)


def test_the_image_is_recent_enough_to_be_exposed_and_runs_unprivileged() -> None:
    year, month = re.search(r"ARG TRITON=(\d+)\.(\d+)", DOCKERFILE).groups()
    assert (int(year), int(month)) >= (26, 7)
    assert "\nUSER triton-server\n" in DOCKERFILE


def test_engines_are_built_by_the_release_that_runs_them() -> None:
    release = re.search(r"^ARG TRITON=(.*)$", DOCKERFILE, re.MULTILINE)[1]
    export = (ROOT / "deploy" / "export.Dockerfile").read_text()
    assert re.search(r"^ARG TENSORRT=(.*)$", export, re.MULTILINE)[1] == release
    for name in ("export", "export-gpu"):
        service = yaml.safe_load(COMPOSE)["services"][name]
        assert service["volumes"] == [".:/clipserve"]
        assert service["working_dir"] == "/clipserve"


def test_search_waits_for_triton_and_is_reachable_from_this_machine_only() -> None:
    service = yaml.safe_load(COMPOSE)["services"]["search"]
    assert service["ports"] == ["127.0.0.1:1234:1234"]
    assert "\nUSER 1000\n" in SEARCH_DOCKERFILE
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
