"""Object store of a rehearsal: a SeaweedFS that speaks S3, behind a relay that fails on command."""

from __future__ import annotations

import json
import sys
import time
from pathlib import Path

import obstore
import urllib3
from obstore.store import S3Store

from chaos.relay import Relay
from chaos.services import Service
from lib.serving import free_ports

BUCKET = "chaos"
_WEED = Path(sys.executable).with_name("weed")
_PORTS = ("master.port", "volume.port", "filer.port", "s3.port", "s3.port.iceberg", "s3.port.lance")
_GRPC = ("master.port.grpc", "volume.port.grpc", "filer.port.grpc", "s3.port.grpc")
_KEYS = {"accessKey": "chaos", "secretKey": "chaos"}  # of a server on loopback that lives for minutes
_START_S = 120.0


class Store:
    """Server with an empty bucket; ``relay`` is the way to it."""

    def __init__(self, folder: Path, log: Path, seed: int) -> None:
        folder.mkdir(parents=True)
        identity = {"name": BUCKET, "credentials": [_KEYS], "actions": ["Admin"]}
        (folder / "s3.json").write_text(json.dumps({"identities": [identity]}))
        ports = dict(zip((*_PORTS, *_GRPC), free_ports(len(_PORTS) + len(_GRPC)), strict=True))
        alone = ["-ip=127.0.0.1", "-ip.bind=127.0.0.1", "-filer", "-s3", "-s3.autoCreateBucket=false"]
        small = ["-master.volumeSizeLimitMB=64", "-volume.max=30", f"-s3.config={folder}/s3.json"]
        flags = [f"-{name}={port}" for name, port in ports.items()]
        self.service = Service(
            "object store", [_WEED, f"-logdir={folder}", "server", f"-dir={folder}", *alone, *flags, *small], log
        )
        self._port = ports["s3.port"]
        self._wait(f"http://127.0.0.1:{ports['filer.port']}/buckets/{BUCKET}/")
        self.relay = Relay(self._port, seed)

    def environment(self) -> dict[str, str]:
        """Return the variables by which a sidecar finds it, through the relay."""
        return {f"AWS_{name.upper()}": value for name, value in self._settings(self.relay.port).items()} | {
            "AWS_ALLOW_HTTP": "true"
        }

    def stop(self) -> None:
        """End it."""
        self.relay.close()
        self.service.stop()

    def _settings(self, port: int) -> dict[str, str]:
        keys = {"access_key_id": _KEYS["accessKey"], "secret_access_key": _KEYS["secretKey"]}
        return {"endpoint": f"http://127.0.0.1:{port}", "region": "us-east-1", **keys}

    def _wait(self, bucket_url: str) -> None:
        """Wait until it answers, and make the bucket: a folder of its filer."""
        store = S3Store(BUCKET, client_options={"allow_http": True}, **self._settings(self._port))  # type: ignore[arg-type]
        deadline = time.monotonic() + _START_S
        while True:
            try:
                obstore.put(store, "ready", b"yes")
                return
            except Exception as problem:  # whatever obstore says of a server that has begun by half
                if time.monotonic() > deadline:
                    raise SystemExit(f"the object store didn't start: {problem}") from problem
                if "NoSuchBucket" in str(problem):
                    urllib3.request("POST", bucket_url, retries=False, timeout=10)
            time.sleep(0.1)
