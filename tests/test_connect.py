"""Connections of a client: addresses, TLS, tokens and several servers, in front of a real Triton and a real sidecar."""

from __future__ import annotations

import asyncio
import contextlib
import dataclasses
import gc
import http.server
import json
import socket
import threading
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import tritonclient.http as http_client
from relays import Certificates, grpc_relay, http_relay, open_triton
from servers import Server, free_ports
from sidecars import Sidecar
from tritonclient.utils import np_to_triton_dtype

import pictures
from clip_client import (
    AsyncClip,
    AsyncSearch,
    Clip,
    ContractMismatch,
    InvalidInput,
    Retries,
    Search,
    Timeout,
    Timeouts,
    Tls,
    Unauthorized,
    Unavailable,
    connection_options,
    rest_tensors,
)
from clip_client.rota import Rota
from clip_client.server_addresses import server_addresses

TOKEN = "s3cr3t-of-the-test"
ONCE = Retries(attempts=1)


@pytest.fixture(scope="session")
def certificates(tmp_path_factory: pytest.TempPathFactory) -> Certificates:
    """An authority, and certificates that it signed."""
    return Certificates(tmp_path_factory.mktemp("certificates"))


@pytest.fixture(autouse=True)
def _no_variables(monkeypatch: pytest.MonkeyPatch) -> None:
    for name in ("ADDRESS", "TOKEN", "URL", "SEARCH_TOKEN", "CA", "CERTIFICATE", "KEY"):
        monkeypatch.delenv(f"CLIPSERVE_{name}", raising=False)


@pytest.mark.parametrize(
    ("written", "told"),
    [
        ("localhost:8001", "localhost:8001"),
        ("grpc://localhost", "localhost:8001"),
        ("grpcs://example.org", "grpcs://example.org:443"),
        ("http://example.org:8000/", "http://example.org:8000"),
        ("https://example.org/triton/a", "https://example.org:443/triton/a"),
        ("[::1]:8001", "[::1]:8001"),
        ("a:1, b:2,a:1,", "a:1, b:2"),
        (["a:1", "grpcs://b,c:3"], "a:1, grpcs://b:443, c:3"),
    ],
)
def test_an_address_is_what_it_says(written: Any, told: str) -> None:
    assert ", ".join(map(str, server_addresses(written))) == told


@pytest.mark.parametrize(
    "written",
    ["", " , ", "localhost", "localhost:", "localhost:0", "localhost:70000", "localhost:x", "::1:8001", "ftp://a:1", "a:1/x",
     "grpc://a:1/x", "http://a b", "http://", "https://a?key=hidden", "http://a/../x y", "[::1]", "a\n:1", 8001, b"a:1", [1],
     None],
)  # fmt: skip
def test_what_is_no_address_is_refused(written: Any) -> None:
    with pytest.raises(InvalidInput, match=r"the address is .*expected") as caught:
        server_addresses(written)
    assert "hidden" not in str(caught.value)


def test_a_password_in_an_address_is_refused_unseen() -> None:
    with pytest.raises(InvalidInput, match=r"names a user in front of 'host:1': leave that out, and pass token") as caught:
        Clip(f"https://me:{TOKEN}@host:1")
    assert TOKEN not in str(caught.value)


@pytest.mark.parametrize(
    ("options", "told"),
    [
        ({"timeout_s": "3"}, "timeout_s is '3': expected a number of seconds above 0"),
        ({"timeout_s": float("nan")}, "timeout_s is nan"),
        ({"timeouts": 3}, r"timeouts is an int: expected clip_client\.Timeouts"),
        ({"retries": 3}, r"retries is an int: expected clip_client\.Retries"),
        ({"tls": "ca.pem"}, r"tls is a str: expected clip_client\.Tls"),
        ({"token": "a\nb"}, "the token can't be sent: expected a string of printable ASCII"),
        ({"token": 7}, "the token can't be sent"),
        ({"headers": ["x"]}, "headers are a list: expected a mapping"),
        ({"headers": {"a b": "x"}}, "headers have the name 'a b'"),
        ({"headers": {"grpc-timeout": "x"}}, "no gRPC- in front"),
        ({"headers": {"Authorization": "x"}}, "headers can't have Authorization: pass token"),
        ({"headers": {"x-key": "hidden\r\n"}}, "the header x-key has no value that can be sent"),
    ],
)
def test_wrong_options_are_refused(options: dict[str, Any], told: str) -> None:
    with pytest.raises(InvalidInput, match=told) as caught:
        Clip("localhost:1", **options)
    assert "hidden" not in str(caught.value)


