"""For all tests: no test may hang, leave rings behind, or be skipped unnoticed."""

from __future__ import annotations

import logging
import os
from collections.abc import Iterator

import pytest
from hypothesis import HealthCheck, settings

# How long an example takes is the machine's business. The rest is as by default: where CI is set, each run has the same
# examples.
settings.register_profile("fogmetrics", parent=settings(), deadline=None, suppress_health_check=[HealthCheck.too_slow])
settings.load_profile("fogmetrics")

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


def pytest_sessionfinish(session: pytest.Session, exitstatus: int) -> None:
    reporter = session.config.pluginmanager.get_plugin("terminalreporter")
    if reporter is None:
        return
    skipped = reporter.stats.get("skipped", [])
    if skipped and os.environ.get(NO_SKIPS) and exitstatus == pytest.ExitCode.OK:
        reporter.write_line(f"{len(skipped)} tests were skipped, and {NO_SKIPS} is set: failed", red=True)
        session.exitstatus = pytest.ExitCode.TESTS_FAILED
