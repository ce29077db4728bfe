"""Spaces: each checkpoint and answer names its own, and two are never mixed."""

from __future__ import annotations

import dataclasses
import json
from pathlib import Path

import numpy as np
import pytest
import tritonclient.grpc as grpc_client
from relays import grpc_relay
from servers import Server
from torch import nn

import pictures
from clip_client import Clip, ContractMismatch, InvalidInput, ModelSpec
from clip_client.errors import SpaceChanged
from clip_client.origins import Origin, origins
from clip_export.builds import tower_digests
from clip_export.checkpoints import lineage
from clip_export.towers import Towers
from clip_search.storage.schema import About, about, schema

PICTURE = pictures.jpegs(1)[0]
UNCHECKED = {"prepared_checksums": "somebodys_checksum"}
"""Exchange by which a client of a relay finds ensembles that tell no checksums, which would notice the next exchange."""


@pytest.fixture
def taught(spec: ModelSpec) -> ModelSpec:
    """A checkpoint whose text tower alone differs from the small one's."""
    return dataclasses.replace(spec, weights_sha256="1" * 64, text_sha256="2" * 64, inherited_space=spec.space)


def test_a_space_is_the_checkpoints_own_unless_it_is_inherited(spec: ModelSpec, taught: ModelSpec) -> None:
    assert spec.space == spec.fingerprint
    assert taught.fingerprint != spec.fingerprint
    assert taught.space == spec.space
    assert dataclasses.replace(spec, weights_sha256="1" * 64).space != spec.space


def test_a_tower_has_a_fingerprint_of_what_shapes_it(spec: ModelSpec, taught: ModelSpec) -> None:
    assert taught.tower_fingerprint("image") == spec.tower_fingerprint("image") != ""
    assert taught.tower_fingerprint("text") != spec.tower_fingerprint("text")
    other = dataclasses.replace(spec, resize_mode="squash")
    assert other.tower_fingerprint("image") != spec.tower_fingerprint("image")
    assert other.tower_fingerprint("text") == spec.tower_fingerprint("text")
    assert dataclasses.replace(spec, image_sha256="").tower_fingerprint("image") == ""


def test_files_and_clients_of_before_go_on_working(spec: ModelSpec, taught: ModelSpec) -> None:
    fields = dataclasses.replace(spec, image_sha256="", text_sha256="").to_fields()
    assert not {"image_sha256", "text_sha256", "inherited_space"} & fields.keys()
    old = ModelSpec.from_fields(fields)
    assert (old.fingerprint, old.space) == (spec.fingerprint, spec.space)
    known_before = set(fields)
    assert set(taught.to_parameters()) == known_before  # clients of before refuse fields that they don't know
    assert ModelSpec.from_parameters(taught.to_parameters()).completed(taught.lineage_parameters()) == taught
    assert ModelSpec.from_json(taught.to_json()) == taught


def test_what_completes_another_spec_is_passed_over(spec: ModelSpec, taught: ModelSpec) -> None:
    assert spec.completed(taught.lineage_parameters()).space == spec.space


@pytest.mark.parametrize("damaged", ["", "a", " b", "a "])
def test_an_origin_that_says_nothing_is_refused(damaged: str) -> None:
    with pytest.raises(ContractMismatch, match="as its origin, expected a space and a fingerprint"):
        origins(np.array([[damaged.encode()]], np.object_))


@pytest.mark.parametrize(("tower", "item"), [("image", PICTURE), ("text", b"a cat"), ("text", b"caf\xe9")])
def test_every_answer_names_its_origin(tower: str, item: bytes, server: Server, spec: ModelSpec) -> None:
    sent = grpc_client.InferInput(tower, [2, 1], "BYTES")
    sent.set_data_from_numpy(np.array([[item], [item]], np.object_))
    answer = grpc_client.InferenceServerClient(server.address).infer(f"clip_{tower}", [sent])
    assert answer.as_numpy("origin").ravel().tolist() == [spec.origin.encode()] * 2
    assert origins(answer.as_numpy("origin")) == [Origin(spec.space, spec.fingerprint)]


def test_a_client_knows_the_whole_spec(clip: Clip, spec: ModelSpec) -> None:
    assert clip.spec.to_fields() == spec.to_fields()


