"""Hostile requests to the ports of a server: it stays, and answers the next request."""

from __future__ import annotations

import contextlib
import os
import socket
import struct
import threading
import time
from collections.abc import Iterator
from pathlib import Path

import grpc
import numpy as np
import psutil
import pytest
from servers import Server, running
from tritonclient.grpc import service_pb2, service_pb2_grpc

from clip_client import Clip, ModelSpec
from clip_serve import leftovers

SIZE = 224
ENDLESS = [("grpc.max_send_message_length", -1), ("grpc.max_receive_message_length", -1), ("grpc.max_metadata_size", 2**20),
           ("grpc.absolute_max_metadata_size", 2**20), ("grpc.enable_retries", 0)]  # fmt: skip
BODY = b'{"inputs":[{"name":"tokens","datatype":"INT32","shape":[1,1099511627776],"data":[1]}]}'
INFER = "/v2/models/clip_text_encoder/infer"


@pytest.fixture(scope="module")
def target(repository: Path) -> Iterator[Server]:
    """A server for this module alone."""
    with running(repository) as server:
        yield server


@pytest.fixture
def alive(target: Server) -> Iterator[Server]:
    """The server; afterwards all processes of before are there and both towers answer."""
    before = {process.pid for process in target.family()}
    yield target
    with Clip(target.address, timeout_s=30) as clip:
        assert np.linalg.norm(clip.embed_text("still there")) == pytest.approx(1, abs=1e-5)
        assert np.linalg.norm(clip.embed_image(np.zeros((9, 9, 3), np.uint8))) == pytest.approx(1, abs=1e-5)
    assert {process.pid for process in target.family()} == before


def said(server: Server, request: bytes, port: int = 0, within_s: float = 10) -> bytes:
    """Return a port's answer to bytes; a refusal to read them is no failure."""
    answer = b""
    with socket.create_connection(("127.0.0.1", server.ports[port]), timeout=within_s) as connection:
        with contextlib.suppress(ConnectionError):
            connection.sendall(request)
        with contextlib.suppress(ConnectionError):
            while part := connection.recv(2**16):
                answer += part
    return answer


def get(path: str, *headers: str, host: str = "127.0.0.1") -> bytes:
    return "\r\n".join([f"GET {path} HTTP/1.1", f"Host: {host}", *headers, "", ""]).encode()


def post(path: str, body: bytes, *headers: str) -> bytes:
    head = [f"POST {path} HTTP/1.1", "Host: 127.0.0.1", "Content-Type: text/plain", *headers]
    return "\r\n".join([*head, "", ""]).encode() + body


CHUNKED = post(INFER, b"1\r\n{\r\n" * 800_000 + b"0\r\n\r\n", "Transfer-Encoding: chunked")
HOSTILE = {
    "a huge shape": post(INFER, BODY, f"Content-Length: {len(BODY)}"),
    "a huge shape in chunks": post(INFER, b"%x\r\n%s\r\n0\r\n\r\n" % (len(BODY), BODY), "Transfer-Encoding: chunked"),
    "4.8 MB of one-byte chunks": CHUNKED,
    "chunks to health": CHUNKED.replace(INFER.encode(), b"/v2/health/ready", 1),
    "chunks to metrics": CHUNKED.replace(INFER.encode(), b"/metrics", 1),
    "chunks to the repository": CHUNKED.replace(INFER.encode(), b"/v2/repository/index", 1),
    "chunks to a log setting": CHUNKED.replace(INFER.encode(), b"/v2/logging", 1),
    "64 MB": post(INFER, b"x" * 2**26, f"Content-Length: {2**26}"),
    "a length that lies": post(INFER, BODY, "Content-Length: 99999999999999999999"),
    "a length below 0": post(INFER, BODY, "Content-Length: -1"),
    "a binary header": post(INFER, BODY, f"Content-Length: {len(BODY)}", "Inference-Header-Content-Length: 9999999999"),
    "a gzip bomb": post(INFER, b"\x1f\x8b" + bytes(1000), "Content-Encoding: gzip", "Content-Length: 1002"),
    "a megabyte of headers": get("/v2/health/ready", *["X: " + "x" * 1000] * 1000),
    "100,000 headers": get("/v2/health/ready", *["a: b"] * 100_000),
    "one endless line": b"GET /" + b"x" * 2**22,
    "no HTTP": os.urandom(5000),
    "TLS": b"\x16\x03\x01\x02\x00\x01\x00\x01\xfc\x03\x03" + bytes(100),
    "an HTTP/2 preface": b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n" + bytes(100),
    "nothing but ends": b"\r\n" * 5000,
    "NULs": b"GET /v2/health/ready\0 HTTP/1.1\r\nHost: \0\r\n\r\n",
    "two requests in one": get("/v2/health/ready") + post(INFER, BODY, f"Content-Length: {len(BODY)}"),
    "a request within a path": get("/v2/health/ready HTTP/1.1\r\n\r\nPOST /v2/models/clip_text_encoder/infer"),
}


