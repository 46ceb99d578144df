from __future__ import annotations

import itertools
import logging
from collections.abc import Callable, Iterator

import pytest

from collector.frame.collector import MetricCollector
from collector.loop.stop import Stop
from collector.loop.worker import Worker
from collector.source import Collection, CollectResult, MetricSource, Sample
from fogmetrics.parent import Parent
from shm.metric import Metric
from shm.ring.layout import FLAG_CLOCK_STEP, FLAG_TICK
from shm.ring.reader import RingReader

SECOND = 1_000_000_000
DEPTH = Metric("depth", "gauge", "D.")


class Source(MetricSource):
    """Each collection does what the next step of the plan says; after the last, as the last."""

    name = "app"
    metrics = (DEPTH,)

    def __init__(self, *plan: Callable[[], CollectResult]) -> None:
        self._plan = list(plan)
        self.opened = 0
        self.closed = 0
        self.open_error: Exception | None = None

    def open(self) -> None:
        self.opened += 1
        if self.open_error:
            raise self.open_error

    def collect(self) -> CollectResult:
        step = self._plan.pop(0) if len(self._plan) > 1 else self._plan[0]
        return step()

    def close(self) -> None:
        self.closed += 1


class Life(Stop):
    """Runs a worker for a number of ticks on clocks of its own, which sleeping moves."""

    def __init__(self, namespace: str) -> None:
        self.namespace = namespace
        self.interval_seconds = 15.0
        self.wall_ns = 1_700_000_000 * SECOND
        self.monotonic_ns = 50 * SECOND
        self.wall_steps: dict[int, int] = {}  # before which tick the wall clock is set, and by how much
        self.late: dict[int, int] = {}  # before which tick the process was stopped, and for how long

    def run(self, source: MetricSource, ticks: int) -> None:
        super().__init__(Parent({}))  # anew: a worker closes it
        self.ticks, self.done = ticks, 0
        collector = MetricCollector("app", 64, self.interval_seconds, namespace=self.namespace)
        clocks = (lambda: self.wall_ns), (lambda: self.monotonic_ns)
        Worker(source, collector, self.interval_seconds, 0.2, *clocks, self).run()

    def sleep_until(self, deadline_ns: int) -> bool:
        if self.done == self.ticks:
            return True
        passed = max(deadline_ns - self.monotonic_ns, 0) + self.late.get(self.done, 0)
        self.monotonic_ns += passed
        self.wall_ns += passed + self.wall_steps.get(self.done, 0)
        self.done += 1
        return False

    def column(self, name: str) -> list[float | None]:
        """The samples of the only series of a metric, oldest frame first, None where absent."""
        with RingReader(self.namespace, "app") as reader:
            [series] = [one for one in reader.catalog.series if one.metric.name == name]
            frames = [frame for s in range(1, reader.newest_sequence() + 1) if (frame := reader.frame(s))]
            return [frame.value(series.column) for frame in frames]


@pytest.fixture
def life(namespace: str) -> Life:
    return Life(namespace)


@pytest.fixture
def said(caplog: pytest.LogCaptureFixture) -> Iterator[Callable[[], list[str]]]:
    with caplog.at_level(logging.INFO):
        yield lambda: [record.message for record in caplog.records if record.name == "collector.loop.worker"]


def gives(value: float) -> Callable[[], CollectResult]:
    return lambda: [Sample("depth", value)]


def fails() -> CollectResult:
    raise ConnectionRefusedError("nobody is there")


def test_every_tick_writes_a_frame_with_the_source_and_the_collectors_own_samples(life: Life) -> None:
    life.run(Source(gives(1), gives(2), gives(3)), 3)
    assert life.column("depth") == [1, 2, 3]
    assert life.column("collector_up") == [1, 1, 1]
    assert life.column("collector_errors_total") == [0, 0, 0]
    durations = life.column("collector_duration_seconds")
    assert all(value is not None and value >= 0 for value in durations)
    with RingReader(life.namespace, "app") as reader:
        stamps = [frame.timestamp_ns for s in (1, 2, 3) if (frame := reader.frame(s))]
        assert life.column("collector_last_success_timestamp_seconds") == [stamp / 1e9 for stamp in stamps]


def test_a_failing_source_still_gets_its_frame_with_its_samples_absent_and_up_0(
    life: Life, said: Callable[[], list[str]]
) -> None:
    life.run(Source(gives(1), fails, fails, fails, gives(5)), 5)
    assert life.column("depth") == [1, None, None, None, 5]
    assert life.column("collector_up") == [1, 0, 0, 0, 1]
    assert life.column("collector_errors_total") == [0, 1, 2, 3, 3]
    success = life.column("collector_last_success_timestamp_seconds")
    assert success[0] == success[1] == success[3] != success[4]
    assert said() == ["source up", "source down", "source recovered"], "one line at each change of state"


