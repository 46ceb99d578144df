from __future__ import annotations

import pytest

from collector.metrics import CIRCUIT_STATE
from collector.sources.betanet.breaker import CircuitBreaker, CircuitState


class Clock:
    """Seconds that pass only when told."""

    def __init__(self) -> None:
        self.now = 1000.0

    def __call__(self) -> float:
        return self.now


@pytest.fixture
def clock() -> Clock:
    return Clock()


@pytest.fixture
def breaker(clock: Clock) -> CircuitBreaker:
    return CircuitBreaker(failures_to_open=5, open_seconds=30.0, clock=clock)


def assert_state(breaker: CircuitBreaker, state: CircuitState) -> None:
    assert breaker.state is state  # in a function, because mypy takes a property to stay what it was


def fail(breaker: CircuitBreaker, times: int) -> None:
    for _ in range(times):
        assert breaker.state is not CircuitState.OPEN
        breaker.failed()


def test_four_failures_in_a_row_leave_it_closed_and_the_fifth_opens_it(breaker: CircuitBreaker) -> None:
    assert_state(breaker, CircuitState.CLOSED)
    fail(breaker, 4)
    assert_state(breaker, CircuitState.CLOSED)
    fail(breaker, 1)
    assert_state(breaker, CircuitState.OPEN)
    assert breaker.failures_in_a_row == 5


def test_a_success_between_failures_starts_the_count_again(breaker: CircuitBreaker) -> None:
    fail(breaker, 4)
    breaker.succeeded()
    fail(breaker, 4)
    assert_state(breaker, CircuitState.CLOSED)


def test_it_stays_open_until_the_thirtieth_second(breaker: CircuitBreaker, clock: Clock) -> None:
    fail(breaker, 5)
    assert breaker.seconds_until_trial == 30.0
    clock.now += 29.5
    assert breaker.seconds_until_trial == 0.5
    assert_state(breaker, CircuitState.OPEN)
    clock.now += 0.5
    assert_state(breaker, CircuitState.HALF_OPEN)
    assert breaker.seconds_until_trial == 0.0


def test_a_trial_that_succeeds_closes_it_with_all_its_patience_back(breaker: CircuitBreaker, clock: Clock) -> None:
    fail(breaker, 5)
    clock.now += 30.0
    breaker.succeeded()
    assert_state(breaker, CircuitState.CLOSED)
    fail(breaker, 4)
    assert_state(breaker, CircuitState.CLOSED)


def test_a_trial_that_fails_opens_it_for_thirty_seconds_more(breaker: CircuitBreaker, clock: Clock) -> None:
    fail(breaker, 5)
    clock.now += 40.0
    fail(breaker, 1)
    assert breaker.seconds_until_trial == 30.0
    assert breaker.failures_in_a_row == 6
    clock.now += 29.0
    assert_state(breaker, CircuitState.OPEN)
    clock.now += 1.0
    assert_state(breaker, CircuitState.HALF_OPEN)


def test_the_states_have_the_values_that_the_metric_names() -> None:
    assert "0 closed, 1 half-open, 2 open" in CIRCUIT_STATE.help
    assert [int(state) for state in (CircuitState.CLOSED, CircuitState.HALF_OPEN, CircuitState.OPEN)] == [0, 1, 2]
