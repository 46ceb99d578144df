"""TLS of a web configuration file: tls_server_config as an SSLContext of Python."""

from __future__ import annotations

import contextlib
import ipaddress
import os
import ssl
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final

from fogmetrics.settings.reader import Where, key
from shm.errors import ConfigurationError

_VERSIONS: Final = {"TLS12": ssl.TLSVersion.TLSv1_2, "TLS13": ssl.TLSVersion.TLSv1_3}
_OLD: Final = "which is not served: RFC 8996 forbids it; give TLS12 or TLS13"
# Go's names of cipher suites and OpenSSL's. Those of TLS 1.3 can't be chosen, with Go either: None.
_SUITES: Final[Mapping[str, str | None]] = {
    "TLS_AES_128_GCM_SHA256": None,
    "TLS_AES_256_GCM_SHA384": None,
    "TLS_CHACHA20_POLY1305_SHA256": None,
    **{
        f"TLS_ECDHE_{kind}_WITH_{name}": f"ECDHE-{kind}-{openssl}"
        for kind in ("ECDSA", "RSA")
        for name, openssl in (
            ("AES_128_CBC_SHA", "AES128-SHA"),
            ("AES_256_CBC_SHA", "AES256-SHA"),
            ("AES_128_GCM_SHA256", "AES128-GCM-SHA256"),
            ("AES_256_GCM_SHA384", "AES256-GCM-SHA384"),
            ("CHACHA20_POLY1305_SHA256", "CHACHA20-POLY1305"),
        )
    },
}
# Go's names of curves and OpenSSL's.
_CURVES: Final = {"CurveP256": "prime256v1", "CurveP384": "secp384r1", "CurveP521": "secp521r1", "X25519": "X25519"}
_MODES: Final = {
    "NoClientCert": ssl.CERT_NONE,
    "RequestClientCert": ssl.CERT_NONE,  # Go asks for a certificate, and does nothing with it
    "VerifyClientCertIfGiven": ssl.CERT_OPTIONAL,
    "RequireAndVerifyClientCert": ssl.CERT_REQUIRED,
}
_ANY: Final = (
    "which would accept certificates that anybody can make; give RequireAndVerifyClientCert, and client_ca_file"
)


@dataclass(frozen=True, slots=True)
class TlsConfig:
    """tls_server_config"""

    cert: str = key("", "Certificate in PEM, with its chain.")
    key_: str = key("", "Key of the certificate in PEM.")
    client_ca: str = key("", "Certificates in PEM that client certificates are verified by.")
    cert_file: str = key("", "File of the certificate.")
    key_file: str = key("", "File of the key.")
    client_auth_type: str = key(
        "NoClientCert",
        "Whether clients need a certificate.",
        choices=tuple(_MODES),
        removed={"RequireAnyClientCert": _ANY, "RequireClientCert": _ANY},
    )
    client_ca_file: str = key("", "File of the certificates that client certificates are verified by.")
    client_allowed_sans: tuple[str, ...] = key(
        (), "Subject alternative names, of which a client certificate needs one."
    )
    min_version: str = key("TLS12", "Oldest version.", choices=tuple(_VERSIONS), removed={"TLS10": _OLD, "TLS11": _OLD})
    max_version: str = key("TLS13", "Newest version.", choices=tuple(_VERSIONS), removed={"TLS10": _OLD, "TLS11": _OLD})
    cipher_suites: tuple[str, ...] = key((), "Cipher suites of TLS 1.2, by Go's names.", choices=tuple(_SUITES))
    prefer_server_cipher_suites: bool = key(True, "Whether the order of cipher_suites counts, or the client's.")
    curve_preferences: tuple[str, ...] = key((), "Curves, by Go's names: one, or all.", choices=tuple(_CURVES))

    def files(self, directory: Path) -> tuple[Path, ...]:
        """The files that are named."""
        return tuple(directory / one for one in (self.cert_file, self.key_file, self.client_ca_file) if one)


