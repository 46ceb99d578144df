"""Certificates that tests make with openssl."""

from __future__ import annotations

import subprocess
from pathlib import Path

from tests.programs import find_program


class Authority:
    """Signs certificates in a directory: its own is NAME.pem there, its key NAME.key."""

    def __init__(self, directory: Path, name: str = "ca") -> None:
        self._directory, self._name = directory, name
        self.pem = directory / f"{name}.pem"
        self._make(name, "-addext", "keyUsage=critical,keyCertSign")

    def certificate(self, name: str, names: str = "IP:127.0.0.1,DNS:localhost") -> tuple[Path, Path]:
        """The files of a new certificate, NAME.pem, and of its key, NAME.key."""
        signed = ("-CA", str(self.pem), "-CAkey", str(self.pem.with_suffix(".key")))
        # Python 3.13 verifies strictly (RFC 5280): an authority says what its key is for, and others are none.
        leaf = ("-addext", "basicConstraints=critical,CA:FALSE", "-addext", "keyUsage=critical,digitalSignature")
        self._make(name, *signed, *leaf, "-addext", f"subjectAltName={names}")
        return self._directory / f"{name}.pem", self._directory / f"{name}.key"

    def _make(self, name: str, *more: str) -> None:
        key, certificate = self._directory / f"{name}.key", self._directory / f"{name}.pem"
        subprocess.run(
            [
                *(find_program("openssl"), "req", "-x509", "-newkey", "ec", "-pkeyopt", "ec_paramgen_curve:prime256v1"),
                *("-nodes", "-days", "2", "-subj", f"/CN={name}", "-keyout", str(key), "-out", str(certificate)),
                *more,
            ],
            check=True,
            capture_output=True,
        )
