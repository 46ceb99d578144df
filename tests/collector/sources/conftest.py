from __future__ import annotations

from collections.abc import Iterator

import pytest

from collector.sources.http_client import HttpClient


@pytest.fixture(autouse=True)
def _clients_are_closed(monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    """Close the connections and threads of every client that the test has made, by whatever source or provider."""
    made: list[HttpClient] = []
    make = HttpClient.__init__

    def init(self: HttpClient, *arguments: object, **named: object) -> None:
        make(self, *arguments, **named)  # type: ignore[arg-type]  # as they came
        made.append(self)

    monkeypatch.setattr(HttpClient, "__init__", init)
    yield
    for client in made:
        client.close()