@pytest.mark.parametrize("port", [0, 2], ids=["http", "metrics"])
@pytest.mark.parametrize("what", HOSTILE)
def test_no_request_over_http_ends_it(what: str, port: int, alive: Server) -> None:
    answer = said(alive, HOSTILE[what], port)
    assert b"outputs" not in answer
    assert answer.count(b"HTTP/1.") <= 1


def test_health_and_metrics_are_all_that_http_answers(alive: Server) -> None:
    for path in ("/v2/health/live", "/v2/health/ready", "/v2/models/clip_text/ready", "/v2/models/clip_text/versions/1/ready"):
        assert said(alive, get(path)).split()[1] == b"200"
    assert b"nv_inference_count" in said(alive, get("/metrics"), 2)
    closed = ("/", "/v2", "/v2/models/clip_text", "/v2/models/clip_text/config", "/v2/models/stats", "/v2/logging",
              "/metrics", "/v2/health/ready/", "/v2//health/ready", "/v2/models/../health/ready", INFER)  # fmt: skip
    for path in closed:
        assert said(alive, get(path)).split()[1] == b"404"
    assert said(alive, get("/v2/health/ready"), 2).split()[1] == b"404"
    assert said(alive, post("/v2/health/ready", b"", "Content-Length: 0")).split()[1] == b"405"


@pytest.mark.parametrize("port", [0, 2], ids=["http", "metrics"])
def test_names_and_pages_of_others_are_refused(port: int, alive: Server) -> None:
    path = "/metrics" if port else "/v2/health/ready"
    for host in (
        "rebound.example",
        "localhost.evil.example",
        "127.0.0.1.evil.example",
        "",
        "x@localhost.evil",
        "[",
        "2130706433",
    ):
        assert said(alive, get(path, host=host), port).split()[1] == b"403"
    for host in ("127.0.0.1", "localhost", "localhost:8000", "[::1]:8000", "192.0.2.7", socket.gethostname()):
        assert said(alive, get(path, host=host), port).split()[1] == b"200"
    for header in ("Origin: https://evil.example", "Origin: null", "ORIGIN: http://localhost", "Sec-Fetch-Site: cross-site",
                   "sec-fetch-site: same-site"):  # fmt: skip
        assert said(alive, get(path, header), port).split()[1] == b"403"
    assert said(alive, get(path, "Sec-Fetch-Site: none"), port).split()[1] == b"200"


def test_clients_that_say_nothing_are_let_go(alive: Server) -> None:
    with contextlib.ExitStack() as stack:
        address = ("127.0.0.1", alive.ports[0])
        slow = [stack.enter_context(socket.create_connection(address)) for _ in range(300)]
        for connection in slow:
            with contextlib.suppress(ConnectionError):
                connection.sendall(b"GET /v2/hea")
        time.sleep(6)
        assert said(alive, get("/v2/health/ready")).split()[1] == b"200"
        assert psutil.Process(alive.process.pid).num_fds() < 100


def request(model: str, name: str, datatype: str, shape: list[int], *raw: bytes) -> service_pb2.ModelInferRequest:
    made = service_pb2.ModelInferRequest(model_name=model, raw_input_contents=raw)
    made.inputs.add(name=name, datatype=datatype, shape=shape)
    return made


def strings(*values: bytes) -> bytes:
    return b"".join(struct.pack("<I", len(value)) + value for value in values)


INPUTS = {"clip_text": "text", "clip_text_tokenize": "text", "clip_image": "image", "clip_image_preprocess": "image"}
LYING = [
    b"\xff\xff\xff\xff",
    b"\xff\xff\xff\x7fabc",
    b"\1",
    struct.pack("<I", 10) + b"abc",
    strings(b"a") + b"zz",
    strings(b"a", b"b"),
]
WIDE = [[1, 2**40], [2**40, 1], [1, 2**62], [1, 2**62 + 8], [2**31, 2**31], [2**63 - 1, 1], [1, -1], [-1, -1], [1], [],
        [1] * 100, [2**32, 2**32], [2**61, 8], [2**59 + 1, 8], [2**32 + 1, 8], [32, 2**57], [1, 0], [0, 8]]  # fmt: skip


