from __future__ import annotations

from collector.frame.eviction import Eviction
from shm.metric import SeriesKey


def keys(*names: str) -> list[SeriesKey]:
    return [("m", tuple(name)) for name in names]


def test_the_oldest_give_way_one_for_each_newcomer() -> None:
    eviction = Eviction(keys("a", "b", "c"), set(), 3, 0)
    assert [eviction.admit(key, 100) for key in keys("x", "y")] == [True, True]
    assert eviction.evicted == set(keys("a", "b"))


def test_nobody_who_is_in_the_frame_gives_way() -> None:
    eviction = Eviction(keys("a", "b", "c"), set(keys("a", "c")), 3, 0)
    assert [eviction.admit(key, 100) for key in keys("x", "y")] == [True, False]
    assert eviction.evicted == set(keys("b"))


def test_while_there_is_room_nobody_gives_way() -> None:
    eviction = Eviction(keys("a"), set(), 3, 0)
    assert [eviction.admit(key, 100) for key in keys("x", "y", "z")] == [True, True, True]
    assert eviction.evicted == set(keys("a"))


def test_a_full_source_takes_a_place_of_the_same_metric() -> None:
    eviction = Eviction(keys("a"), set(), 3, 0)
    assert [eviction.admit(key, 0) for key in keys("x", "y")] == [True, False]
    assert eviction.evicted == set(keys("a"))


def test_a_metric_without_series_has_nobody_to_give_way() -> None:
    assert not Eviction([], set(), 3, 2).admit(("m", ("x",)), 0)


def test_after_a_limit_was_lowered_places_are_exchanged_and_none_is_added() -> None:
    eviction = Eviction(keys("a", "b", "c"), set(), 1, 0)
    assert eviction.admit(("m", ("x",)), 100)
    assert eviction.evicted == set(keys("a"))


def test_a_value_too_many_takes_the_place_of_the_value_seen_least_recently_with_all_its_series() -> None:
    # By their last samples: of the first label's values, "a" was seen last of all, "b" before "c".
    eviction = Eviction(keys("a1", "b1", "b2", "c1", "a2"), set(), 100, 3)
    assert eviction.admit(("m", ("d", "1")), 100)
    assert eviction.evicted == set(keys("b1", "b2"))
    assert eviction.admit(("m", ("d", "2")), 100), "its value has a place by now"
    assert eviction.evicted == set(keys("b1", "b2"))
    assert eviction.admit(("m", ("e", "1")), 100)
    assert eviction.evicted == set(keys("b1", "b2", "c1"))


def test_a_value_of_which_one_series_is_in_the_frame_stays_whole() -> None:
    eviction = Eviction(keys("a1", "b1", "a2"), set(keys("a2")), 100, 2)
    assert [eviction.admit(("m", (value, "1")), 100) for value in "xyz"] == [True, False, False]
    assert eviction.evicted == set(keys("b1"))


def test_a_newcomer_that_is_refused_costs_nobody_a_place() -> None:
    # The first label has a value that could go, the second has none.
    eviction = Eviction(keys("a1", "a2", "b1", "b2"), set(keys("b1", "b2")), 100, 2)
    assert not eviction.admit(("m", ("x", "3")), 100)
    assert eviction.evicted == set()


def test_a_place_that_a_value_gave_is_not_given_twice() -> None:
    eviction = Eviction(keys("a1", "b1"), set(), 2, 2)
    assert eviction.admit(("m", ("c", "1")), 100)
    assert eviction.admit(("m", ("b", "2")), 100)
    assert eviction.evicted == set(keys("a1", "b1"))


def test_a_value_that_a_newcomer_has_stays() -> None:
    eviction = Eviction(keys("a1", "b1"), set(), 100, 2)
    assert eviction.admit(("m", ("a", "2")), 100)
    assert eviction.admit(("m", ("c", "1")), 100)
    assert eviction.evicted == set(keys("b1"))
