"""The Helm chart: rendered by Helm, judged by Kubernetes' schema and the operators' definitions."""

from __future__ import annotations

import json
import re
from pathlib import Path
from typing import Any

import helm
import proxies
import pytest
import yaml
from command_lines import check
from snippets import Command

from clip_embed.cli import parser as embed_parser

EVERYTHING = (
    'triton.autoscaling={"enabled": true, "most": 4, "queueMs": 20, "prometheus": "http://prometheus:9090"}',
    "triton.gpus=1",
    'triton.tolerations=[{"key": "gpu", "operator": "Exists"}]',
    "serviceMonitor.enabled=true",
    'serviceMonitor.labels={"release": "prometheus"}',
    'search.database="s3://bucket/search"',
    'search.tokenSecret="token"',
    'search.storeSecret="store"',
    'search.names=["search.example.org"]',
    'search.args=["--body-mb", "16"]',
    "search.readers.replicas=2",
    'search.storageClass="fast"',
    "embed.enabled=true",
    'models.path="published"',
    'pullSecrets=[{"name": "registry"}]',
)


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tmp_path_factory.mktemp("helm")


@pytest.fixture(scope="module")
def plain(folder: Path) -> dict[str, dict[str, Any]]:
    return helm.rendered(folder=folder)


@pytest.fixture(scope="module")
def whole(folder: Path) -> dict[str, dict[str, Any]]:
    return helm.rendered(*EVERYTHING, folder=folder)


def pods(objects: dict[str, dict[str, Any]]) -> dict[str, dict[str, Any]]:
    """Pods' specifications by their owners."""
    return {name: one["spec"]["template"]["spec"] for name, one in objects.items() if "template" in one.get("spec", {})}


def containers(pod: dict[str, Any]) -> list[dict[str, Any]]:
    return [*pod.get("initContainers", []), *pod["containers"]]


def test_helm_lints_it(folder: Path) -> None:
    linted = helm.run("lint", "--strict", str(helm.CHART), folder=folder)
    assert linted.returncode == 0, linted.stdout
    assert "0 chart(s) failed" in linted.stdout


def test_every_part_is_there(plain: dict[str, Any], whole: dict[str, Any]) -> None:
    parts = {"Deployment/try-triton", "Deployment/try-proxy", "StatefulSet/try-search"}
    assert set(pods(plain)) == parts
    assert set(pods(whole)) == {*parts, "Deployment/try-reader", "Job/try-embed"}
    kinds = {name.partition("/")[0] for name in whole}
    assert {"PodDisruptionBudget", "NetworkPolicy", "ServiceMonitor", "ScaledObject", "ConfigMap", "Service"} <= kinds


@pytest.mark.parametrize("kind", ["keda.sh/v1alpha1", "monitoring.coreos.com/v1", "apps/v1"])
def test_the_judges_find_a_field_that_is_unknown(whole: dict[str, Any], kind: str) -> None:
    one = json.loads(json.dumps(next(one for one in whole.values() if one["apiVersion"] == kind)))
    helm.check(one)
    one["spec"]["replicaz"] = 1
    with pytest.raises(Exception, match="replicaz"):
        helm.check(one)


@pytest.mark.parametrize("values", ["plain", "whole"])
def test_pods_have_no_rights_that_they_dont_need(values: str, request: pytest.FixtureRequest) -> None:
    for pod in pods(request.getfixturevalue(values)).values():
        assert pod["automountServiceAccountToken"] is False
        assert pod["securityContext"]["runAsNonRoot"] is True
        assert pod["securityContext"]["runAsUser"] > 0
        assert pod["securityContext"]["seccompProfile"] == {"type": "RuntimeDefault"}
        assert not {"hostNetwork", "hostPID", "hostIPC"} & pod.keys()
        assert not [volume for volume in pod["volumes"] if "hostPath" in volume]
        for container in containers(pod):
            allowed = container["securityContext"]
            assert allowed == {
                "allowPrivilegeEscalation": False,
                "readOnlyRootFilesystem": True,
                "capabilities": {"drop": ["ALL"]},
            }
            assert container["resources"]["limits"]["memory"]
            mounts = {mount["name"] for mount in container["volumeMounts"]}
            assert mounts <= {volume["name"] for volume in pod["volumes"]} | {"data"}
            assert "scratch" in mounts


def test_selectors_find_their_pods(whole: dict[str, Any]) -> None:
    labels = [one["spec"]["template"]["metadata"]["labels"] for one in whole.values() if "template" in one.get("spec", {})]
    for name, one in whole.items():
        selector = one.get("spec", {}).get("selector") or one.get("spec", {}).get("podSelector")
        if selector and one["kind"] != "ServiceMonitor":
            wanted = selector.get("matchLabels", selector)
            assert [found for found in labels if wanted.items() <= found.items()], name
    for monitor in (one for one in whole.values() if one["kind"] == "ServiceMonitor"):
        wanted, port = monitor["spec"]["selector"]["matchLabels"], monitor["spec"]["endpoints"][0]["port"]
        services = [
            one for one in whole.values() if one["kind"] == "Service" and wanted.items() <= one["metadata"]["labels"].items()
        ]
        assert [one for one in services if port in {named["name"] for named in one["spec"]["ports"]}]