def hostile_requests() -> Iterator[service_pb2.ModelInferRequest]:
    for shape in WIDE:
        for raw in (b"", b"\0" * 4, b"\0" * 32):
            yield request("clip_text_encoder", "tokens", "INT32", shape, raw)
            yield request("clip_image_encoder", "pixels", "UINT8", [*shape, SIZE, 3], raw)
            yield from (request(model, name, "BYTES", shape, raw) for model, name in INPUTS.items())
    for model, name in INPUTS.items():
        yield from (request(model, name, "BYTES", [1, 1], raw) for raw in LYING)
        yield from (request(model, name, "BYTES", [2, 1], strings(b"good") + raw) for raw in LYING)
    for batch in (2**54, 2**54 + 1, 2**32, 0):
        yield request("clip_image_encoder", "pixels", "UINT8", [batch, SIZE, SIZE, 3], b"\0" * (batch % 2 * SIZE * SIZE * 3))
    wild = struct.pack("<8i", 2**31 - 1, -(2**31), -1, 5, 99_999_999, 0, 1, 2)
    yield request("clip_text_encoder", "tokens", "INT32", [1, 8], wild)
    yield request("clip_text_encoder", "tokens", "INT32", [1, 10**6], bytes(4 * 10**6))
    yield request("clip_text_encoder", "tokens", "FP64", [1, 8], bytes(64))
    for key, value in (("shared_memory_region", "nope"), ("shared_memory_region", "../../etc/passwd")):
        shared = request("clip_text_encoder", "tokens", "INT32", [1, 8])
        shared.inputs[0].parameters[key].string_param = value
        shared.inputs[0].parameters["shared_memory_byte_size"].int64_param = 2**40
        shared.inputs[0].parameters["shared_memory_offset"].int64_param = -1
        yield shared


@contextlib.contextmanager
def raw_client(server: Server) -> Iterator[service_pb2_grpc.GRPCInferenceServiceStub]:
    with grpc.insecure_channel(server.address, ENDLESS) as channel:
        yield service_pb2_grpc.GRPCInferenceServiceStub(channel)


def test_no_request_over_grpc_ends_it(alive: Server) -> None:
    sent = 0
    with raw_client(alive) as stub:
        for hostile in hostile_requests():
            with contextlib.suppress(grpc.RpcError):  # refused, as most are
                stub.ModelInfer(hostile, timeout=5)
            sent += 1
    assert sent > 300


def test_a_bad_request_does_not_fail_those_that_are_computed_with_it(alive: Server, spec: ModelSpec) -> None:
    good = request("clip_text_encoder", "tokens", "INT32", [1, 8], struct.pack("<8i", *[spec.end_token] * 8))
    bad = [
        request("clip_text_encoder", "tokens", "INT32", [1, 2**62]),
        request("clip_text_encoder", "tokens", "INT32", [1, 8], struct.pack("<8i", *[10**8] * 8)),
        request("clip_text_encoder", "tokens", "INT32", [1, 10**6], bytes(4 * 10**6)),
    ]
    with raw_client(alive) as stub:
        for _ in range(20):
            futures = [stub.ModelInfer.future(one, timeout=30) for one in (good, *bad, good, *bad, good)]
            assert [future.exception() is None for future in futures] == [True, *[False] * 3, True, *[False] * 3, True]


def test_the_key_that_everyone_can_read_opens_nothing(alive: Server) -> None:
    options = [argument for process in alive.family() for argument in process.cmdline() if "restricted" in argument]
    assert len(options) == 2
    for option in options:
        name, _, key = option.rpartition(":")[2].partition("=")
        with raw_client(alive) as stub:
            metadata = [(f"triton-grpc-protocol-{name}", key)]
            with pytest.raises(grpc.RpcError, match="received metadata size exceeds hard limit"):
                stub.RepositoryIndex(service_pb2.RepositoryIndexRequest(), metadata=metadata, timeout=10)
            with pytest.raises(grpc.RpcError, match="restricted"):
                stub.SystemSharedMemoryRegister(service_pb2.SystemSharedMemoryRegisterRequest(name="a", key="/a"), timeout=10)


def test_only_its_user_can_look_into_it(alive: Server) -> None:
    prefix = f"clipserve-{alive.process.pid}-"
    regions = list(leftovers.SHARED_MEMORY.glob(f"{prefix}*"))
    assert len(regions) == 4
    assert {region.stat().st_mode & 0o777 for region in regions} == {0o600}
    [folder] = Path(leftovers.tempfile.gettempdir()).glob(f"{prefix}*")
    assert folder.stat().st_mode & 0o777 == 0o700


def test_all_of_it_at_once(alive: Server) -> None:
    threads = [threading.Thread(target=said, args=[alive, one, port]) for one in HOSTILE.values() for port in (0, 2)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert said(alive, get("/v2/health/ready")).split()[1] == b"200"
