"""The client for all measured HTTP servers: one kept connection, and no work except reading the answer."""

from __future__ import annotations

import http.client
from typing import Final

_TIMEOUT_SECONDS: Final = 120


class Client:
    """One connection to a port of 127.0.0.1, kept between requests as Prometheus keeps it.

    The client itself takes 0.1 ms per request. It asks for no compression.
    """

    def __init__(self, port: int) -> None:
        self._connection = http.client.HTTPConnection("127.0.0.1", port, timeout=_TIMEOUT_SECONDS)

    def get(self, path: str) -> bytes:
        """Return the body. Raises AssertionError with the answer if the status is not 200."""
        return self._ask("GET", path)

    def post(self, path: str, body: bytes) -> bytes:
        return self._ask("POST", path, body)

    def _ask(self, method: str, path: str, body: bytes | None = None) -> bytes:
        try:
            self._connection.request(method, path, body, {"accept-encoding": "identity"})
            response = self._connection.getresponse()
            answer = response.read()
        except BaseException:
            self._connection.close()  # a connection in the middle of an answer is no use to the next request
            raise
        assert response.status // 100 == 2, f"{method} {path[:200]}: {response.status} {answer[:500]!r}"
        return answer

    def is_ready(self, path: str) -> bool:
        """Whether the server answers with status 200."""
        try:
            self.get(path)
        except (OSError, http.client.HTTPException, AssertionError):
            return False
        return True

    def close(self) -> None:
        self._connection.close()

    def __enter__(self) -> Client:
        return self

    def __exit__(self, *exc: object) -> None:
        self.close()
