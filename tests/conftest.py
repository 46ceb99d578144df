"""For all tests: no test may hang, leave rings behind, or be skipped unnoticed."""

from __future__ import annotations

import logging
import os
from collections.abc import Iterator

import pytest
from hypothesis import HealthCheck, settings

from tests import programs
from tests.rings import namespace as namespace
from tests.rings import toml as toml

# How long an example takes is the machine's business. `fast` is the profile of `make test`; hypothesis draws the same
# examples in each run where CI is set, so .ci/run has one run of `thorough` with a random seed that it prints.
settings.register_profile(
    "fast", parent=settings(), deadline=None, max_examples=50, suppress_health_check=[HealthCheck.too_slow]
)
settings.register_profile("thorough", parent=settings.get_profile("fast"), derandomize=False, max_examples=200)
settings.load_profile("fast")

# .ci/run has every program that tests need, and sets this: there a skipped test is a failed run.
NO_SKIPS = "FOGMETRICS_NO_SKIPS"


@pytest.fixture(autouse=True)
def logs_as_they_were() -> Iterator[None]:
    """A test that runs a program's main() in this process sets up its logs: on a stream that is soon closed."""
    root = logging.getLogger()
    handlers, level = root.handlers[:], root.level
    yield
    root.handlers[:] = handlers
    root.setLevel(level)


@pytest.hookimpl(tryfirst=True)
def pytest_runtest_setup(item: pytest.Item) -> None:
    programs.may_start_others = item.get_closest_marker("real") is not None


def pytest_sessionfinish(session: pytest.Session, exitstatus: int) -> None:
    reporter = session.config.pluginmanager.get_plugin("terminalreporter")
    if reporter is None:
        return
    skipped = reporter.stats.get("skipped", [])
    if skipped and os.environ.get(NO_SKIPS) and exitstatus == pytest.ExitCode.OK:
        reporter.write_line(f"{len(skipped)} tests were skipped, and {NO_SKIPS} is set: failed", red=True)
        session.exitstatus = pytest.ExitCode.TESTS_FAILED
