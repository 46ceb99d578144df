"""What supervisord says of its programs."""

from __future__ import annotations

import xmlrpc.client

from exporter.status.programs import Programs, count_starts, programs


def test_the_starts_are_those_since_supervisord_began() -> None:
    class Log:
        def readLog(self, offset: int, length: int) -> str:  # noqa: N802 - supervisord's name
            return (
                "INFO spawned: 'node' with pid 1\nINFO supervisord started with pid 2\n"
                "INFO spawned: 'node' with pid 3\nINFO spawned: 'node' with pid 4\nINFO spawned: 'system' with pid 5\n"
            )

    class Without:
        def readLog(self, offset: int, length: int) -> str:  # noqa: N802
            raise xmlrpc.client.Fault(20, "NO_FILE")

    assert count_starts(Log()) == {"node": 2, "system": 1}
    assert count_starts(Without()) == {}


def test_without_a_supervisord_nothing_is_known() -> None:
    assert programs({}) == Programs(None, ())
    assert programs({"SUPERVISOR_SERVER_URL": "http://127.0.0.1:9001"}) == Programs(None, ())
    assert programs({"SUPERVISOR_SERVER_URL": "unix:///nothing/here.sock"}) == Programs(None, ())
