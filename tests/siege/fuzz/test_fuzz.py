"""I9 by properties: whatever bytes hypothesis thinks of, they cost the one ring at most. And the oracle itself."""

from __future__ import annotations

import random
from collections.abc import Iterator

import pytest
from hypothesis import given
from hypothesis import strategies as st

from exporter.http.negotiation import Format
from shm.ring.layout import HEADER_BYTES, SLOT_HEADER_BYTES
from tests.siege.fuzz.attempt import attempt, edited
from tests.siege.fuzz.catalogs import bodies
from tests.siege.fuzz.inheritance import Inheritance
from tests.siege.fuzz.mutations import (
    HINT_FIELDS,
    Mutation,
    accused,
    every_used_byte,
    fields,
    reseal,
    sizes,
    word,
)
from tests.siege.fuzz.victim import Victim, check_valid
from tests.siege.harness import Violation, own_namespace

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


# ---- the mutations and the oracle themselves -----------------------------------------------------------------


def test_every_byte_that_means_something_is_flipped_and_every_field_is_known(victim: Victim) -> None:
    whole = victim.whole
    flipped = {at for at, mask in every_used_byte(whole, random.Random(1)) if mask}
    assert set(range(HEADER_BYTES, HEADER_BYTES + whole.used)) <= flipped
    assert set(range(whole.slots, len(whole.data))) <= flipped
    for name, (at, size) in fields(whole).items():
        assert set(range(at, at + size)) <= flipped, name


def test_sealing_a_whole_segment_again_changes_nothing(victim: Victim) -> None:
    data = bytearray(victim.whole.data)
    reseal(data, victim.whole.header)
    assert bytes(data) == victim.whole.data
    assert accused(victim.whole.data) == ""


def test_sizes_include_every_page_and_a_hole_in_each(victim: Victim) -> None:
    whole_bytes = len(victim.whole.data)
    found = list(sizes(victim.whole, random.Random(1), 0))
    assert {len(one.data) for one in found if one.kind == "cut short"} >= {0, 4096, 8192, whole_bytes - 1}
    assert [one.hole for one in found if one.hole] == [(4096, 4096), (8192, 4096)]


def test_forged_catalogs_differ_in_name_and_are_many() -> None:
    assert len({name for name, _ in bodies([0, 1, 2, 3], 8)}) > 700


def test_the_oracle_sees_a_sample_that_was_never_appended(victim: Victim) -> None:
    data, header = bytearray(victim.whole.data), victim.whole.header
    at = header.slot_offset(word(data, HINT_FIELDS["head"])) + SLOT_HEADER_BYTES
    data[at : at + 8] = bytes(8)
    reseal(data, header)
    with pytest.raises(Violation, match="never appended"):
        victim.scrape(Mutation("forged", "and called an accident", bytes(data)))


@pytest.mark.parametrize(
    ("page", "says"),
    [
        (b"# TYPE x gauge\nx_bucket 1\n", "no server takes the page"),
        (b"# TYPE x gauge\nx 1\n# TYPE x counter\nx_total 1\n", "has the family b'x' twice"),
        (b"# TYPE x gauge\nx one two\n", "has the line"),
    ],
)
def test_the_oracle_sees_a_page_that_no_server_takes(page: bytes, says: str) -> None:
    with pytest.raises(Violation, match=says):
        check_valid(page.split(b"\n"), Format.TEXT)
