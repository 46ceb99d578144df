from __future__ import annotations

import pytest

from collector.frame.eviction import Eviction
from shm.metric import SeriesKey


def key(name: str) -> SeriesKey:
    return "m", tuple(name)


@pytest.mark.parametrize(
    ("series", "present", "limits", "room", "newcomers"),
    [
        pytest.param("a b c", "", (3, 0), 100, {"x": "a", "y": "a b"}, id="the oldest, one for each newcomer"),
        pytest.param("a b c", "a c", (3, 0), 100, {"x": "b", "y": None}, id="nobody who is in the frame"),
        pytest.param("a", "", (3, 0), 100, {"x": "", "y": "", "z": "a"}, id="nobody while there is room"),
        pytest.param("a", "", (3, 0), 0, {"x": "a", "y": None}, id="in a full source one of the same metric"),
        pytest.param("", "", (3, 2), 0, {"x": None}, id="nobody of a metric without series"),
        pytest.param("a b c", "", (1, 0), 100, {"x": "a"}, id="one for one after a limit was lowered"),
        # By their last samples: of the first label's values, "a" was seen last of all, "b" before "c".
        pytest.param(
            "a1 b1 b2 c1 a2", "", (100, 3), 100, {"d1": "b1 b2", "d2": "b1 b2", "e1": "b1 b2 c1"},
            id="for a value too many all series of the value seen least recently",
        ),
        pytest.param(
            "a1 b1 a2", "a2", (100, 2), 100, {"x1": "b1", "y1": None, "z1": None},
            id="no value of which one series is in the frame",
        ),
        # The first label has a value that could go, the second has none.
        pytest.param(
            "a1 a2 b1 b2", "b1 b2", (100, 2), 100, {"x3": None}, id="nobody for a newcomer that is refused"
        ),
        pytest.param("a1 b1", "", (2, 2), 100, {"c1": "a1", "b2": "a1 b1"}, id="no place that a value gave before"),
        pytest.param("a1 b1", "", (100, 2), 100, {"a2": "", "c1": "b1"}, id="no value that a newcomer has"),
    ],
)  # fmt: skip
def test_who_gives_way_is(
    series: str, present: str, limits: tuple[int, int], room: int, newcomers: dict[str, str | None]
) -> None:
    """``series``: by their label values, oldest first. ``limits``: of series, and of a label's values. ``newcomers``:
    what is evicted once each is admitted; None if it is refused, which evicts nothing more.
    """
    eviction = Eviction([*map(key, series.split())], {*map(key, present.split())}, *limits)
    for name, evicted in newcomers.items():
        wanted = eviction.evicted.copy() if evicted is None else {*map(key, evicted.split())}
        assert eviction.admit(key(name), room) == (evicted is not None)
        assert eviction.evicted == wanted