@pytest.mark.parametrize(
    ("make", "told"),
    [
        (lambda: Timeouts(connect_s=0), r"Timeouts\.connect_s is 0: expected a number of seconds above 0"),
        (lambda: Timeouts(request_s=-1), r"Timeouts\.request_s is -1"),
        (lambda: Timeouts(attempt_s=True), r"Timeouts\.attempt_s is True"),
        (lambda: Retries(attempts=0), r"Retries\.attempts is 0: expected a whole number from 1 to 100"),
        (lambda: Retries(attempts=1.5), r"Retries\.attempts is 1\.5"),
        (lambda: Retries(pause_s=-1), r"Retries\.pause_s is -1: expected a number of seconds, 0 or more"),
        (lambda: Tls(ca="no/such.pem"), r"Tls\.ca is 'no/such\.pem', which can't be read"),
        (lambda: Tls(ca=3), r"Tls\.ca is an int: expected the path of a PEM file"),
        (lambda: Tls(ca=__file__), r"Tls\.ca is .*expected certificates in PEM"),
        (lambda: Tls(key=__file__), r"Tls\.key comes without Tls\.certificate"),
        (lambda: Tls(certificate=__file__), r"Tls\.certificate is .*expected a certificate and its own key in PEM"),
    ],
)
def test_wrong_values_are_refused_where_they_are_made(make: Any, told: str) -> None:
    with pytest.raises(InvalidInput, match=told):
        make()


def test_a_key_of_another_certificate_is_refused(certificates: Certificates) -> None:
    with pytest.raises(InvalidInput, match="a certificate and its own key"):
        Tls(certificate=certificates.pem("client"), key=certificates.key("server"))


def test_secrets_are_not_shown() -> None:
    options = connection_options.options(1, TOKEN, {"x-key": TOKEN})
    assert TOKEN in options.sent_headers["authorization"]
    assert TOKEN not in repr(options)


def test_certificates_for_plain_text_are_refused(certificates: Certificates) -> None:
    with pytest.raises(InvalidInput, match="tls was passed, but localhost:1 means plain text: write grpcs://"):
        Clip("localhost:1", tls=Tls(ca=certificates.ca))


@pytest.mark.parametrize("address", ["192.0.2.1:1", "http://example.org"])
def test_a_token_in_plain_text_to_elsewhere_is_warned_of(address: str) -> None:
    with pytest.warns(UserWarning, match="goes to .* in plain text") as warned:
        Clip(address, token=TOKEN).close()
    assert TOKEN not in str(warned[0].message)
    assert warned[0].filename == __file__


@pytest.mark.parametrize("address", ["127.0.0.1:1", "localhost:1", "[::1]:1", "grpcs://192.0.2.1"])
def test_a_token_that_nobody_else_reads_is_not_warned_of(address: str, recwarn: pytest.WarningsRecorder) -> None:
    Clip(address, token=TOKEN).close()
    assert [str(each.message) for each in recwarn if "token" in str(each.message)] == []  # others may warn of what they left


