"""What wakes supervisord for its first look. That the real one takes it is shown by every test of the daemon."""

from __future__ import annotations

import socket
import types
from pathlib import Path
from typing import Any

import pytest

from collector import prompt


def supervisord(*servers: object) -> Any:
    return types.SimpleNamespace(options=types.SimpleNamespace(server_configs=list(servers)))


def test_its_sockets_have_somebody_to_accept(tmp_path: Path) -> None:
    with socket.socket(socket.AF_UNIX) as by_path, socket.create_server(("127.0.0.1", 0)) as by_port:
        by_path.bind(str(tmp_path / "s"))
        by_path.listen(1)
        port = by_port.getsockname()[1]
        prompt.make(
            supervisord(
                {"family": socket.AF_UNIX, "file": str(tmp_path / "s")},
                {"family": socket.AF_INET, "host": "", "port": port},
            )
        )
        for one in (by_path, by_port):
            one.settimeout(10)
            accepted, _ = one.accept()
            with accepted:
                assert accepted.recv(1) == b""


@pytest.mark.parametrize("found", [types.SimpleNamespace(), supervisord({}), supervisord({"family": "?", "file": 1})])
def test_a_supervisord_that_is_otherwise_starts_all_the_same(found: Any) -> None:
    assert isinstance(prompt.make(found), prompt.Prompt)


def test_a_socket_that_is_gone_is_no_matter(tmp_path: Path) -> None:
    prompt.make(supervisord({"family": socket.AF_UNIX, "file": str(tmp_path / "none")}))
