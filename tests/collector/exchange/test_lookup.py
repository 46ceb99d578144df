"""Where an address is; and a look-up that hangs costs one thread."""

from __future__ import annotations

import socket
import threading
from typing import Any

import pytest

from collector.exchange import Address, NoConnection
from collector.exchange.lookup import known_places, look_up
from tests.programs import wait_until


@pytest.mark.parametrize(
    ("address", "places"),
    [
        (Address("", unix_path="/run/a.sock"), [(socket.AF_UNIX, "/run/a.sock")]),
        (Address("", host="127.0.0.1", port=9), [(socket.AF_INET, ("127.0.0.1", 9))]),
        (Address("", host="::1", port=9), [(socket.AF_INET6, ("::1", 9))]),
        (
            Address("", host="localhost", port=9),
            [(socket.AF_INET6, ("::1", 9, 0, 0)), (socket.AF_INET, ("127.0.0.1", 9))],
        ),
        (
            Address("", host="a.localhost", port=9),
            [(socket.AF_INET6, ("::1", 9, 0, 0)), (socket.AF_INET, ("127.0.0.1", 9))],
        ),
        (Address("", host="host"), None),
        (Address("", host="1.2.3"), None),
        (Address("", host="fe80::1%eth0"), None),
    ],
)
def test_paths_numbers_and_localhost_need_no_look_up(address: Address, places: object) -> None:
    assert known_places(address) == places


def test_places_are_those_of_the_name_in_their_order_with_the_port(monkeypatch: pytest.MonkeyPatch) -> None:
    found = [
        (socket.AF_INET6, socket.SOCK_STREAM, 6, "", ("fe80::1", 0, 0, 3)),
        (socket.AF_INET, socket.SOCK_STREAM, 6, "", ("192.0.2.1", 0)),
    ]
    asked: list[tuple[object, ...]] = []

    def getaddrinfo(*asked_for: object, **_: object) -> list[Any]:
        asked.append(asked_for)
        return found

    monkeypatch.setattr(socket, "getaddrinfo", getaddrinfo)
    lookup = look_up("host.example")
    assert wait_until(lambda: lookup.places(9), 10, "the places") == [
        (socket.AF_INET6, ("fe80::1", 9, 0, 3)),
        (socket.AF_INET, ("192.0.2.1", 9)),
    ]
    assert asked == [(b"host.example", None)]


@pytest.mark.parametrize(
    ("error", "said"),
    [
        (socket.gaierror(-2, "Name or service not known"), "Name or service not known"),
        (ValueError("a bug"), "ValueError: a bug"),
        (None, "it has no address"),
    ],
)
def test_a_name_without_an_address_is_an_error_that_says_why(
    error: Exception | None, said: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    def getaddrinfo(*_: object, **__: object) -> list[Any]:
        if error is not None:
            raise error
        return []

    monkeypatch.setattr(socket, "getaddrinfo", getaddrinfo)
    lookup = look_up("nowhere")

    def failed() -> str:
        try:
            return "" if lookup.places(9) is None else "found"
        except NoConnection as one:
            return str(one)

    assert wait_until(failed, 10, "an error") == f"the name 'nowhere' can't be looked up: {said}"


@pytest.mark.parametrize("host", ["", "a..b", ".", "x" * 64, "x" * 63 + ".y" + "z" * 64, "\u00fc"])
def test_what_can_be_no_name_is_not_asked_for(host: str) -> None:
    with pytest.raises(NoConnection, match="can't be the name of a host"):
        look_up(host)


def test_a_look_up_that_hangs_is_joined_and_costs_one_thread(monkeypatch: pytest.MonkeyPatch) -> None:
    answers, asked = threading.Event(), []

    def getaddrinfo(host: object, *_: object, **__: object) -> list[Any]:
        asked.append(host)
        answers.wait(60)
        return [(socket.AF_INET, socket.SOCK_STREAM, 6, "", ("192.0.2.1", 0))]

    monkeypatch.setattr(socket, "getaddrinfo", getaddrinfo)
    threads = threading.active_count()
    try:
        lookups = [look_up("hangs") for _ in range(100)]
        assert threading.active_count() == threads + 1
        assert lookups[-1].places(9) is None
        look_up("hangs-too")
        assert threading.active_count() == threads + 2
    finally:
        answers.set()
    places = wait_until(lambda: lookups[-1].places(9), 10, "the places")
    assert places == lookups[0].places(9) == [(socket.AF_INET, ("192.0.2.1", 9))]
    wait_until(lambda: threading.active_count() == threads, 10, "the end of the threads")
    assert asked == [b"hangs", b"hangs-too"]
    look_up("hangs")  # a new one
    wait_until(lambda: len(asked) == 3, 10, "another look-up")
