"""I9 by properties: whatever bytes hypothesis thinks of, they cost the one ring at most."""

from __future__ import annotations

from collections.abc import Iterator

import pytest
from hypothesis import given
from hypothesis import strategies as st

from shm.ring.layout import HEADER_BYTES
from tests.siege.fuzz.attempt import attempt, edited
from tests.siege.fuzz.inheritance import Inheritance
from tests.siege.fuzz.victim import Victim
from tests.siege.harness import own_namespace

places = st.one_of(st.integers(0, 767), st.integers(HEADER_BYTES, HEADER_BYTES + 700), st.integers(0, (1 << 16) - 1))
edit = st.tuples(places, st.binary(min_size=1, max_size=24)).map(
    lambda one: one[0].to_bytes(2, "little") + bytes((len(one[1]),)) + one[1]
)
edits = st.lists(edit, min_size=1, max_size=8).map(b"".join)


@pytest.fixture(scope="module")
def victim() -> Iterator[Victim]:
    with own_namespace() as namespace:
        one = Victim(namespace)
        yield one
        one.close()


@given(how=st.integers(0, 31), data=edits | st.binary(min_size=2, max_size=400))
def test_i9_what_is_served_of_a_damaged_ring_was_appended_and_costs_no_other_ring(
    victim: Victim, how: int, data: bytes
) -> None:
    attempt(victim, bytes((how,)) + data)


@given(edits=edits)
def test_i9_the_next_writer_keeps_what_is_proven_and_credits_no_series_with_another_s_samples(
    victim: Victim, edits: bytes
) -> None:
    with own_namespace() as namespace:
        Inheritance(namespace).resume(edited(victim.whole, edits, forged=False))
