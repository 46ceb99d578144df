"""Where the exporter listens, and what is said when it can't."""

from __future__ import annotations

import errno
import os
import re
import socket
from pathlib import Path

import pytest

from exporter.http.address import AddressTaken, listeners, listening, refused, resolve, url
from exporter.settings import ExporterConfig
from fogmetrics.config import Config
from shm.errors import ConfigurationError
from tests.exporter.wire import has_ipv6
from tests.programs import free_port


def config(listen: str | tuple[str, ...], port: int = 80) -> Config:
    return Config(path=Path("fog.toml"), exporter=ExporterConfig(listen=listen, port=port))


def resolved(listen: str) -> tuple[int, object]:
    [one] = listeners(config(listen))
    family, _, _, local = resolve(config(listen), one)
    return family, local


@pytest.mark.parametrize(
    ("listen", "family", "local"),
    [
        ("127.0.0.1", socket.AF_INET, ("127.0.0.1", 80)),
        ("127.0.0.1:9100", socket.AF_INET, ("127.0.0.1", 9100)),
        ("::1", socket.AF_INET6, ("::1", 80, 0, 0)),
        ("[::1]", socket.AF_INET6, ("::1", 80, 0, 0)),
        ("[::]:9200", socket.AF_INET6, ("::", 9200, 0, 0)),
    ],
)
def test_an_address_is_resolved_with_its_family_and_port(listen: str, family: int, local: object) -> None:
    assert resolved(listen) == (family, local)


@pytest.mark.parametrize("path", ["unix:/run/x.sock", "unix:///run/x.sock"])
def test_a_unix_socket_has_a_path(path: str) -> None:
    assert [one.path for one in listeners(config(("::1", path)))] == ["", "/run/x.sock"]


@pytest.mark.parametrize("listen", ["a..b", "x" * 300, "a\0b", "no such host"])
def test_what_is_no_address_is_refused_in_one_sentence(listen: str) -> None:
    with pytest.raises(ConfigurationError, match=re.escape(f"fog.toml: [exporter] listen is {listen!r}: ")):
        resolved(listen)


@pytest.mark.parametrize(
    ("listen", "says"),
    [
        ((), "listen is []; give one address or more, such as"),
        (("127.0.0.1", "::1:x", "127.0.0.1:x"), "listen is '127.0.0.1:x', not an address with a port from 0 to 65535"),
        ("127.0.0.1:65536", "listen is '127.0.0.1:65536', not an address with a port"),
        ("127.0.0.1:", "listen is '127.0.0.1:', not an address with a port"),
        ("127.0.0.1:²", "not an address with a port"),
        ("127.0.0.1:" + "9" * 5000, "not an address with a port"),
        ("[::1", "listen is '[::1', not an address with a port"),
        ("[::1:9200", "not an address with a port"),
        ("127.0.0.1:000000080", "not an address with a port"),
        ("[::1]9200", "listen is '[::1]9200', not an address with a port"),
        (":9200", "listen is ':9200', which has no address; for all of this host give \"[::]:9200\""),
        ("", "listen is '', which has no address"),
        ("unix:run/x", "listen is 'unix:run/x'; give an absolute path of at most 107 bytes after unix:"),
        ("unix:", "give an absolute path"),
        ("unix:/" + "x" * 107, "give an absolute path of at most 107 bytes"),
    ],
)
def test_a_listener_that_can_not_be_read_is_named(listen: str | tuple[str, ...], says: str) -> None:
    with pytest.raises(ConfigurationError) as caught, listening(config(listen)):
        pass
    assert says in str(caught.value)


@pytest.mark.parametrize(
    ("number", "says"),
    [
        (
            errno.EADDRNOTAVAIL,
            "fog.toml: [exporter] listen is '8.8.8.8', which is not an address of this host; give",
        ),
        (
            errno.EACCES,
            "fog.toml: [exporter] listen is '8.8.8.8', port is 80, which this user may not use: Permission denied",
        ),
        (errno.EAFNOSUPPORT, "fog.toml: [exporter] listen is '8.8.8.8', port is 80: Address family not supported"),
    ],
)
def test_address_and_port_are_blamed_each_for_its_own(number: int, says: str) -> None:
    [one] = listeners(config("8.8.8.8"))
    assert str(refused(config("8.8.8.8"), one, OSError(number, os.strerror(number)))).startswith(says)


