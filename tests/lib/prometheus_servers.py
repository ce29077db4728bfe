"""Debian's Prometheus on the configuration and the rules of deploy/observe, with shorter times."""

from __future__ import annotations

import json
import math
import re
import shutil
import subprocess
import time
import urllib.parse
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import urllib3
import yaml
from servers import free_ports

OBSERVE = Path(__file__).parents[2] / "deploy" / "observe"
RULES = sorted((OBSERVE / "rules").glob("*.yml"))
DASHBOARDS = sorted((OBSERVE / "grafana" / "dashboards").glob("*.json"))
SHORTER = {
    r"for: \d+m": "for: 0s",
    r"\[5m\]": "[8s]",
    "< 900": "< 40",
    r"\[2m\]": "[2s]",
    "> 60$": "> 2",
    "< 3600": "< 20",
    ">= 3$": ">= 1",
}
"""Times and numbers of the rules, which nobody waits for in a test; promtool judges the real ones."""

_RETRIES = urllib3.Retry(60, status_forcelist=[503], backoff_factor=0.05, backoff_max=1)  # while it starts


def obstacle() -> str:
    """Why there can be none here; empty if there can."""
    missing = [name for name in ("prometheus", "promtool") if not shutil.which(name)]
    return f"no {' and no '.join(missing)}: apt-get install prometheus" if missing else ""


def promtool(*arguments: str | Path, text: bytes = b"") -> tuple[int, str]:
    """Exit status and all that it says."""
    told = subprocess.run(["promtool", *map(str, arguments)], input=text, capture_output=True, check=False, timeout=60)
    return told.returncode, (told.stdout + told.stderr).decode()


def shorter(rules: str) -> str:
    """Rules with shorter times."""
    for pattern, text in SHORTER.items():
        rules = re.sub(pattern, text, rules, flags=re.MULTILINE)
    return rules


def panels() -> Iterator[tuple[str, str, str, str]]:
    """Title, unit, expression and legend of each query of the dashboards, as Grafana sends them."""
    for path in DASHBOARDS:
        for panel in json.loads(path.read_text())["panels"]:
            for target in panel.get("targets", []):
                unit = panel["fieldConfig"]["defaults"]["unit"]
                yield panel["title"], unit, target["expr"].replace("$__rate_interval", "8s"), target["legendFormat"]


def rules(kind: str) -> dict[str, str]:
    """Expressions by name of all ``record`` or ``alert`` rules."""
    every = [rule for path in RULES for group in yaml.safe_load(path.read_text())["groups"] for rule in group["rules"]]
    return {rule[kind]: rule["expr"] for rule in every if kind in rule}


@dataclass
class Prometheus:
    """A server that asks some addresses by job, several times a second."""

    folder: Path
    targets: Mapping[str, Sequence[str]]
    port: int = field(default_factory=lambda: free_ports(1)[0])

    def __post_init__(self) -> None:
        config = yaml.safe_load((OBSERVE / "prometheus.yml").read_text())
        config["global"] = {"scrape_interval": "1s", "scrape_timeout": "1s", "evaluation_interval": "500ms"}
        for job in config["scrape_configs"]:
            job["static_configs"] = [{"targets": list(self.targets[job["job_name"]])}]
        (self.folder / "rules").mkdir(parents=True)
        for path in RULES:
            (self.folder / "rules" / path.name).write_text(shorter(path.read_text()))
        (self.folder / "prometheus.yml").write_text(yaml.safe_dump(config))
        self.began = time.time()
        self.process = subprocess.Popen(
            [
                "prometheus",
                f"--config.file={self.folder / 'prometheus.yml'}",
                f"--storage.tsdb.path={self.folder / 'data'}",
                f"--web.listen-address=127.0.0.1:{self.port}",
                "--log.level=warn",
            ]
        )

    def ask(self, path: str, **parameters: Any) -> Any:
        """Return the data of an answer."""
        url = f"http://127.0.0.1:{self.port}/api/v1/{path}?{urllib.parse.urlencode(parameters)}"
        answer = urllib3.request("GET", url, timeout=30, retries=_RETRIES)
        told = json.loads(answer.data)
        assert told["status"] == "success", told
        return told["data"]

    def value(self, expression: str) -> float | None:
        """Return the first value of an expression now; None if there is none."""
        result = self.ask("query", query=expression)["result"]
        return float(result[0]["value"][1]) if result else None

    def series(self, expression: str) -> list[tuple[dict[str, str], list[tuple[float, float]]]]:
        """Return labels and finite values in time, since the start, of an expression."""
        span = {"start": self.began, "end": time.time(), "step": "500ms"}
        result = self.ask("query_range", query=expression, **span)["result"]
        values = [(one["metric"], [(at, float(value)) for at, value in one["values"]]) for one in result]
        return [(labels, points) for labels, every in values if (points := [pair for pair in every if math.isfinite(pair[1])])]

    def firing(self) -> set[tuple[str, str]]:
        """Return names and instances of the alerts that fire."""
        alerts = self.ask("alerts")["alerts"]
        return {(one["labels"]["alertname"], one["labels"].get("instance", "")) for one in alerts if one["state"] == "firing"}

    def wait(self, condition: Callable[[], bool], what: str, timeout_s: float = 120) -> None:
        """Wait until a condition holds."""
        deadline = time.monotonic() + timeout_s
        while not condition():
            assert time.monotonic() < deadline, f"{what}; firing: {sorted(self.firing())}"
            time.sleep(0.2)

    def wait_firing(self, name: str, instance: str) -> None:
        """Wait until an alert fires for an instance."""
        self.wait(lambda: (name, instance) in self.firing(), f"{name} of {instance} doesn't fire")

    def wait_quiet(self, name: str, instance: str) -> None:
        """Wait until it doesn't."""
        self.wait(lambda: (name, instance) not in self.firing(), f"{name} of {instance} doesn't stop")

    def stop(self) -> None:
        """End it."""
        self.process.terminate()
        self.process.wait(30)