@pytest.mark.parametrize("place", ["server", "client"])
@pytest.mark.parametrize("tower", ["image", "text"])
def test_a_client_refuses_another_space_that_came_up_between_two_requests(
    tower: str, place: str, server: Server, spec: ModelSpec
) -> None:
    other = dataclasses.replace(spec, weights_sha256="0" * 64)
    changes = dict(UNCHECKED)
    with grpc_relay(server, exchanged=changes) as address, Clip(address, preprocess=place) as clip:  # type: ignore[arg-type]
        embed = {"image": lambda: clip.embed_image([PICTURE]), "text": lambda: clip.embed_text(["a cat"])}[tower]
        assert embed().any()
        changes.update({spec.weights_sha256: other.weights_sha256, spec.fingerprint: other.fingerprint})
        for _ in range(2):
            with pytest.raises(SpaceChanged, match=rf"{other.space}.*this client began with {spec.space}.*make a new client"):
                embed()
        changes.clear()  # rolled back
        assert embed().any()


def test_a_stream_that_crosses_a_change_is_refused(server: Server, spec: ModelSpec) -> None:
    other = dataclasses.replace(spec, weights_sha256="0" * 64)
    changes = dict(UNCHECKED)
    with grpc_relay(server, exchanged=changes) as address, Clip(address, requests_in_flight=1) as clip:
        stream = clip.embed_texts(iter(["a cat"] * 500))
        next(stream)
        changes.update({spec.weights_sha256: other.weights_sha256, spec.fingerprint: other.fingerprint})
        with pytest.raises(SpaceChanged):
            list(stream)


def lines(tmp_path: Path, spec: ModelSpec, **parent: str) -> lineage.Lineage | None:
    told = {"label": "tiny", "fingerprint": spec.fingerprint, **parent}
    (tmp_path / lineage.LINEAGE).write_text(json.dumps({"parent": told, "tower": "text"}))
    return lineage.read(tmp_path)


def test_a_taught_text_tower_keeps_the_space_if_the_image_tower_proves_it(
    spec: ModelSpec, taught: ModelSpec, tmp_path: Path
) -> None:
    own = dataclasses.replace(taught, inherited_space="")
    image = spec.tower_fingerprint("image")
    assert tower_digests.placed(own, lines(tmp_path, spec, image_fingerprint=image), "x").space == spec.space
    grandchild = lines(tmp_path, spec, image_fingerprint=image, space="abcdefabcdefabcd")
    assert tower_digests.placed(own, grandchild, "x").space == "abcdefabcdefabcd"
    assert tower_digests.placed(own, lines(tmp_path, spec), "x").space == own.fingerprint  # without proof
    assert tower_digests.placed(own, None, "x").space == own.fingerprint
    changed = dataclasses.replace(own, image_sha256="3" * 64)
    with pytest.raises(InvalidInput, match=f"its image tower is {changed.tower_fingerprint('image')}, the parent's {image}"):
        tower_digests.placed(changed, lines(tmp_path, spec, image_fingerprint=image), "x")


def test_a_digest_is_of_the_numbers_whatever_their_names(spec: ModelSpec) -> None:
    one, same, other = nn.Linear(3, 2), nn.Sequential(nn.Linear(3, 2)), nn.Linear(3, 2)
    same[0].load_state_dict(one.state_dict())
    assert tower_digests.digest(one) == tower_digests.digest(same) != tower_digests.digest(other)
    assert tower_digests.digested(spec, Towers(one, other)).image_sha256 == tower_digests.digest(one)


def test_a_collection_takes_models_of_its_space_alone(spec: ModelSpec, taught: ModelSpec) -> None:
    before = About(spec.embedding_size, spec.fingerprint)
    before.check_space(taught, "photos")
    with pytest.raises(ContractMismatch, match=f"photos holds vectors of model {spec.fingerprint}, got"):
        before.check_space(dataclasses.replace(spec, weights_sha256="0" * 64), "photos")
    later = About(spec.embedding_size, taught.fingerprint, taught.inherited_space)
    later.check_space(spec, "photos")
    assert about(schema(later, {}), "photos") == later
    assert b"own_space" not in (schema(before, {}).metadata or {})[b"clipserve"]  # as sidecars of before wrote it