@pytest.mark.skipif(not has_ipv6(), reason="this host has no IPv6")
def test_both_families_may_have_one_port() -> None:
    port = free_port()
    with listening(config(("0.0.0.0", "[::]"), port)) as sockets:
        assert [one.family for one in sockets] == [socket.AF_INET, socket.AF_INET6]
    with listening(config(("[::]", "0.0.0.0"), port)) as sockets:
        assert len(sockets) == 2


@pytest.mark.parametrize("other", ["127.0.0.1", "0.0.0.0"])
def test_listeners_that_overlap_are_named(other: str) -> None:
    port = free_port()
    says = f"listen has '{other}' and '127.0.0.1:{port}', which overlap; remove one"
    with (
        pytest.raises(ConfigurationError, match=re.escape(says)),
        listening(config((other, f"127.0.0.1:{port}"), port)),
    ):
        pass


def test_a_port_that_is_taken_is_named_with_the_key_to_change() -> None:
    with socket.create_server(("127.0.0.1", 0)) as other:
        port = other.getsockname()[1]
        for listen, key in (("127.0.0.1", "port = "), (f"127.0.0.1:{port}", 'listen = "127.0.0.1:')):
            says = (
                f"port {port} of 127.0.0.1 is taken (9200 is also Elasticsearch's); stop the program that uses it, or "
            )
            with pytest.raises(AddressTaken) as caught, listening(config((listen,), port)):
                pass
            assert (
                str(caught.value)
                == f"{says}set another: fog.toml: [exporter] {key}{port + 1}{chr(34) * (key[0] == 'l')}"
            )


def test_a_unix_socket_is_for_user_and_group_and_removed_at_the_end(tmp_path: Path) -> None:
    path, mask = tmp_path / "x.sock", os.umask(0)
    try:
        with listening(config(f"unix:{path}")):
            assert path.stat().st_mode & 0o777 == 0o660
        assert not path.exists()
        assert os.umask(0) == 0, "the mask of the process is another"
    finally:
        os.umask(mask)


def test_a_stale_unix_socket_is_replaced_and_one_in_use_is_not(tmp_path: Path) -> None:
    path = tmp_path / "x.sock"
    with socket.socket(socket.AF_UNIX) as gone:
        gone.bind(str(path))
    with (
        listening(config(f"unix:{path}")),
        pytest.raises(AddressTaken, match=f"a program listens on {path} already; stop it, or give another path"),
        listening(config(f"unix:{path}")),
    ):
        pass
    assert not path.exists()


def test_a_file_that_is_not_a_socket_stays(tmp_path: Path) -> None:
    path = tmp_path / "precious"
    path.write_text("precious")
    with (
        pytest.raises(ConfigurationError, match="but that file is not a socket"),
        listening(config(f"unix:{path}")),
    ):
        pass
    assert path.read_text() == "precious"


def test_the_socket_of_another_that_came_later_is_not_removed(tmp_path: Path) -> None:
    path = tmp_path / "x.sock"
    with listening(config(f"unix:{path}")), socket.socket(socket.AF_UNIX) as later:
        path.unlink()
        later.bind(str(path))
    assert path.exists()


def test_a_directory_that_is_missing_is_named(tmp_path: Path) -> None:
    says = "No such file or directory; give a path in a directory"
    with pytest.raises(ConfigurationError, match=says), listening(config(f"unix:{tmp_path}/no/x.sock")):
        pass


def test_a_url_has_an_address_of_ipv6_in_brackets() -> None:
    assert url("::1", 9200) == "http://[::1]:9200"
    assert url("::1", 9200, secure=True) == "https://[::1]:9200"
    assert url("localhost", 9200) == "http://localhost:9200"
