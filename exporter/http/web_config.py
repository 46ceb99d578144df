"""Reads a web configuration file, in the format that Prometheus' exporters share: exporter-toolkit's.

    tls_server_config:   certificate and key, client certificates, versions, cipher suites: tls.py
    http_server_config:  http2, and headers that are added to every answer
    basic_auth_users:    bcrypt hashes of passwords by the names of users: access.py
    rate_limit:          interval and burst of a token bucket: access.py

Paths in it are relative to its directory. What exporter-toolkit accepts and can't be honoured here is an error.
:class:`WebFile` rereads it when it changes.
"""

from __future__ import annotations

import dataclasses
import logging
import os
import re
import stat
import typing
from collections.abc import Hashable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final

import bcrypt
import yaml

from exporter.http.access import Passwords, RateLimit
from exporter.http.tls import Tls, TlsConfig
from exporter.settings import ExporterTables
from fogmetrics.settings.reader import Where, key, mistakes_of, read_table
from shm.errors import ConfigurationError
from shm.safe_repr import shown

log = logging.getLogger(__name__)

# The headers that may be set, with their values; none: any.
_HEADERS: Final[Mapping[str, tuple[str, ...]]] = {
    "Content-Security-Policy": (),
    "Strict-Transport-Security": (),
    "X-Content-Type-Options": ("nosniff",),
    "X-Frame-Options": ("deny", "sameorigin"),
    "X-XSS-Protection": (),
}
_PRINTABLE: Final = re.compile(r"[ -~]+\Z")
_BCRYPT: Final = re.compile(r"\$2[aby]\$(0[4-9]|[12][0-9]|3[01])\$[./A-Za-z0-9]{53}\Z")
_PART: Final = re.compile(r"([0-9]+(?:\.[0-9]+)?)(ns|us|µs|ms|s|m|h)")
_UNIT_SECONDS: Final = {"ns": 1e-9, "us": 1e-6, "µs": 1e-6, "ms": 1e-3, "s": 1.0, "m": 60.0, "h": 3600.0}


@dataclass(frozen=True, slots=True)
class HttpServerConfig:
    """http_server_config"""

    http2: bool | None = key(None, "Whether HTTP/2 is served: it is not, whatever this says.")
    headers: Mapping[str, str] = key({}, "Headers of every answer.")


@dataclass(frozen=True, slots=True)
class RateLimitConfig:
    """rate_limit"""

    interval: str = key("0", "Time from one request to the next; 0: no limit.")
    burst: int = key(0, "Requests that may come at once.", low=0, high=1_000_000_000)


@dataclass(frozen=True, slots=True)
class WebTables:
    """The whole file."""

    tls_server_config: TlsConfig = key(TlsConfig(), "TLS.")
    http_server_config: HttpServerConfig = key(HttpServerConfig(), "HTTP.")
    basic_auth_users: Mapping[str, str] = key({}, "bcrypt hashes of passwords.")
    rate_limit: RateLimitConfig = key(RateLimitConfig(), "Requests in a time.")


@dataclass(frozen=True)
class Web:
    """A checked web configuration, in use."""

    tables: WebTables
    tls: Tls | None
    headers: tuple[tuple[bytes, bytes], ...]
    passwords: Passwords | None
    limit: RateLimit | None
    notes: tuple[str, ...]  # of keys that are valid but have no effect, and of secrets that every user can read


