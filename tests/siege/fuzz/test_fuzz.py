"""I9 by properties: whatever bytes hypothesis thinks of, they cost the one ring at most."""

from __future__ import annotations

import json
import random
from collections.abc import Iterator

import pytest
from hypothesis import given
from hypothesis import strategies as st

from exporter.http.negotiation import Format
from shm.ring.layout import HEADER_BYTES, KIND_LIMIT, KIND_METRIC, KIND_SERIES
from tests.siege.fuzz.attempt import attempt, edited
from tests.siege.fuzz.besieged import Besieged, check_valid
from tests.siege.fuzz.catalogs import LIMIT, METRIC, SERIES, bodies, with_entries
from tests.siege.fuzz.inheritance import Inheritance
from tests.siege.fuzz.mutations import Mutation, Whole, accused, every_used_byte, fields, reseal, sizes, word
from tests.siege.harness import Violation, own_namespace


@pytest.fixture(scope="module")
def besieged() -> Iterator[Besieged]:
    with own_namespace() as namespace:
        one = Besieged(namespace)
        yield one
        one.close()


@pytest.fixture(scope="module")
def whole(besieged: Besieged) -> Whole:
    return besieged.whole


places = st.one_of(st.integers(0, 767), st.integers(HEADER_BYTES, HEADER_BYTES + 700), st.integers(0, (1 << 16) - 1))
edit = st.tuples(places, st.binary(min_size=1, max_size=24)).map(
    lambda one: one[0].to_bytes(2, "little") + bytes((len(one[1]),)) + one[1]
)
edits = st.lists(edit, min_size=1, max_size=8).map(b"".join)


# ---- the exporter --------------------------------------------------------------------------------------------


@given(edits=edits, attached=st.booleans())
def test_i9_what_is_served_of_a_damaged_ring_was_appended(besieged: Besieged, edits: bytes, attached: bool) -> None:
    besieged.scrape(edited(besieged.whole, edits, forged=False), attached=attached, deep=True)


@given(edits=edits, attached=st.booleans())
def test_i9_a_ring_with_forged_seals_costs_no_other_ring(besieged: Besieged, edits: bytes, attached: bool) -> None:
    besieged.scrape(edited(besieged.whole, edits, forged=True), attached=attached, deep=True)


@given(size=st.integers(0, 20_000))
def test_i9_a_ring_of_another_size_is_refused_by_both_sizes(besieged: Besieged, size: int) -> None:
    data = besieged.whole.data
    says = "" if size == len(data) else f"the file has {size}"
    besieged.scrape(Mutation("size", f"{size} bytes", data[:size], says=says, sparse=size), deep=True)


anything = st.recursive(
    st.none()
    | st.booleans()
    | st.integers()
    | st.floats()
    | st.text(max_size=20)
    | st.sampled_from(["level", "gauge"]),
    lambda one: st.lists(one, max_size=4) | st.dictionaries(st.text(max_size=3), one, max_size=4),
    max_leaves=12,
)
keys = st.sampled_from(["n", "t", "h", "u", "l", "b", "o", "m", "v", "c", "max"])


@given(
    kind=st.sampled_from([KIND_METRIC, KIND_SERIES, KIND_LIMIT, 9]),
    fields=st.dictionaries(keys, anything) | anything,
    base=st.sampled_from([METRIC, {**SERIES, "v": ["x"], "c": 8}, LIMIT, {}]),
)
def test_i9_a_catalog_entry_of_any_json_costs_no_other_ring(
    besieged: Besieged, kind: int, fields: object, base: dict[str, object]
) -> None:
    body = json.dumps({**base, **fields} if isinstance(fields, dict) else fields).encode()
    behind = (KIND_SERIES, b'{"m":4,"v":[],"c":8}')
    mutation = with_entries(besieged.whole, repr(body), [(kind, body), behind])
    if mutation is not None:
        besieged.scrape(mutation, deep=True)


@given(data=st.binary(min_size=2, max_size=400))
def test_i9_no_input_of_the_coverage_guided_fuzzer_is_one_that_breaks_it(besieged: Besieged, data: bytes) -> None:
    attempt(besieged, data)


# ---- the next writer -----------------------------------------------------------------------------------------


@given(edits=edits)
def test_i9_the_next_writer_keeps_what_is_proven_and_credits_nobody_with_another_s_samples(
    besieged: Besieged, edits: bytes
) -> None:
    with own_namespace() as namespace:
        Inheritance(namespace).resume(edited(besieged.whole, edits, forged=False))


# ---- the mutations and the oracle themselves -----------------------------------------------------------------


def test_every_byte_that_means_something_is_flipped_and_every_field_is_known(whole: Whole) -> None:
    flipped = {at for at, mask in every_used_byte(whole, random.Random(1)) if mask}
    assert set(range(HEADER_BYTES, HEADER_BYTES + whole.used)) <= flipped
    assert set(range(whole.slots, len(whole.data))) <= flipped
    for name, (at, size) in fields(whole).items():
        assert set(range(at, at + size)) <= flipped, name


def test_sealing_a_whole_segment_again_changes_nothing(whole: Whole) -> None:
    data = bytearray(whole.data)
    reseal(data, whole.header)
    assert bytes(data) == whole.data
    assert accused(whole.data) == ""


def test_sizes_include_every_page_and_a_hole_in_each(whole: Whole) -> None:
    found = list(sizes(whole, random.Random(1), 0))
    assert {len(one.data) for one in found if one.kind == "cut short"} >= {0, 4096, 8192, len(whole.data) - 1}
    assert [one.hole for one in found if one.hole] == [(4096, 4096), (8192, 4096)]


def test_forged_entries_have_names_of_their_own() -> None:
    names = [name for name, _ in bodies([0, 1, 2, 3], 8)]
    assert len(names) > 700


def test_the_oracle_sees_a_sample_that_was_never_appended(besieged: Besieged) -> None:
    data = bytearray(besieged.whole.data)
    at = besieged.whole.header.slot_offset(word(data, 512)) + 48
    data[at : at + 8] = bytes(8)
    reseal(data, besieged.whole.header)
    with pytest.raises(Violation, match="never appended"):
        besieged.scrape(Mutation("forged", "and called an accident", bytes(data)))


def test_the_oracle_sees_a_ring_that_is_gone_without_a_word(besieged: Besieged) -> None:
    with pytest.raises(Violation, match="the error must say 'magic'"):
        besieged.scrape(Mutation("none", "nothing", besieged.whole.data, says="magic"))
    besieged.path.rename(besieged.path.with_suffix(".aside"))
    try:
        with pytest.raises(Violation, match="nothing says so"):
            besieged.scrape(Mutation("none", "gone", besieged.whole.data, single=True))
    finally:
        besieged.path.with_suffix(".aside").rename(besieged.path)
    besieged.scrape(Mutation("none", "back", besieged.whole.data, single=True), deep=True)


@pytest.mark.parametrize(
    ("page", "says"),
    [
        ("# TYPE x gauge\nx 1\nx 2\n", "comes twice"),
        ("# TYPE x gauge\nx_bucket 1\n", "no server takes the page"),
        ("# TYPE x gauge\nx 1\n# TYPE x counter\nx_total 1\n", "has the family b'x' twice"),
        ("# TYPE x gauge\nx one two\n", "has the line"),
    ],
)
def test_the_oracle_sees_a_page_that_no_server_takes(page: str, says: str) -> None:
    with pytest.raises(Violation, match=says):
        check_valid(page.encode(), Format.TEXT)
