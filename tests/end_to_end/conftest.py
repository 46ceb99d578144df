from __future__ import annotations

from collections.abc import Iterator

import pytest

from tests.daemon import Daemon
from tests.stand_ins.betanet import BetanetStandIn


@pytest.fixture(scope="module")
def betanet() -> Iterator[BetanetStandIn]:
    with BetanetStandIn() as stand_in:
        yield stand_in


@pytest.fixture(scope="module")
def daemon(tmp_path_factory: pytest.TempPathFactory, betanet: BetanetStandIn) -> Iterator[Daemon]:
    """A daemon that has collected from all four sources; shared by the tests of a module that do not hurt it."""
    toml = f'[source.betanet]\nurl = "{betanet.url}"\n'
    with Daemon(tmp_path_factory.mktemp("daemon"), toml=toml) as running:
        running.wait_until_collected()
        yield running