class Tls:
    """An SSLContext, and which client certificates it lets in. Raises ConfigurationError."""

    def __init__(self, config: TlsConfig, where: Where, directory: Path) -> None:
        self._config, self._where, self._directory = config, where, directory
        self._check()
        self.context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
        self._set_versions_and_suites()
        self._load_certificate()
        self._load_client_ca()

    def lets_in(self, certificate: Mapping[str, Any] | None) -> bool:
        """Whether a client with this verified certificate, as ``getpeercert()`` returns it, may come in."""
        allowed = self._config.client_allowed_sans
        return not allowed or not certificate or any(name in allowed for name in _names(certificate))

    def _check(self) -> None:
        one, where = self._config, self._where
        for name in ("cert", "key"):
            if not (self._inline(name) or getattr(one, f"{name}_file")):
                raise ConfigurationError(f"{where} has neither {name} nor {name}_file; TLS needs one of them")
        if 1 < len(set(one.curve_preferences)) < len(_CURVES):
            raise ConfigurationError(
                f"{where} curve_preferences is {list(one.curve_preferences)}, which can't be honoured: Python lets a "
                f"server choose one curve, or leave the choice open; give one of them, or all: {', '.join(_CURVES)}"
            )
        if _VERSIONS[one.min_version] > _VERSIONS[one.max_version]:
            raise ConfigurationError(
                f"{where} min_version is {one.min_version}, newer than max_version, which is "
                f"{one.max_version}; swap them"
            )
        verifies = _MODES[one.client_auth_type] is not ssl.CERT_NONE
        for name in ("client_ca", "client_ca_file", "client_allowed_sans"):
            if getattr(one, name) and not verifies:
                raise ConfigurationError(
                    f"{where} has {name}, but client_auth_type is {one.client_auth_type}, so that no client "
                    "certificate is verified; give RequireAndVerifyClientCert"
                )

    def _set_versions_and_suites(self) -> None:
        one, context = self._config, self.context
        context.minimum_version, context.maximum_version = _VERSIONS[one.min_version], _VERSIONS[one.max_version]
        if not one.prefer_server_cipher_suites:
            context.options &= ~ssl.OP_CIPHER_SERVER_PREFERENCE
        if len(curves := set(one.curve_preferences)) == 1:
            context.set_ecdh_curve(_CURVES[curves.pop()])
        if suites := [name for suite in one.cipher_suites if (name := _SUITES[suite])]:
            context.set_ciphers(":".join(suites))
        elif one.cipher_suites and one.max_version == "TLS12":
            raise ConfigurationError(
                f"{self._where} cipher_suites has none of TLS 1.2, and max_version is TLS12; give one, or TLS13"
            )
        elif one.cipher_suites:
            context.minimum_version = ssl.TLSVersion.TLSv1_3

    def _load_certificate(self) -> None:
        with _as_file(self._pem("cert")) as certificate, _as_file(self._pem("key")) as own_key:
            try:
                self.context.load_cert_chain(certificate, own_key, password="")  # none, and no prompt
            except (ssl.SSLError, OSError) as error:
                mismatch = getattr(error, "reason", "") == "KEY_VALUES_MISMATCH"
                raise ConfigurationError(
                    f"{self._where} {self._named('key')} is not the key of {self._named('cert')}; give the two that "
                    "were made together"
                    if mismatch
                    else f"{self._where} {self._named('cert')} and {self._named('key')} are not a certificate and a "
                    "key; give both in PEM, the key without a passphrase"
                ) from None

    def _load_client_ca(self) -> None:
        one, context = self._config, self.context
        context.verify_mode = _MODES[one.client_auth_type]
        if context.verify_mode is ssl.CERT_NONE:
            return
        if not (one.client_ca or one.client_ca_file):
            context.load_default_certs(ssl.Purpose.CLIENT_AUTH)
            return
        context.verify_flags |= ssl.VERIFY_X509_PARTIAL_CHAIN  # any certificate of the file is trusted, as with Go
        try:
            context.load_verify_locations(cadata=self._pem("client_ca").decode("ascii", "ignore"))
        except (ssl.SSLError, ValueError):
            raise ConfigurationError(
                f"{self._where} {self._named('client_ca')} has no certificates; give those in PEM that client "
                "certificates are signed by"
            ) from None

    def _inline(self, name: str) -> str:
        return {"cert": self._config.cert, "key": self._config.key_, "client_ca": self._config.client_ca}[name]

    def _named(self, name: str) -> str:
        """The key in force and, of a file, its path."""
        path = getattr(self._config, f"{name}_file")
        return f"{name}_file {self._directory / path}" if path else name

    def _pem(self, name: str) -> bytes:
        path = getattr(self._config, f"{name}_file")
        if not path:
            return self._inline(name).encode()
        try:
            return Path(self._directory, path).read_bytes()
        except OSError as error:
            raise ConfigurationError(
                f"{self._where} {self._named(name)} can't be read: {error.strerror}; give a file that the exporter's "
                "user may read"
            ) from None


def _names(certificate: Mapping[str, Any]) -> Iterator[str]:
    """The subject alternative names of a certificate, as Go writes them."""
    for kind, name in certificate.get("subjectAltName", ()):
        if kind == "IP Address":
            yield str(ipaddress.ip_address(name.strip()))  # Python has 0:0:0:0:0:0:0:1 for ::1
        elif kind in ("DNS", "email", "URI"):
            yield name


@contextlib.contextmanager
def _as_file(content: bytes) -> Iterator[str]:
    """A path at which OpenSSL, which takes nothing else, reads the content; it is never on a disk."""
    fd = os.memfd_create("pem")
    try:
        os.write(fd, content)
        yield f"/proc/self/fd/{fd}"
    finally:
        os.close(fd)
