"""Certificates of connections: those that are trusted, and the client's own."""

from __future__ import annotations

import os
import ssl
from dataclasses import dataclass
from pathlib import Path
from typing import TypeAlias

from clip_client.client_variables import CA, CERTIFICATE, KEY
from clip_client.errors import InvalidInput
from clip_client.type_names import a_type

_Path: TypeAlias = "str | os.PathLike[str]"


@dataclass(frozen=True)
class Tls:
    """Certificates in files of PEM, read when they are named here.

    Attributes:
        ca: certificates of the authorities that are trusted instead of the system's.
        certificate: the client's own, with those that lead to its authority behind it.
        key: its private key, without a password; None if it is in the file of the certificate.

    Raises:
        InvalidInput: a file can't be read or holds something else, or the key isn't the certificate's.
    """

    ca: _Path | None = None
    certificate: _Path | None = None
    key: _Path | None = None

    def __post_init__(self) -> None:
        for name in ("ca", "certificate", "key"):
            path = getattr(self, name)
            if path is not None and not isinstance(path, str | os.PathLike):
                raise InvalidInput(f"Tls.{name} is {a_type(path)}: expected the path of a PEM file")
            if path is not None:
                _content(f"Tls.{name}", path)
        if self.key is not None and self.certificate is None:
            raise InvalidInput("Tls.key comes without Tls.certificate: pass both, or neither")
        self.context()

    def context(self) -> ssl.SSLContext:
        """Return a context of Python's that trusts these authorities and shows this certificate."""
        try:
            context = ssl.create_default_context(cafile=None if self.ca is None else os.fspath(self.ca))
        except (ssl.SSLError, OSError) as problem:
            raise InvalidInput(f"Tls.ca is {os.fspath(self.ca or '')!r}: expected certificates in PEM ({problem})") from problem
        if self.certificate is not None:
            files = f"Tls.certificate is {os.fspath(self.certificate)!r}, Tls.key {os.fspath(self.key or self.certificate)!r}"
            try:
                context.load_cert_chain(self.certificate, self.key, password=_no_password)
            except (ssl.SSLError, OSError, ValueError) as problem:
                told = f"{files}: expected a certificate and its own key in PEM, without a password ({problem})"
                raise InvalidInput(told) from problem
        return context

    def trusted(self) -> bytes | None:
        """Return the authorities' certificates in PEM: the system's without :attr:`ca`, None where it has no list."""
        return _content("Tls.ca", self.ca) if self.ca is not None else _system_certificates()

    def own(self) -> tuple[bytes, bytes] | None:
        """Return the client's private key and its certificate in PEM, None if it has none."""
        if self.certificate is None:
            return None
        return _content("Tls.key", self.key or self.certificate), _content("Tls.certificate", self.certificate)


def tls_of_environment() -> Tls | None:
    """Return the certificates that the environment names, None if there are none."""
    ca, certificate, key = (os.environ.get(name) or None for name in (CA, CERTIFICATE, KEY))
    if not (ca or certificate or key):
        return None
    try:
        return Tls(ca, certificate, key)
    except InvalidInput as problem:
        raise InvalidInput(f"{problem}; {CA}, {CERTIFICATE} and {KEY} say so") from problem


def _content(name: str, path: _Path) -> bytes:
    try:
        return Path(path).read_bytes()
    except (OSError, ValueError) as problem:
        raise InvalidInput(f"{name} is {os.fspath(path)!r}, which can't be read ({problem}): expected a PEM file") from problem


def _no_password() -> str:
    raise ValueError("the key has a password")


def _system_certificates() -> bytes | None:
    """Return the system's authorities in PEM, as far as OpenSSL names a list of them and not a folder alone."""
    listed = ssl.create_default_context().get_ca_certs(binary_form=True)
    if listed:
        return "".join(map(ssl.DER_cert_to_PEM_cert, listed)).encode()
    bundle = Path(ssl.get_default_verify_paths().capath or "/") / "ca-certificates.crt"  # Debian's, beside the single files
    return bundle.read_bytes() if bundle.is_file() else None
