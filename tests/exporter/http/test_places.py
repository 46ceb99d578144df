"""Who is closed when there are more connections than places."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable

import pytest

from exporter.http.places import Places, divided


class Client:
    """A connection that notes what becomes of it."""

    def __init__(self, places: Places, *, answered: bool = False, busy: bool = False, unread: bool = False) -> None:
        self.places, self.evicted, self._unread = places, False, unread
        places.enter(self)
        self.served = places.begin(self) if answered or busy else None
        if answered:
            places.rest(self)

    def unread(self) -> bool:
        return self._unread

    def evict(self) -> None:
        self.evicted = True


def run(test: Callable[[], Awaitable[None]]) -> None:
    async def whole() -> None:
        async with asyncio.timeout(20):
            await test()

    asyncio.run(whole())


async def settle(places: Places) -> None:
    while places._settling is not None:
        await asyncio.sleep(0.001)


def test_the_silent_make_room_in_the_order_in_which_they_came() -> None:
    async def test() -> None:
        places = Places(3)
        clients = [Client(places) for _ in range(8)]
        assert not any(one.evicted for one in clients), "nobody before it could have been heard"
        await settle(places)
        assert [one.evicted for one in clients] == [True] * 5 + [False] * 3

    run(test)


def test_who_was_answered_before_stays_longer_than_who_never_asked() -> None:
    async def test() -> None:
        places = Places(3)
        first, second = Client(places, answered=True), Client(places, answered=True)
        silent = Client(places)
        Client(places, busy=True)
        await settle(places)
        assert (first.evicted, second.evicted, silent.evicted) == (False, False, True)
        Client(places, busy=True)
        await settle(places)
        assert (first.evicted, second.evicted) == (True, False)

    run(test)


def test_a_newcomer_has_its_moment_though_others_ask_meanwhile() -> None:
    """Also where all places are kept by idle ones: those make room for it."""

    async def test() -> None:
        places = Places(4)
        kept = [Client(places, answered=True) for _ in range(4)]
        newcomers = [Client(places) for _ in range(2)]
        for one in (kept[0], newcomers[1]):
            assert places.begin(one)
            assert not any(one.evicted for one in newcomers)
        assert places.begin(newcomers[0])
        for one in (kept[0], *newcomers):
            places.rest(one)
        await settle(places)
        assert places.taken == 4
        assert [one.evicted for one in (*kept, *newcomers)] == [False, True, True, False, False, False]

    run(test)


def test_an_answer_that_nobody_has_taken_yet_keeps_its_place() -> None:
    async def test() -> None:
        places = Places(2)
        unread = Client(places, answered=True, unread=True)
        busy = Client(places, busy=True)
        assert Client(places, busy=True).served is False
        await settle(places)
        assert (unread.evicted, busy.evicted) == (False, False)
        places.leave(busy)
        assert Client(places, busy=True).served is False, "the one that was refused has not left yet"

    run(test)


def test_who_has_sent_its_request_in_a_crowd_is_served() -> None:
    async def test() -> None:
        places = Places(4)
        before = [Client(places) for _ in range(50)]
        asking = Client(places)
        after = [Client(places) for _ in range(50)]
        assert places.begin(asking)
        await settle(places)
        assert not asking.evicted
        assert places.taken == 4
        assert [one.evicted for one in [*before, *after]] == [True] * 97 + [False] * 3

    run(test)


def test_a_crowd_larger_than_the_listening_queue_makes_room_at_once() -> None:
    async def test() -> None:
        places = Places(2, spare=3)
        clients = [Client(places) for _ in range(20)]
        assert places.taken == 5
        assert sum(one.evicted for one in clients) == 15
        await settle(places)
        assert places.taken == 2

    run(test)


@pytest.mark.parametrize(
    ("files", "wanted", "found"),
    [(1024, 256, (256, 512)), (20_000, 256, (256, 512)), (256, 256, (64, 64)), (256, 10, (10, 118)), (64, 256, (1, 1))],
)
def test_places_and_listening_queue_fit_the_file_descriptors(files: int, wanted: int, found: tuple[int, int]) -> None:
    assert divided(files, wanted) == found