class WebFile:
    """The web configuration of a file. Raises ConfigurationError if it is wrong at the start."""

    def __init__(self, path: Path) -> None:
        self._path = path
        self._files: tuple[Path, ...] = (path,)
        self._web = self._read()

    def current(self) -> Web:
        """The configuration; reread if a file has changed. A wrong one is logged once, and the last good one stays."""
        if self._look() != self._seen:
            try:
                self._web = self._kept(self._read())
            except ConfigurationError as error:
                log.error("web configuration is wrong, the last good one stays", extra={"error": "; ".join(error.args)})
            else:
                log.info("web configuration reread", extra={"file": str(self._path)})
        return self._web

    def tls(self) -> Tls:
        """The TLS of the next handshake. Only for a configuration with TLS."""
        tls = self.current().tls
        assert tls is not None, "TLS is turned off by a restart only"
        return tls

    def _look(self) -> tuple[object, ...]:
        return tuple(map(_state, self._files))

    def _read(self) -> Web:
        while True:
            self._seen = self._look()  # before reading, so that no later change goes unseen
            tables = parse(_text(self._path), str(self._path))
            files = (self._path, *tables.tls_server_config.files(self._path.parent))
            if files == self._files:
                return _web(tables, self._path)
            self._files = files

    def _kept(self, new: Web) -> Web:
        """``new``, with the state of what has not changed. Raises ConfigurationError if TLS was turned on or off."""
        old = self._web
        if (new.tls is None) is not (old.tls is None):
            raise ConfigurationError(
                f"{self._path}: tls_server_config was {'removed' if new.tls is None else 'added'}; restart the "
                "exporter to turn TLS on or off"
            )
        if new.tables.basic_auth_users == old.tables.basic_auth_users:
            new = dataclasses.replace(new, passwords=old.passwords)
        if new.tables.rate_limit == old.tables.rate_limit:
            new = dataclasses.replace(new, limit=old.limit)
        return new


def web_file(config: ExporterTables, directory: Path) -> WebFile | None:
    """The file of [exporter] web_config, if there is one. ``directory``: the exporter's working directory.

    Raises ConfigurationError.
    """
    name = config.exporter.web_config
    return WebFile(directory / name) if name else None


def parse(text: str, file: str) -> WebTables:
    """The tables of a file's text. Raises ConfigurationError."""
    try:
        # S506: a subclass of BaseLoader, which makes nothing but strings, lists and dicts.
        found = yaml.load(text, _Loader)  # noqa: S506
    except (yaml.YAMLError, ValueError, OverflowError, RecursionError) as error:  # the middle two: "\U0F000000"
        mark, problem = getattr(error, "problem_mark", None), getattr(error, "problem", None)
        line = f" in line {mark.line + 1}" if mark else ""
        raise ConfigurationError(
            f"{file} is not YAML{line}: {problem or 'it nests too deeply, or has forbidden characters'}"
        ) from None
    if not isinstance(found or {}, dict):
        raise ConfigurationError(
            f"{file} has no keys; the keys of a web configuration are {', '.join(WebTables.__dataclass_fields__)}"
        )
    return read_table(WebTables, _typed(found or {}, WebTables), Where(file))


class _Loader(yaml.BaseLoader):
    """Reads every scalar as it is written, and refuses a key that comes twice, of which YAML keeps the last."""

    def construct_mapping(self, node: yaml.MappingNode, deep: bool = False) -> dict[Hashable, Any]:
        found: dict[Hashable, Any] = super().construct_mapping(node, deep)
        if len(found) < len(node.value):
            raise yaml.constructor.ConstructorError(
                problem="a key comes twice in one mapping", problem_mark=node.start_mark
            )
        return found


def _typed(value: Any, kind: Any) -> Any:
    """The value with booleans and numbers where the tables have them, without keys that have no value."""
    if dataclasses.is_dataclass(kind) and isinstance(value, dict):
        hints = typing.get_type_hints(kind)
        return {name: _typed(one, hints.get(name)) for name, one in value.items() if one != ""}
    if not isinstance(value, str):
        return value
    if kind in (bool, bool | None):
        return yaml.SafeLoader.bool_values.get(value.lower(), value)
    return int(value) if kind is int and re.fullmatch("-?[0-9]{1,15}", value) else value


