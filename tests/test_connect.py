"""Connections of a client: addresses, TLS, tokens and several servers, in front of a real Triton."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
from relays import Certificates, grpc_relay
from servers import Server, free_ports

from clip_client import (
    Clip,
    InvalidInput,
    Retries,
    Timeouts,
    Tls,
    Unauthorized,
    Unavailable,
    connection_options,
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
        ({"timeouts": 3}, r"timeouts is a int: expected clip_client\.Timeouts"),
        ({"retries": 3}, r"retries is a int: expected clip_client\.Retries"),
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
        (lambda: Tls(ca=3), r"Tls\.ca is a int: expected the path of a PEM file"),
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
    assert not recwarn.list


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
