"""A scene for each test: rings in a namespace of its own, and clocks that move when they are told to."""

from __future__ import annotations

from collections.abc import Iterator

import pytest

from tests.exporter.scene import Scene
from tests.rings import namespace as namespace


@pytest.fixture
def scene(namespace: str) -> Iterator[Scene]:
    one = Scene(namespace)
    yield one
    one.close()


@pytest.fixture
def anyio_backend() -> str:
    return "asyncio"  # without uvloop, which would wait for ever for the server of a test that failed