def test_a_source_that_fails_in_part_is_up_and_its_errors_are_counted(
    life: Life, said: Callable[[], list[str]]
) -> None:
    def part() -> CollectResult:
        return Collection([Sample("depth", 2)], ["one endpoint of three", "another"])

    life.run(Source(gives(1), part, part, gives(3)), 4)
    assert life.column("depth") == [1, 2, 2, 3]
    assert life.column("collector_up") == [1, 1, 1, 1]
    assert life.column("collector_errors_total") == [0, 2, 4, 4]
    assert said() == ["source up", "source failing in part", "source recovered"]


def test_a_source_that_cannot_open_is_down_and_tried_again_at_each_tick(life: Life) -> None:
    source = Source(gives(1))
    source.open_error = PermissionError("no access")
    life.run(source, 3)
    assert life.column("collector_up") == [0, 0, 0]
    assert life.column("collector_errors_total") == [1, 2, 3]
    assert source.opened == 4, "once at the start, and at each tick"


def test_own_counters_go_on_after_a_restart(life: Life) -> None:
    life.run(Source(fails), 3)
    life.run(Source(gives(1)), 2)
    assert life.column("collector_errors_total") == [1, 2, 3, 3, 3]


def test_ticks_that_were_slept_through_are_counted_and_not_made_up_for(life: Life) -> None:
    life.late = {2: 44 * SECOND}
    life.run(Source(gives(1)), 4)
    # 44 s late are two grid points gone by, and the third is too close: two frames within a second were one too many.
    assert life.column("collector_ticks_missed_total") == [0, 0, 0, 3]
    assert life.column("depth") == [1, 1, 1, 1]


@pytest.mark.parametrize("step", [-3600 * SECOND, 86_400 * SECOND])
def test_a_set_wall_clock_is_flagged_and_counted_and_no_tick_is_doubled(life: Life, step: int) -> None:
    life.wall_steps = {2: step}
    life.run(Source(gives(1)), 5)
    assert life.column("collector_clock_steps_total") == [0, 0, 1, 1, 1]
    assert life.column("collector_ticks_missed_total") == [0] * 5
    with RingReader(life.namespace, "app") as reader:
        frames = [frame for s in range(1, 6) if (frame := reader.frame(s))]
        assert [frame.flags for frame in frames] == [FLAG_TICK] * 2 + [FLAG_TICK | FLAG_CLOCK_STEP] + [FLAG_TICK] * 2
        gaps = [late.monotonic_ns - early.monotonic_ns for early, late in itertools.pairwise(frames)]
        assert all(7.5 * SECOND <= gap <= 22.5 * SECOND for gap in gaps[1:]), gaps


def test_the_source_is_closed_and_the_ring_free_for_the_next_writer_at_the_end(life: Life) -> None:
    source = Source(gives(1))
    life.run(source, 1)
    assert source.closed == 1
    with RingReader(life.namespace, "app") as reader:
        assert reader.writer.pid == 0
    life.run(Source(gives(2)), 1)
    assert life.column("depth") == [1, 2]


def seconds_of(life: Life, ticks: int, first_ticks_seconds: tuple[float, ...]) -> list[float]:
    """When the frames of a run were taken, in seconds after its start."""
    begun_ns = life.wall_ns
    source = Source(gives(1))
    source.first_ticks_seconds = first_ticks_seconds  # type: ignore[attr-defined]
    life.run(source, ticks)
    with RingReader(life.namespace, "app") as reader:
        frames = [frame for s in range(1, ticks + 1) if (frame := reader.frame(s))]
    return [(frame.timestamp_ns - begun_ns) / SECOND for frame in frames]


def test_the_first_frames_come_when_the_source_wants_them_and_then_the_grid_s(life: Life) -> None:
    first = seconds_of(life, 5, (0.2, 2.0, 1.0))
    assert first[:3] == [0.2, 1.0, 2.0]
    assert 7.5 <= first[3] - first[2] <= 22.5
    assert first[4] - first[3] == 15
    assert life.column("collector_ticks_missed_total") == [0] * 5


@pytest.mark.parametrize(
    ("interval_seconds", "wanted", "first"), [(1.0, (0.5, 3.0), 0.5), (0.5, (3.0,), 0.5), (0.25, (0.1, 0.2, 0.3), 0.1)]
)
def test_no_first_frame_is_later_than_an_interval(
    life: Life, interval_seconds: float, wanted: tuple[float, ...], first: float
) -> None:
    life.interval_seconds = interval_seconds
    assert seconds_of(life, 2, wanted)[0] == first


def test_first_frames_that_a_late_one_passed_are_left_out(life: Life) -> None:
    life.late[0] = 3 * SECOND
    first = seconds_of(life, 2, (0.2, 1.0, 2.0))
    assert first[0] == 3.2
    assert first[1] - first[0] >= 7.5
