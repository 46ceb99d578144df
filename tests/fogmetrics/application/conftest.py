from __future__ import annotations

from collections.abc import Iterator

import pytest

from tests.application import DROP_IN, Process


@pytest.fixture
def process(namespace: str) -> Iterator[Process]:
    """An application with the drop-in."""
    with Process(namespace, DROP_IN) as found:
        yield found
