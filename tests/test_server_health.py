"""Health and metadata of a server: what is up, what isn't and why; nothing is raised when nobody is there."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
from servers import Server, free_ports, http_files

from clip_client import Clip, ModelSpec, Unavailable
from clip_client.blocking import run
from clip_client.model_repository import models


def test_a_server_that_is_up_is_ready_with_all_models(clip: Clip, server: Server) -> None:
    health = clip.health()
    assert (health.live, health.ready, health.reason, bool(health)) == (True, True, "", True)
    assert {*health.models} == {*models("clip", "image"), *models("clip", "text")}
    assert not any(health.models.values())
    assert repr(health).splitlines()[:2] == [f"Health({server.address}: ready)", "  clip_image: ready"]
    assert "<td" in health._repr_html_()


def test_a_checkpoint_that_is_not_served_is_live_and_not_ready(server: Server) -> None:
    with Clip(server.address, name="siglip") as clip:
        health = clip.health()
    assert (health.live, health.ready) == (True, False)
    assert health.models["siglip_image"] == "no model siglip_image is ready there"
    assert "live, not ready" in repr(health)


def test_nobody_there_is_a_value_not_an_error() -> None:
    with Clip(f"127.0.0.1:{free_ports(1)[0]}", timeout_s=2) as clip:
        health = clip.health(timeout_s=1)
        assert (health.live, health.ready, bool(health)) == (False, False, False)
        assert "can't be reached" in health.reason
        assert "down, " in repr(health)
        with pytest.raises(Unavailable):
            clip.server_metadata()


def test_a_closed_client_is_down(server: Server) -> None:
    clip = Clip(server.address)
    clip.close()
    assert "was closed" in clip.health().reason


def test_metadata_are_tritons_and_the_checkpoints(clip: Clip, spec: ModelSpec) -> None:
    metadata = clip.server_metadata()
    assert metadata.server == "triton"
    assert metadata.version.startswith("2.")
    assert "model_configuration" in metadata.extensions
    assert (metadata.spec, metadata.fingerprint) == (spec, spec.fingerprint)
    assert metadata.encoders == {"image": "onnxruntime", "text": "onnxruntime"}
    assert metadata.max_batch == 32
    assert f"fingerprint: {spec.fingerprint}" in repr(metadata)
    assert spec.fingerprint in metadata._repr_html_()


def test_models_in_this_process_are_a_server_too(repository: Path, spec: ModelSpec) -> None:
    with Clip.local(repository) as clip:
        assert clip.health().ready
        metadata = clip.server_metadata()
    assert (metadata.server, metadata.extensions, metadata.spec) == ("clipserve in this process", (), spec)


def test_metadata_over_http_are_the_same() -> None:
    described = {"name": "triton", "version": "2.61.0", "extensions": ["statistics"]}
    with http_files({"/v2": json.dumps(described).encode()}) as url, Clip(url) as clip:
        assert run(clip._calls._host.server()) == ("triton", "2.61.0", ["statistics"])
    with http_files({"/v2": b"{}"}) as url, Clip(url) as clip, pytest.raises(Unavailable, match="not as a Triton does"):
        run(clip._calls._host.server())
