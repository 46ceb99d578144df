from __future__ import annotations

import asyncio
import logging
import signal

import uvicorn

from exporter.quiet import QuietServer, Seldom
from shm.parent import Parent


async def nothing(scope: object, receive: object, send: object) -> None:
    return None


def server(parent: Parent) -> QuietServer:
    return QuietServer(uvicorn.Config(nothing, log_config=None, lifespan="off"), parent)


def test_it_ends_at_once_when_told_to_and_not_before() -> None:
    quiet = server(Parent({}))

    async def run() -> None:
        loop = asyncio.create_task(quiet.main_loop())
        await asyncio.sleep(0.05)
        assert not loop.done()
        quiet.handle_exit(signal.SIGTERM, None)
        # One turn of the event loop for the wake-up, one for the loop's look: no second is slept through.
        for _ in range(5):
            await asyncio.sleep(0)
        assert loop.done()

    asyncio.run(run())


def test_it_ends_when_its_supervisord_is_gone() -> None:
    orphan = Parent({"SUPERVISOR_ENABLED": "1"})
    orphan.pid += 1
    quiet = server(orphan)
    asyncio.run(asyncio.wait_for(quiet.main_loop(), 30))
    assert quiet.should_exit


def test_the_date_header_is_kept_up_to_date() -> None:
    quiet = server(Parent({}))
    quiet.should_exit = True
    asyncio.run(quiet.main_loop())
    assert [name for name, _ in quiet.server_state.default_headers] == [b"date"]


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