def test_shared_memory_is_memory_and_probes_ask_for_health(plain: dict[str, Any]) -> None:
    pod = pods(plain)["Deployment/try-triton"]
    [container] = pod["containers"]
    memory = next(volume for volume in pod["volumes"] if volume["name"] == "memory")
    assert memory["emptyDir"]["medium"] == "Memory"
    assert {"name": "memory", "mountPath": "/dev/shm"} in container["volumeMounts"]
    assert container["readinessProbe"]["httpGet"] == {"path": "/v2/health/ready", "port": "http"}
    assert container["livenessProbe"]["httpGet"] == {"path": "/v2/health/live", "port": "http"}


def test_options_are_those_of_the_programs(whole: dict[str, Any]) -> None:
    for owner in ("StatefulSet/try-search", "Deployment/try-reader"):
        [container] = pods(whole)[owner]["containers"]
        check(Command({}, tuple(container["command"])))
        mounts = {mount["mountPath"] for mount in container["volumeMounts"]}
        options = dict(zip(container["command"], container["command"][1:], strict=False))
        assert options["--index"].startswith(tuple(mounts))
        assert str(Path(options["--token-file"]).parent) in mounts
        service = owner.partition("/")[2]
        assert f"{service}.clips.svc.cluster.local" in container["command"]
    job = whole["Job/try-embed"]["spec"]
    [container] = job["template"]["spec"]["containers"]
    arguments = embed_parser().parse_args(container["args"])
    assert str(arguments.repository) == "/models"
    assert {"name": "JOB_COMPLETIONS", "value": str(job["completions"])} in container["env"]


def test_an_export_takes_the_place_of_the_volume(folder: Path) -> None:
    pod = pods(helm.rendered('models.claim=""', folder=folder))["Deployment/try-triton"]
    [export] = pod["initContainers"]
    check(Command({}, ("clipserve", "export", *export["args"])))
    models = next(volume for volume in pod["volumes"] if volume["name"] == "models")
    assert "emptyDir" in models
    assert export["args"].count("--variants") == 1


def test_haproxy_takes_the_charts_configuration(plain: dict[str, Any], tmp_path: Path) -> None:
    config = plain["ConfigMap/try-proxy"]["data"]["haproxy.cfg"]
    assert re.search(r"server-template triton- 32 try-triton-pods\.clips\.svc\.cluster\.local:8001$", config, re.M)
    (tmp_path / "haproxy.cfg").write_text(config)
    assert proxies.complaints(tmp_path / "haproxy.cfg") == ""
    assert plain["Service/try-triton-pods"]["spec"]["clusterIP"] == "None"


def test_both_configurations_of_haproxy_treat_servers_alike(plain: dict[str, Any]) -> None:
    def backend(text: str) -> list[str]:
        lines = text.partition("\nbackend tritons\n")[2].splitlines()
        return [
            line.strip() for line in lines if line.strip() and not line.strip().startswith(("#", "server", "default-server"))
        ]

    assert backend(plain["ConfigMap/try-proxy"]["data"]["haproxy.cfg"]) == backend(proxies.CONFIG.read_text())


def test_triton_is_reached_through_the_proxy_alone(plain: dict[str, Any]) -> None:
    def parts(rule: dict[str, Any]) -> set[str]:
        return {
            peer.get("podSelector", {}).get("matchLabels", {}).get("app.kubernetes.io/component", "others")
            for peer in rule["from"]
        }

    inside, scrapes = plain["NetworkPolicy/try-triton"]["spec"]["ingress"]
    assert parts(inside) == {"proxy"}
    assert scrapes["ports"] == [{"port": "metrics"}]
    assert plain["NetworkPolicy/try-triton"]["spec"]["egress"] == []
    assert parts(plain["NetworkPolicy/try-proxy"]["spec"]["ingress"][0]) == {"search", "reader", "others"}


def test_scaling_asks_for_the_longest_of_all_models_queues(whole: dict[str, Any]) -> None:
    scaled = whole["ScaledObject/try-triton"]["spec"]
    [trigger] = scaled["triggers"]
    query = trigger["metadata"]["query"]
    assert " ".join(query.split()).startswith("max( sum by (model) (rate(nv_inference_queue_duration_us{")
    assert "replicas" not in whole["Deployment/try-triton"]["spec"]  # or each upgrade would set them back
    assert scaled["scaleTargetRef"]["name"] == "try-triton"


@pytest.mark.parametrize(
    ("value", "said"),
    [
        ("triton.replica=3", "replica"),
        ("triton.replicas=0", "minimum"),
        ("search.readers.replicas=2", "search.readers needs search.database"),
        ('search.database="/data"', "pattern"),
    ],
)
def test_wrong_values_are_named(value: str, said: str, folder: Path) -> None:
    refused = helm.run("template", "try", str(helm.CHART), "--set-json", value, folder=folder)
    assert refused.returncode
    assert said in refused.stderr


def test_it_is_of_the_projects_version() -> None:
    chart = yaml.safe_load((helm.CHART / "Chart.yaml").read_text())
    project = (helm.CHART.parents[2] / "pyproject.toml").read_text()
    version = re.search(r'^version = "(.*)"$', project, re.M)[1]
    assert chart["appVersion"] == chart["version"] == version
    values = yaml.safe_load((helm.CHART / "values.yaml").read_text())
    assert {image.rpartition(":")[2] for name, image in values["images"].items() if name != "haproxy"} == {version}
