from __future__ import annotations

from collector.loop.schedule import Schedule

SECOND = 1_000_000_000


class Clocks:
    """A wall and a monotonic clock that move together until the wall clock is set."""

    wall_ns = 1_700_000_000 * SECOND + 123
    monotonic_ns = 5 * SECOND

    def advance_to(self, monotonic_ns: int) -> None:
        self.wall_ns += monotonic_ns - self.monotonic_ns
        self.monotonic_ns = monotonic_ns


def schedule(clocks: Clocks, interval_ns: int = 15 * SECOND, source: str = "node") -> Schedule:
    return Schedule(source, interval_ns, lambda: clocks.wall_ns, lambda: clocks.monotonic_ns)


def test_the_phase_is_stable_and_differs_between_sources() -> None:
    phases = {name: schedule(Clocks(), source=name).phase_ns for name in ("node", "system", "betanet", "deployment")}
    assert len(set(phases.values())) == 4
    assert all(0 <= phase < 15 * SECOND for phase in phases.values())
    # A changed hash would move every host's ticks at an upgrade.
    assert phases["node"] == schedule(Clocks(), source="node").phase_ns == 10_567_942_933


def test_a_tick_that_woke_a_hair_early_does_not_come_twice() -> None:
    clocks = Clocks()
    plan = schedule(clocks)
    deadline, _ = plan.next()
    clocks.advance_to(deadline - 1000)
    following, missed = plan.next()
    assert (following, missed) == (deadline + 15 * SECOND, 0)


def test_a_step_of_the_wall_clock_moves_the_grid_and_neither_bunches_nor_counts_ticks_as_missed() -> None:
    for step in (-3600 * SECOND, 86_400 * SECOND, 7 * SECOND, -7 * SECOND):
        clocks = Clocks()
        plan = schedule(clocks)
        last, _ = plan.next()
        clocks.advance_to(last)
        clocks.wall_ns += step
        for _ in range(4):
            deadline, missed = plan.next()
            assert missed == 0
            assert 7.5 * SECOND <= deadline - last <= 22.5 * SECOND
            clocks.advance_to(deadline)
            assert (clocks.wall_ns - plan.phase_ns) % plan.interval_ns == 0
            last = deadline


def test_a_set_wall_clock_is_noticed_once_and_a_slewed_one_never() -> None:
    plan = schedule(Clocks())
    assert not plan.clock_stepped(100 * SECOND, 0)
    assert not plan.clock_stepped(115 * SECOND + 8_000_000, 15 * SECOND)
    assert plan.clock_stepped(100 * SECOND, 30 * SECOND)
    assert not plan.clock_stepped(115 * SECOND, 45 * SECOND)
    assert plan.clock_stepped(90_000 * SECOND, 60 * SECOND)


def test_the_first_tick_comes_when_it_is_wanted_and_the_others_on_the_grid_of_the_wall_clock() -> None:
    clocks = Clocks()
    plan = schedule(clocks)
    first = plan.first(clocks.monotonic_ns + SECOND // 2)
    assert first == clocks.monotonic_ns + SECOND // 2
    clocks.advance_to(first)
    for _ in range(3):
        deadline, missed = plan.next()
        clocks.advance_to(deadline)
        assert missed == 0
        assert (clocks.wall_ns - plan.phase_ns) % plan.interval_ns == 0


def test_after_a_tick_that_came_late_the_next_is_not_closer_than_half_an_interval() -> None:
    for late, gap, missed in ((7, 8, 0), (8, 22, 1), (14, 16, 1), (15, 15, 1), (37, 8, 2), (38, 22, 3)):
        clocks = Clocks()
        plan = schedule(clocks)
        deadline, _ = plan.next()
        ticked = deadline + late * SECOND
        clocks.advance_to(ticked)
        following, counted = plan.next(ticked)
        assert (following - ticked, counted) == (gap * SECOND, missed), late
        clocks.advance_to(following)
        assert plan.next(following) == (following + 15 * SECOND, 0)
