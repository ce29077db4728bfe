"""A SeaweedFS that speaks S3, on loopback."""

from __future__ import annotations

import json
import subprocess
import sys
import time
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import obstore
import urllib3
from obstore.store import S3Store
from servers import free_ports

_WEED = Path(sys.executable).with_name("weed")
_IDENTITY = {"name": "tests", "credentials": [{"accessKey": "a", "secretKey": "b"}], "actions": ["Admin"]}
_PORTS = ("master.port", "volume.port", "filer.port", "s3.port", "s3.port.iceberg", "s3.port.lance")
_GRPC = ("master.port.grpc", "volume.port.grpc", "filer.port.grpc", "s3.port.grpc")


@dataclass
class Seaweed:
    """A server with one bucket; started again, it has what it had."""

    folder: Path
    ports: list[int] = field(default_factory=lambda: free_ports(len(_PORTS) + len(_GRPC)))

    def __post_init__(self) -> None:
        self.folder.mkdir(exist_ok=True)
        (self.folder / "s3.json").write_text(json.dumps({"identities": [_IDENTITY]}))
        ports = [f"-{name}={port}" for name, port in zip((*_PORTS, *_GRPC), self.ports, strict=True)]
        alone = ["-ip=127.0.0.1", "-ip.bind=127.0.0.1", "-filer", "-s3", "-s3.autoCreateBucket=false"]
        small = ["-master.volumeSizeLimitMB=64", "-volume.max=30", f"-s3.config={self.folder}/s3.json"]
        self.process = subprocess.Popen(
            [_WEED, "server", f"-dir={self.folder}", *alone, *ports, *small],
            cwd=self.folder,
            stdout=subprocess.DEVNULL,
            stderr=subprocess.DEVNULL,
        )
        self._wait()

    @property
    def environment(self) -> dict[str, str]:
        """Variables by which others find it."""
        endpoint = {"AWS_ENDPOINT": f"http://127.0.0.1:{self.ports[3]}", "AWS_ALLOW_HTTP": "true", "AWS_REGION": "us-east-1"}
        return {**endpoint, "AWS_ACCESS_KEY_ID": "a", "AWS_SECRET_ACCESS_KEY": "b"}

    @property
    def store(self) -> S3Store:
        """The bucket."""
        settings: Any = {name.removeprefix("AWS_").lower(): value for name, value in self.environment.items()}
        allow_http = settings.pop("allow_http") == "true"
        return S3Store("bucket", **settings, client_options={"allow_http": allow_http})

    def put(self, files: Mapping[str, bytes]) -> None:
        """Store objects by name."""
        for name, content in files.items():
            obstore.put(self.store, name, content)

    def get(self, prefix: str) -> dict[str, bytes]:
        """Objects below a prefix, by their name there."""
        paths = [entry["path"] for page in obstore.list(self.store, f"{prefix}/") for entry in page]
        return {path.removeprefix(f"{prefix}/"): bytes(obstore.get(self.store, path).bytes()) for path in sorted(paths)}

    def stop(self) -> None:
        """Kill it."""
        self.process.kill()
        self.process.wait()

    def _wait(self) -> None:
        """Wait until it answers, and make the bucket if there is none."""
        deadline = time.monotonic() + 60
        while time.monotonic() < deadline:
            try:
                obstore.put(self.store, "ready", b"yes")
                return
            except Exception as problem:  # whatever obstore says of a server that has begun by half
                if "NoSuchBucket" in str(problem):
                    self._make_bucket()
            time.sleep(0.1)
        raise AssertionError("the server didn't start")

    def _make_bucket(self) -> None:
        """Make a folder of the filer's, which is what a bucket is there."""
        urllib3.request("POST", f"http://127.0.0.1:{self.ports[2]}/buckets/bucket/", retries=False, timeout=10)