def _web(tables: WebTables, path: Path) -> Web:
    """Everything that the tables say, checked. Raises ConfigurationError with a message for each mistake."""
    tls, http, where = tables.tls_server_config, tables.http_server_config, Where(str(path))
    mistakes = [
        f"{where.inner('basic_auth_users')} {user} is not a bcrypt hash; make one: htpasswd -nBC 10 {user}"
        for user, one in tables.basic_auth_users.items()
        if not _is_bcrypt(one)
    ]
    for name, value in http.headers.items():
        mistakes += mistakes_of(_header, name, value, where) if value else ()
    mistakes += mistakes_of(_limit, tables.rate_limit, where.inner("rate_limit"))
    context = None
    try:
        context = None if tls == TlsConfig() else Tls(tls, where.inner("tls_server_config"), path.parent)
    except ConfigurationError as error:
        mistakes += error.args
    if mistakes:
        raise ConfigurationError(*mistakes)
    notes = [f"{where.inner('http_server_config')} http2 is true, but HTTP/2 is not served"] if http.http2 else []
    if tls.client_auth_type == "RequestClientCert":
        notes.append(
            f"{where.inner('tls_server_config')} client_auth_type is 'RequestClientCert', but clients are not asked "
            "for certificates that nobody verifies"
        )
    secret = [path] if tables.basic_auth_users or tls.key_ else []
    secret += [path.parent / tls.key_file] if tls.key_file else []
    notes += [f"{one} can be read by every user of this host; chmod o-r" for one in secret if _is_public(one)]
    return Web(
        tables,
        tls=context,
        headers=tuple(_header(name, value, where) for name, value in http.headers.items() if value),
        passwords=Passwords(tables.basic_auth_users) if tables.basic_auth_users else None,
        limit=_limit(tables.rate_limit, where.inner("rate_limit")),
        notes=tuple(notes),
    )


def _is_bcrypt(text: str) -> bool:
    if not _BCRYPT.match(text):
        return False
    try:
        bcrypt.hashpw(b"", f"$2b$04${text[7:29]}".encode())  # a salt that the library can't read is found now
    except ValueError:
        return False
    return True


def _is_public(path: Path) -> bool:
    try:
        return bool(path.stat().st_mode & stat.S_IROTH)
    except OSError:  # it was removed after it was read
        return False


def _header(name: str, value: str, where: Where) -> tuple[bytes, bytes]:
    table = where.inner("http_server_config").inner("headers")
    if name not in _HEADERS:
        raise ConfigurationError(f"{table} {name} can't be set; the headers are {', '.join(_HEADERS)}")
    if _HEADERS[name] and value not in _HEADERS[name]:
        raise ConfigurationError(f"{table} {name} is {shown(value)}; give {' or '.join(_HEADERS[name])}")
    if not _PRINTABLE.match(value):
        raise ConfigurationError(f"{table} {name} is {shown(value)}; give one line of ASCII")
    return name.lower().encode(), value.encode()


def _limit(config: RateLimitConfig, where: Where) -> RateLimit | None:
    text = config.interval
    if text in ("0", "0s"):
        return None
    parts = _PART.findall(text)
    seconds = sum(float(number) * _UNIT_SECONDS[unit] for number, unit in parts)
    if "".join(map("".join, parts)) != text or not seconds:
        raise ConfigurationError(
            f"{where} interval is {shown(text)}; give a duration with its unit, such as 100ms, or 0"
        )
    return RateLimit(seconds, config.burst)


def _text(path: Path) -> str:
    try:
        return path.read_text("utf-8")
    except (OSError, ValueError) as error:
        reason = error.strerror if isinstance(error, OSError) else "it is not UTF-8"
        raise ConfigurationError(
            f"{path} can't be read: {reason}; give the exporter's user a readable file, or change [exporter] web_config"
        ) from None


def _state(path: Path) -> object:
    """What changes when the file does."""
    try:
        found = os.stat(path)
    except OSError as error:
        return error.errno
    return found.st_mtime_ns, found.st_size, found.st_ino, found.st_dev, found.st_ctime_ns
