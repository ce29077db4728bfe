"""Reasons why a connection isn't made although somebody listens: certificates, or TLS on one side alone.

Libraries tell them in words of their own, or not at all; a handshake of Python's, in which nothing is sent, tells which it is.
"""

from __future__ import annotations

import socket
import ssl

from clip_client.connection_options import Options
from clip_client.server_addresses import GRPC, ServerAddress
from clip_client.tls import Tls

_PROBE_S = 3.0
_EXPIRED, _NOT_YET, _OTHER_NAME, _OTHER_ADDRESS = 10, 9, 62, 64  # of OpenSSL: x509_vfy.h
_LINE = b"GET / HTTP/1.0\r\n\r\n"


def fault(address: ServerAddress, options: Options, told: str = "") -> str:
    """Return the reason, with what to do; empty if it is another one. Takes some seconds at most.

    Args:
        address: server that couldn't be reached.
        options: of the client.
        told: by the library that tried; refused connections aren't tried again.
    """
    if "http1.x server" in told:  # gRPC's words
        return "HTTP is spoken there, not gRPC: pass the port of gRPC, 8001 as a rule, or write http:// if that is meant"
    if "BadStatusLine('\\x00\\x00" in told or "Expected HTTP/" in told:  # urllib3's and aiohttp's, for a frame of HTTP/2
        return "no HTTP/1.1 is spoken there, but gRPC perhaps: pass the port of HTTP, or write grpc:// if that is meant"
    if "refused" in told:
        return ""
    try:
        return _fault_of_secure(address, options) if address.is_secure else _fault_of_plain(address)
    except OSError:  # nobody is there
        return ""


def _fault_of_secure(address: ServerAddress, options: Options) -> str:
    tls = options.tls or Tls()
    context = tls.context()
    if address.scheme in GRPC:
        context.set_alpn_protocols(["h2"])
    try:
        with _connected(address) as plain, context.wrap_socket(plain, server_hostname=address.host) as secure:
            if address.scheme in GRPC and secure.selected_alpn_protocol() != "h2":
                return "TLS without HTTP/2 is spoken there, which gRPC needs: let its proxy offer h2 by ALPN, or write https://"
            if address.scheme not in GRPC:  # of which the server speaks first
                secure.sendall(_LINE)
            if not secure.recv(1):  # with TLS 1.3 a missing certificate is told here, or the connection ends
                return _of_end("it ends the connection after the handshake", tls)
    except ssl.SSLCertVerificationError as problem:
        return _of_certificate(problem, address)
    except ssl.SSLError as problem:
        return _of_handshake(problem, address, tls)
    return ""


def _of_certificate(problem: ssl.SSLCertVerificationError, address: ServerAddress) -> str:
    if problem.verify_code in (_OTHER_NAME, _OTHER_ADDRESS):
        return f"its certificate has another name than {address.host}: pass the name that is in it ({problem.verify_message})"
    if problem.verify_code in (_EXPIRED, _NOT_YET):
        return f"its certificate isn't valid today, {problem.verify_message}: have it renewed, or set this machine's clock"
    return f"its certificate isn't trusted, {problem.verify_message}: pass tls=Tls(ca=…) with the authority that signed it"


def _of_handshake(problem: ssl.SSLError, address: ServerAddress, tls: Tls) -> str:
    reason = problem.reason or str(problem)
    if any(
        mark in reason for mark in ("WRONG_VERSION_NUMBER", "RECORD_LAYER", "HTTP_REQUEST", "PACKET_LENGTH", "UNKNOWN_PROTOCOL")
    ):
        return (
            f"plain text is spoken there, and no TLS: write {'grpc' if address.scheme in GRPC else 'http'}:// if that is meant"
        )
    return _of_end(f"it refuses the handshake, {reason}", tls) if "ALERT" in reason or "EOF" in reason else ""


def _of_end(told: str, tls: Tls) -> str:
    """Return the likely reason for an end that the server doesn't explain."""
    if tls.certificate is None:
        return f"{told}: if it asks for a client's certificate, pass tls=Tls(certificate=…, key=…)"
    return f"{told}: if it refuses this client's certificate, pass one that its authority signed"


def _fault_of_plain(address: ServerAddress) -> str:
    """Tell if TLS is spoken where plain text was expected, whatever the certificate."""
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
    context.check_hostname, context.verify_mode = False, ssl.CERT_NONE  # nothing is sent, and nothing believed
    context.set_alpn_protocols(["h2", "http/1.1"])
    try:
        with _connected(address) as plain, context.wrap_socket(plain, server_hostname=address.host):
            pass
    except ssl.SSLError as problem:
        if "ALERT" not in (problem.reason or ""):
            return ""
    return f"TLS is spoken there, and no plain text: write {'grpcs' if address.scheme in GRPC else 'https'}:// in front"


def _connected(address: ServerAddress) -> socket.socket:
    return socket.create_connection((address.host, address.port), timeout=_PROBE_S)