class TestEnvironment:
    """Variables of the environment, read when a client is made."""

    def test_they_are_taken_where_nothing_is_passed(
        self, server: Server, certificates: Certificates, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        with grpc_relay(server, certificates=certificates, asks_for_client=True, token=TOKEN) as address:
            monkeypatch.setenv("CLIPSERVE_ADDRESS", f"grpcs://{address}")
            monkeypatch.setenv("CLIPSERVE_TOKEN", f"{TOKEN}\n")
            monkeypatch.setenv("CLIPSERVE_CA", str(certificates.ca))
            monkeypatch.setenv("CLIPSERVE_CERTIFICATE", str(certificates.pem("client")))
            with Clip() as clip:
                assert clip.embed_text("x").any()
            with Clip(server.address) as clip:  # an argument goes before the variable, certificates are for TLS alone
                assert clip.embed_text("x").any()
            with Clip(token="other", retries=ONCE) as clip, pytest.raises(Unauthorized, match="refuses the token"):
                clip.embed_text("x")

    def test_wrong_ones_are_named(self, monkeypatch: pytest.MonkeyPatch) -> None:
        monkeypatch.setenv("CLIPSERVE_ADDRESS", "nowhere")
        with pytest.raises(InvalidInput, match="the variable CLIPSERVE_ADDRESS is 'nowhere': expected host:port"):
            Clip()
        monkeypatch.setenv("CLIPSERVE_TOKEN", "a\u20ac")
        with pytest.raises(InvalidInput, match="the variable CLIPSERVE_TOKEN can't be sent"):
            Clip("a:1")
        monkeypatch.delenv("CLIPSERVE_TOKEN")
        monkeypatch.setenv("CLIPSERVE_CA", "nowhere.pem")
        with pytest.raises(InvalidInput, match=r"'nowhere\.pem', which can't be read .* CLIPSERVE_CA"):
            Clip("a:1")


class TestTls:
    """TLS of gRPC's own server in front of a Triton."""

    def test_a_trusted_certificate_is_accepted(self, server: Server, clip: Clip, certificates: Certificates) -> None:
        with (
            grpc_relay(server, certificates=certificates) as address,
            Clip(f"grpcs://{address}", tls=Tls(ca=certificates.ca)) as secure,
        ):
            np.testing.assert_array_equal(secure.embed_text("x"), clip.embed_text("x"))

    def test_a_client_shows_its_own(self, server: Server, certificates: Certificates) -> None:
        own = Tls(certificates.ca, certificates.pem("client"), certificates.key("client"))
        with grpc_relay(server, certificates=certificates, asks_for_client=True) as address:
            with Clip(f"grpcs://{address}", tls=own) as clip:
                assert clip.embed_text("x").any()
            with Clip(f"grpcs://{address}", tls=Tls(ca=certificates.ca), retries=ONCE) as clip:
                told = r"if it asks for a client's certificate, pass tls=Tls\(certificate"
                with pytest.raises(Unavailable, match=told):
                    clip.embed_text("x")

    def test_a_stranger_is_not_trusted(self, server: Server, certificates: Certificates) -> None:
        with (
            grpc_relay(server, certificates=certificates) as address,
            Clip(f"grpcs://{address}", retries=ONCE) as clip,
            pytest.raises(Unavailable, match=r"its certificate isn't trusted, .*pass tls=Tls\(ca=…\)"),
        ):
            clip.embed_text("x")

    def test_another_name_is_told(self, server: Server, certificates: Certificates) -> None:
        with (
            grpc_relay(server, certificates=certificates, name="elsewhere") as address,
            Clip(f"grpcs://{address}", tls=Tls(ca=certificates.ca), retries=ONCE) as clip,
            pytest.raises(Unavailable, match=r"has another name than 127\.0\.0\.1: pass the name that is in it"),
        ):
            clip.embed_text("x")

    def test_an_old_certificate_is_told(self, server: Server, certificates: Certificates) -> None:
        with (
            grpc_relay(server, certificates=certificates, name="expired") as address,
            Clip(f"grpcs://{address}", tls=Tls(ca=certificates.ca), retries=ONCE) as clip,
            pytest.raises(Unavailable, match="isn't valid today, certificate has expired"),
        ):
            clip.embed_text("x")

    def test_plain_text_where_tls_is_spoken(self, server: Server, certificates: Certificates) -> None:
        with (
            grpc_relay(server, certificates=certificates) as address,
            Clip(address, retries=ONCE) as clip,
            pytest.raises(Unavailable, match="TLS is spoken there, and no plain text: write grpcs:// in front"),
        ):
            clip.embed_text("x")

    def test_tls_where_plain_text_is_spoken(self, server: Server, certificates: Certificates) -> None:
        with (
            Clip(f"grpcs://{server.address}", tls=Tls(ca=certificates.ca), retries=ONCE) as clip,
            pytest.raises(Unavailable, match="plain text is spoken there, and no TLS: write grpc://"),
        ):
            clip.embed_text("x")

    def test_tls_at_the_port_of_health(self, server: Server, certificates: Certificates) -> None:
        with (
            Clip(server.http.replace("http", "https"), tls=Tls(ca=certificates.ca), retries=ONCE, timeout_s=60) as clip,
            pytest.raises(Unavailable, match="plain text is spoken there, and no TLS: write http://"),
        ):
            clip.embed_text("x")


def test_a_token_that_is_missing_or_wrong_is_told(server: Server) -> None:
    with grpc_relay(server, token=TOKEN, forbidden="guest") as address:
        for token, told in (
            ("", f"{address} asks for a token .*: pass token"),
            ("wrong-one", f"{address} refuses the token that was sent .*: pass the right one"),
            ("guest", f"{address} doesn't allow this with the token that was sent .readers only"),
        ):
            with Clip(address, token=token) as clip, pytest.raises(Unauthorized, match=told) as caught:
                clip.embed_text("x")
            assert not token or token not in str(caught.value)
        with Clip(address, token=TOKEN, headers={"X-Team": "search"}) as clip:
            assert clip.embed_text("x").any()


class TestSeveral:
    """Several servers, of which some are down."""

    def test_they_take_turns(self, server: Server) -> None:
        with grpc_relay(server) as one, grpc_relay(server) as two, Clip([one, f"grpc://{two}"]) as clip:
            assert clip.embed_text([f"text {n}" for n in range(100)]).shape[0] == 100

    def test_one_that_is_down_is_left_out(self, server: Server) -> None:
        (port,) = free_ports(1)
        with Clip(f"127.0.0.1:{port},{server.address}", retries=ONCE) as clip:
            for n in range(8):
                assert clip.embed_text(f"text {n}").any()
            clip.wait_ready(timeout_s=20)

    def test_all_are_named_when_none_answers(self, server: Server, certificates: Certificates) -> None:
        (port,) = free_ports(1)
        with (
            grpc_relay(server, certificates=certificates) as secure,
            Clip([f"127.0.0.1:{port}", secure], retries=ONCE) as clip,
        ):
            told = rf"none of 2 servers answers: 127\.0\.0\.1:{port} \(.*refused.*\); {secure} \(TLS is spoken there"
            with pytest.raises(Unavailable, match=told):
                clip.embed_text("x")
            with pytest.raises(Unavailable, match="not ready within " + ".*" + told):
                clip.wait_ready(timeout_s=0.1)

    def test_another_checkpoint_is_refused_with_both_fingerprints(self, server: Server, clip: Clip) -> None:
        here = clip.spec
        there = dataclasses.replace(here, weights_sha256="0" * 64)
        changes = {here.weights_sha256: there.weights_sha256, here.fingerprint: there.fingerprint}
        with grpc_relay(server, exchanged=changes) as other, Clip([server.address, other]) as both:
            told = r"has the space \w+, .* (\w+): serve one checkpoint on all"
            with pytest.raises(ContractMismatch, match=told) as caught:
                both.embed_text([f"text {n}" for n in range(100)])
            for named in (here.fingerprint, there.fingerprint, server.address, other):
                assert named in str(caught.value)

    def test_no_request_fails_while_one_after_the_other_is_started_anew(self, server: Server) -> None:
        ports, failed, sent, end = free_ports(2), list[str](), [0], threading.Event()

        def ask(clip: Clip) -> None:
            while not end.is_set():
                try:
                    clip.embed_text("x")
                    sent[0] += 1
                except Unavailable as problem:
                    failed.append(str(problem))

        with contextlib.ExitStack() as stack:
            relays = [contextlib.ExitStack() for _ in ports]
            for relay, port in zip(relays, ports, strict=True):
                relay.enter_context(grpc_relay(server, port=port))
            clip = stack.enter_context(Clip([f"127.0.0.1:{port}" for port in ports]))
            threads = [threading.Thread(target=ask, args=[clip]) for _ in range(2)]
            for thread in threads:
                thread.start()
            for relay, port in zip(relays, ports, strict=True):
                relay.close()
                before = sent[0]
                while sent[0] < before + 5 and not failed:
                    end.wait(0.01)
                relay.enter_context(grpc_relay(server, port=port))
                clip.wait_ready(timeout_s=30)
                before = sent[0]
                while sent[0] < before + 5 and not failed:
                    end.wait(0.01)
            end.set()
            for thread in threads:
                thread.join()
            for relay in relays:
                relay.close()
        assert failed == []

    def test_one_that_is_slow_is_left_for_another(self, server: Server) -> None:
        with socket.create_server(("127.0.0.1", 0)) as silent:  # takes connections, and says nothing
            port = silent.getsockname()[1]
            with Clip(f"127.0.0.1:{port},{server.address}", timeouts=Timeouts(connect_s=60, attempt_s=1)) as clip:
                assert all(clip.embed_text(f"text {n}").any() for n in range(3))
            short, told = Timeouts(connect_s=60, request_s=0.2), "didn't answer for clip_image in time"
            with Clip(f"127.0.0.1:{port}", timeouts=short) as clip, pytest.raises(Timeout, match=told):
                clip.embed_text("x")


class TestTurns:
    """Turns of servers, on a clock that stands still."""

    def test_they_go_round(self) -> None:
        rota = Rota(3, lambda: 0.0)
        assert [rota.order()[0] for _ in range(4)] == [0, 1, 2, 0]

    def test_one_that_failed_rests_and_is_tried_by_one_request(self) -> None:
        now = [0.0]
        rota = Rota(2, lambda: now[0])
        rota.failed(0)
        assert [rota.order() for _ in range(3)] == [[1, 0]] * 3
        now[0] = 0.6
        orders = [rota.order() for _ in range(4)]
        assert sum(order[0] == 0 for order in orders) == 1
        rota.answered(0)
        assert {rota.order()[0] for _ in range(2)} == {0, 1}

    def test_it_rests_longer_each_time(self) -> None:
        now = [0.0]
        rota = Rota(2, lambda: now[0])
        for _ in range(30):
            rota.failed(0)
        now[0] = 14.9
        assert rota.order() == [1, 0]
        now[0] = 15.1
        assert 0 in (rota.order()[0], rota.order()[0])


class TestOnALoop:
    """The same connections, awaited."""

    def test_tls_and_a_token(self, server: Server, clip: Clip, certificates: Certificates) -> None:
        async def ask(address: str) -> None:
            secure = {"tls": Tls(certificates.ca, certificates.pem("client"))}
            async with AsyncClip([f"grpcs://{address}"], token=TOKEN, **secure) as awaited:
                np.testing.assert_array_equal(await awaited.embed_text("x"), clip.embed_text("x"))
            async with AsyncClip(f"grpcs://{address}", token="wrong-one", **secure) as awaited:
                with pytest.raises(Unauthorized, match="refuses the token"):
                    await awaited.embed_text("x")
            async with AsyncClip(address, retries=ONCE) as awaited:
                with pytest.raises(Unavailable, match="TLS is spoken there"):
                    await awaited.embed_text("x")

        with grpc_relay(server, certificates=certificates, asks_for_client=True, token=TOKEN) as address:
            asyncio.run(ask(address))

    def test_one_that_is_down_is_left_out(self, server: Server) -> None:
        async def ask() -> None:
            (port,) = free_ports(1)
            async with AsyncClip(f"127.0.0.1:{port},{server.address}", retries=ONCE) as awaited:
                rows = await asyncio.gather(*(awaited.embed_text(f"text {n}") for n in range(8)))
                assert all(row.any() for row in rows)

        asyncio.run(ask())


def test_http_at_the_port_of_grpc_is_told(server: Server) -> None:
    with Clip(server.http.removeprefix("http://")) as clip, pytest.raises(Unavailable, match="HTTP is spoken there, not gRPC"):
        clip.embed_text("x")


def test_http_without_inference_is_told(server: Server) -> None:
    told = "answers 404, not as a Triton does: clipserve serve answers inference over gRPC alone"
    with Clip(server.http) as clip:
        clip.wait_ready(timeout_s=20)
        with pytest.raises(Unavailable, match=told):
            clip.embed_text("x")

    async def ask() -> None:
        async with AsyncClip(server.http) as clip:
            with pytest.raises(Unavailable, match=told):
                await clip.embed_text("x")

    asyncio.run(ask())


@pytest.mark.slow
def test_tritons_http_gives_the_same_embeddings(server: Server, clip: Clip, certificates: Certificates, tmp_path: Path) -> None:
    images, tls = [*pictures.jpegs(5), b"no picture"], Tls(ca=certificates.ca)
    with open_triton(server, tmp_path) as triton, http_relay(triton, certificates, token=TOKEN) as (address, seen):
        for place in ("server", "client"):
            with Clip(f"https://{address}", tls=tls, token=TOKEN, preprocess=place) as secure:
                assert secure.spec == clip.spec
                ours, theirs = (one.embed_image(images, on_error="none") for one in (secure, clip))
                assert ours.errors == theirs.errors
                np.testing.assert_array_equal(ours[:5], theirs[:5])
                assert secure.count_tokens(["a b", "c"]) == clip.count_tokens(["a b", "c"])
                assert secure.server_metadata().encoders == clip.server_metadata().encoders
        assert set(seen) == {f"Bearer {TOKEN}"}

        async def ask() -> None:
            async with AsyncClip(f"https://{address}", tls=tls, token=TOKEN) as awaited:
                np.testing.assert_array_equal(await awaited.embed_text(["x", "\u00e4"]), clip.embed_text(["x", "\u00e4"]))

        asyncio.run(ask())
        for options, kind, told in (
            ({}, Unauthorized, "asks for a token"),
            ({"token": "wrong-one"}, Unauthorized, "refuses the token"),
            ({"token": TOKEN, "name": "other"}, InvalidInput, "serves no model other_image"),
        ):
            with Clip(f"https://{address}", tls=tls, **options) as secure, pytest.raises(kind, match=told):
                secure.embed_text("x")
        with Clip(f"https://{address}", retries=ONCE) as secure, pytest.raises(Unavailable, match="isn't trusted"):
            secure.embed_text("x")


class TestTensors:
    """Tensors over HTTP, as tritonclient writes and reads them."""

    @pytest.mark.parametrize("rows", [[b"", b"a\0", b"\xff" * 300], np.arange(24, dtype=np.uint8).reshape(2, 3, 4)], ids=type)
    def test_a_body_is_tritonclients(self, rows: Any) -> None:
        body, length = rest_tensors.request_body(rows, "image", ["embedding"])
        batch = rows if isinstance(rows, np.ndarray) else np.array(rows, np.object_).reshape(-1, 1)
        tensor = http_client.InferInput("image", batch.shape, np_to_triton_dtype(batch.dtype))
        tensor.set_data_from_numpy(batch)
        output = http_client.InferRequestedOutput("embedding")
        theirs, their_length = http_client.InferenceServerClient.generate_request_body([tensor], outputs=[output])
        assert json.loads(body[:length]) == json.loads(theirs[:their_length])
        assert body[length:] == theirs[their_length:]

    @pytest.mark.parametrize(
        "body",
        [b"", b"{}", b"[]", b'{"outputs": [{"name": "e", "datatype": "FP32", "shape": [2], "data": [1, 2]}]}',
         b'{"outputs": [{"name": "e", "datatype": "FP32", "shape": [9], "parameters": {"binary_data_size": 36}}]}',
         b'{"outputs": [{"name": "e", "datatype": "FP32", "shape": [1], "parameters": {"binary_data_size": -4}}]}',
         b'{"outputs": []}'],
    )  # fmt: skip
    def test_an_answer_that_is_none_is_refused(self, body: bytes) -> None:
        with pytest.raises((ValueError, KeyError, TypeError)):
            rest_tensors.answered_tensors(body, str(len(body)), ["e"])


class TestSidecar:
    """Search and AsyncSearch behind a proxy with TLS and a token."""

    def test_both_reach_it(self, sidecar: Sidecar, search: Search, certificates: Certificates) -> None:
        search.create("photos", dimension=4, fingerprint="x")

        async def ask(address: str) -> list[dict[str, Any]]:
            async with AsyncSearch(f"https://{address}", token=TOKEN, tls=Tls(ca=certificates.ca)) as awaited:
                return await awaited.collections()

        with http_relay(sidecar.port, certificates, token=TOKEN) as (address, seen):
            with Search(f"https://{address}", token=TOKEN, tls=Tls(ca=certificates.ca)) as secure:
                secure.wait_ready(timeout_s=30)
                assert [entry["name"] for entry in secure.collections()] == ["photos"]
            assert [entry["name"] for entry in asyncio.run(ask(address))] == ["photos"]
            assert set(seen) == {f"Bearer {TOKEN}"}

    def test_faults_are_told(self, sidecar: Sidecar, certificates: Certificates) -> None:
        async def ask(url: str, **options: Any) -> None:
            async with AsyncSearch(url, **options) as awaited:
                await awaited.collections()

        def told(url: str, kind: type[Exception], message: str, **options: Any) -> None:
            with Search(url, **options) as client, pytest.raises(kind, match=message):
                client.collections()
            with pytest.raises(kind, match=message):
                asyncio.run(ask(url, **options))

        trusted = {"tls": Tls(ca=certificates.ca), "retries": ONCE}
        with http_relay(sidecar.port, certificates, token=TOKEN) as (address, _):
            told(f"https://{address}", Unauthorized, "asks for a token", **trusted)
            told(f"https://{address}", Unauthorized, "refuses the token", token="wrong-one", **trusted)
            told(f"https://{address}", Unavailable, "its certificate isn't trusted", retries=ONCE)
            told(f"http://{address}", Unavailable, "TLS is spoken there, .*write https://", retries=ONCE)
        with http_relay(sidecar.port, certificates, name="elsewhere") as (address, _):
            told(f"https://{address}", Unavailable, "has another name than 127", **trusted)
        with http_relay(sidecar.port, certificates, name="expired") as (address, _):
            told(f"https://{address}", Unavailable, "isn't valid today", **trusted)
        with http_relay(sidecar.port, certificates, client=True) as (address, _):
            told(f"https://{address}", Unavailable, "asks for a client's certificate", **trusted)
        told(sidecar.url.replace("http", "https"), Unavailable, "plain text is spoken there", **trusted)

    @pytest.mark.parametrize(
        "url", ["", "localhost:1234", "grpc://a:1", "http://", "http://a:x", "http://a?key=hidden", "ftp://a", 7]
    )
    def test_what_is_no_url_is_refused(self, url: Any) -> None:
        with pytest.raises(InvalidInput, match=r"the sidecar's URL is .*expected http://host:port") as caught:
            Search(url)
        assert "hidden" not in str(caught.value)

    def test_a_redirect_is_not_followed(self, sidecar: Sidecar) -> None:
        with http_relay(sidecar.port) as (other, seen), redirecting(f"http://{other}/v1/collections") as address:
            with Search(f"http://{address}", token=TOKEN) as client, pytest.raises(Unavailable, match="answers 302"):
                client.collections()
            with Clip(f"http://{address}", token=TOKEN) as clip, pytest.raises(Unavailable, match="redirects, which isn't"):
                clip.embed_text("x")
            assert seen == []

    def test_what_may_have_arrived_is_sent_once(self) -> None:
        with dropping() as (port, requests), Search(f"http://127.0.0.1:{port}", retries=Retries(3, pause_s=0)) as client:
            with pytest.raises(Unavailable, match="can't be reached"):
                client.create("photos")
            assert sum(request.startswith(b"POST") for request in requests) == 1  # others look for TLS
            with pytest.raises(Unavailable, match="can't be reached"):
                client.query("photos", "x")
            assert sum(request.startswith(b"POST") for request in requests) == 4


@contextlib.contextmanager
def redirecting(url: str) -> Iterator[str]:
    """Address of a server that sends everybody to a URL."""

    class Handler(http.server.BaseHTTPRequestHandler):
        def do_GET(self) -> None:
            self.send_response(302)
            self.send_header("Location", url)
            self.send_header("Content-Length", "0")
            self.end_headers()

        def log_message(self, *arguments: object) -> None:
            pass

    with http.server.ThreadingHTTPServer(("127.0.0.1", 0), Handler) as server:
        threading.Thread(target=server.serve_forever, args=[0.01], daemon=True).start()
        yield f"127.0.0.1:{server.server_port}"
        server.shutdown()


@contextlib.contextmanager
def dropping() -> Iterator[tuple[int, list[bytes]]]:
    """Port of a server that reads requests and closes; and what it read."""
    requests: list[bytes] = []

    def serve() -> None:
        with contextlib.suppress(OSError):
            while True:
                connection, _ = listening.accept()
                with connection:
                    requests.append(connection.recv(65_536))

    with socket.create_server(("127.0.0.1", 0)) as listening:
        thread = threading.Thread(target=serve, daemon=True)
        thread.start()
        yield listening.getsockname()[1], requests
        listening.shutdown(socket.SHUT_RDWR)
        thread.join()


@pytest.mark.filterwarnings("error::pytest.PytestUnraisableExceptionWarning")
@pytest.mark.parametrize(
    "part", ["grpc.insecure_channel", "tritonclient.grpc._client.service_pb2_grpc.GRPCInferenceServiceStub"]
)
def test_ctrl_c_while_a_connection_is_made_leaves_no_complaint(
    part: str, monkeypatch: pytest.MonkeyPatch, capfd: pytest.CaptureFixture[str]
) -> None:
    def interrupted(*_: Any, **__: Any) -> None:
        raise KeyboardInterrupt

    monkeypatch.setattr(part, interrupted)
    with pytest.raises(KeyboardInterrupt):
        Clip("127.0.0.1:1").embed_text("a")
    gc.collect()
    assert capfd.readouterr().err == ""
