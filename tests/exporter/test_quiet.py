from __future__ import annotations

import asyncio
import logging
import os
import signal

import pytest
import uvicorn

from exporter import quiet
from exporter.quiet import QuietServer, Seldom
from shm.parent import Parent
from tests.orphans import watched


async def nothing(scope: object, receive: object, send: object) -> None:
    return None


def server(parent: Parent) -> QuietServer:
    return QuietServer(uvicorn.Config(nothing, log_config=None, lifespan="off"), parent)


def test_it_ends_at_once_when_told_to_and_not_before() -> None:
    one = server(Parent({}))

    async def run() -> None:
        loop = asyncio.create_task(one.main_loop())
        await asyncio.sleep(0.05)
        assert not loop.done()
        one.handle_exit(signal.SIGTERM, None)
        # One turn of the event loop for the wake-up, one for the loop's look: no second is slept through.
        for _ in range(5):
            await asyncio.sleep(0)
        assert loop.done()

    asyncio.run(run())


_SERVER = """
import asyncio, uvicorn
from exporter import quiet
from shm.parent import Parent
quiet.LOOK_SECONDS = 3600.0
server = quiet.QuietServer(uvicorn.Config(print, log_config=None, lifespan="off"), Parent())

async def run():
    loop = asyncio.create_task(server.main_loop())
    await asyncio.sleep(0.05)
    print("serves", server.should_exit, flush=True)
    await loop
    print(server.should_exit, flush=True)

asyncio.run(run())
"""


def test_it_ends_at_once_when_its_supervisord_is_gone() -> None:
    with watched(_SERVER) as (supervisord, output):
        assert output.readline() == "serves False\n"
        supervisord.kill()
        assert output.readline() == "True\n"


def test_where_nothing_tells_of_its_end_it_looks(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delattr(os, "pidfd_open")
    monkeypatch.setattr(quiet, "LOOK_SECONDS", 0.01)
    orphan = Parent({"SUPERVISOR_ENABLED": "1"})
    orphan.pid += 1
    one = server(orphan)
    asyncio.run(asyncio.wait_for(one.main_loop(), 30))
    assert one.should_exit


def test_the_date_header_is_kept_up_to_date() -> None:
    one = server(Parent({}))
    one.should_exit = True
    asyncio.run(one.main_loop())
    assert [name for name, _ in one.server_state.default_headers] == [b"date"]


def test_a_warning_that_repeats_is_let_through_seldom_and_an_error_always() -> None:
    seldom = Seldom()

    def record(level: int, text: str) -> logging.LogRecord:
        return logging.LogRecord("uvicorn.error", level, __file__, 1, text, None, None)

    assert [seldom.filter(record(logging.WARNING, "Invalid")) for _ in range(3)] == [True, False, False]
    assert seldom.filter(record(logging.WARNING, "another"))
    assert [seldom.filter(record(logging.ERROR, "Exception")) for _ in range(3)] == [True] * 3
    seldom._seen["Invalid"] = -100.0, seldom._seen["Invalid"][1]
    passed = record(logging.WARNING, "Invalid")
    assert seldom.filter(passed)
    assert passed.__dict__["left_out"] == 2
