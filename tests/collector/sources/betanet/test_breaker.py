from __future__ import annotations

import pytest

from collector.metrics import CIRCUIT_STATE
from collector.sources.betanet.breaker import CircuitBreaker, CircuitState

CLOSED, HALF_OPEN, OPEN = CircuitState.CLOSED, CircuitState.HALF_OPEN, CircuitState.OPEN


@pytest.mark.parametrize(
    ("steps", "state", "failures_in_a_row"),
    [
        pytest.param("", CLOSED, 0, id="a new one is closed"),
        pytest.param("f f f f", CLOSED, 4, id="four failures in a row leave it closed"),
        pytest.param("f f f f f", OPEN, 5, id="the fifth opens it"),
        pytest.param("f f f f s f f f f", CLOSED, 4, id="a success starts the count again"),
        pytest.param("f f f f f 29.5", OPEN, 5, id="it stays open until the thirtieth second"),
        pytest.param("f f f f f 30", HALF_OPEN, 5, id="then it is tried"),
        pytest.param("f f f f f 30 s f f f f", CLOSED, 4, id="a trial that succeeds gives all patience back"),
        pytest.param("f f f f f 40 f", OPEN, 6, id="one that fails opens it for thirty seconds more"),
        pytest.param("f f f f f 40 f 29", OPEN, 6, id="all of them"),
        pytest.param("f f f f f 40 f 30", HALF_OPEN, 6, id="and then it is tried again"),
    ],
)
def test_after_failures_successes_and_seconds(steps: str, state: CircuitState, failures_in_a_row: int) -> None:
    """``steps``: requests that failed or succeeded, and seconds."""
    now = 0.0
    breaker = CircuitBreaker(failures_to_open=5, open_seconds=30.0, clock=lambda: now)
    for step in steps.split():
        if step in ("f", "s"):
            assert breaker.state is not OPEN
            (breaker.failed if step == "f" else breaker.succeeded)()
        else:
            now += float(step)
    assert (breaker.state, breaker.failures_in_a_row) == (state, failures_in_a_row)


def test_an_open_one_tells_when_it_is_tried() -> None:
    now = 1000.0
    breaker = CircuitBreaker(failures_to_open=1, open_seconds=30.0, clock=lambda: now)
    breaker.failed()
    assert breaker.seconds_until_trial == 30.0
    now += 29.5
    assert breaker.seconds_until_trial == 0.5
    now += 29.5
    assert breaker.seconds_until_trial == 0.0


def test_the_states_have_the_values_that_the_metric_names() -> None:
    assert "0 closed, 1 half-open, 2 open" in CIRCUIT_STATE.help
    assert [int(state) for state in (CLOSED, HALF_OPEN, OPEN)] == [0, 1, 2]
