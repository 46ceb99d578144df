"""/metrics: whole pages as literal text, and what the parsers of others make of them."""

from __future__ import annotations

import math

import pytest

from collector.source import MetricSource, Sample
from exporter.exposition.latest import MetricsPage
from exporter.http.negotiation import Format
from exporter.http.parameters import MetricsQuery
from exporter.rings import RingSet
from shm.metric import Metric
from tests.exporter.scene import NOW_NS, Scene, samples_of
from tests.programs import promtool_says
from tests.rings import open_writer

HOSTILE = 'a "quoted"\\\nroom'


def page(rings: RingSet, form: Format = Format.TEXT, query: MetricsQuery = MetricsQuery()) -> str:  # noqa: B008
    found = rings.refresh()
    one = MetricsPage(found, query)
    return b"".join(one.render(found, rings.stale(found), form)).decode()


def fill(scene: Scene) -> RingSet:
    """Two rings with all three types of metrics between them."""
    scene.commit(
        "one",
        ("temperature", 21.5, {"room": HOSTILE}),
        ("temperature", -math.inf, {"room": "b"}),
        ("packets", 5000.0),
        ("latency", 0.5, {"path": "/"}),
        ("latency", 2.5, {"path": "/"}),
        ("latency", 3000.0, {"path": "/"}),
    )
    scene.commit("two", ("temperature", math.nan, {"room": "c"}), ("temperature", math.inf, {"room": "d"}))
    return scene.rings()


TEXT = r"""# HELP latency Response time, in milliseconds.
# TYPE latency histogram
latency_bucket{path="/",le="1.0"} 1.0
latency_bucket{path="/",le="2.5"} 2.0
latency_bucket{path="/",le="1000.0"} 2.0
latency_bucket{path="/",le="+Inf"} 3.0
latency_count{path="/"} 3.0
latency_sum{path="/"} 3003.0
# HELP packets_total Packets seen.
# TYPE packets_total counter
packets_total 5000.0
# HELP temperature Air, in °C: "dry"\nback\\slash.
# TYPE temperature gauge
temperature{room="a \"quoted\"\\\nroom"} 21.5
temperature{room="b"} -Inf
temperature{room="c"} NaN
temperature{room="d"} +Inf
"""


def test_the_page_in_both_formats(scene: Scene) -> None:
    rings = fill(scene)
    assert page(rings) == TEXT
    openmetrics = TEXT.replace(" packets_total Packets", " packets Packets").replace('"dry"', r"\"dry\"")
    assert page(rings, Format.OPENMETRICS) == openmetrics.replace("TYPE packets_total", "TYPE packets")


@pytest.mark.real
def test_promtool_reads_the_page(scene: Scene) -> None:
    promtool_says(page(fill(scene)))


def test_a_stale_ring_leaves_the_page_and_comes_back(scene: Scene) -> None:
    rings = fill(scene)
    scene.advance(30)
    scene.commit("two", ("temperature", 1.0, {"room": "c"}))
    scene.advance(16)
    found = page(rings)
    assert found == TEXT[TEXT.index("# HELP temperature") : TEXT.index("temperature{")] + 'temperature{room="c"} 1.0\n'
    scene.commit("one", ("packets", 1.0))
    assert "packets_total 1.0\n" in page(rings)


def test_an_absent_sample_has_no_line_and_an_empty_family_no_header(scene: Scene) -> None:
    rings = fill(scene)
    scene.commit("one", ("temperature", 1.0, {"room": "b"}), ("latency", None, {"path": "/"}))
    found = page(rings)
    assert "packets" not in found
    assert "quoted" not in found
    assert 'latency_count{path="/"} 3.0' in found  # the histogram stays, though nothing was observed


def test_no_rings_make_an_empty_page(scene: Scene) -> None:
    assert page(scene.rings()) == ""
    scene.collector("s")
    assert page(scene.rings()) == ""


@pytest.mark.parametrize(
    ("names", "lines"),
    [
        (("temperature",), 4),
        (("latency",), 6),
        (("latency_bucket",), 4),
        (("latency_sum", "latency_count"), 2),
        (("packets_total",), 1),
        (("packets",), 1),
        (("packet",), 0),
    ],
)
def test_a_name_chooses_a_family_or_some_of_its_samples(scene: Scene, names: tuple[str, ...], lines: int) -> None:
    found = page(fill(scene), query=MetricsQuery(names))
    assert len([line for line in found.splitlines() if line[0] != "#"]) == lines
    assert (found == "") is (lines == 0)


def test_a_source_chooses_its_ring(scene: Scene) -> None:
    rings = fill(scene)
    two = page(rings, query=MetricsQuery(sources=("two",)))
    assert [line for line in two.splitlines() if line[0] != "#"] == [
        'temperature{room="c"} NaN',
        'temperature{room="d"} +Inf',
    ]
    assert page(rings, query=MetricsQuery(sources=("one", "two"))) == TEXT
    assert page(rings, query=MetricsQuery(sources=("three",))) == ""


def test_a_dropped_series_stays_dropped_while_its_owner_is_stale(scene: Scene) -> None:
    scene.commit("one", ("packets", 1.0))
    scene.advance(100)
    scene.commit("two", ("packets", 2.0))
    assert page(scene.rings()) == ""  # who has a series does not change with who is late


def test_a_histogram_below_zero_has_no_sum_in_openmetrics(scene: Scene) -> None:
    scene.collector(
        "s", Metric("drift", "histogram", "D.", buckets=(-1.0, 1.0)), Metric("gap", "histogram", "G.", buckets=(1.0,))
    )
    scene.commit("s", ("drift", 5.0), ("gap", -5.0))
    rings = scene.rings()
    openmetrics = samples_of(page(rings, Format.OPENMETRICS) + "# EOF\n", Format.OPENMETRICS)
    assert {name for name, _ in openmetrics} == {"drift_bucket", "gap_bucket"}
    text = samples_of(page(rings))
    assert (text["drift_sum", ()], text["gap_sum", ()]) == (5.0, -5.0)
    assert text["drift_count", ()] == 1.0


def test_a_counter_that_is_no_count_keeps_openmetrics_valid(namespace: str, scene: Scene) -> None:
    counter = Metric("c", "counter", "C.", "", ("x",))
    with open_writer(namespace) as writer:
        for label in "abc":
            writer.add_series(counter, (label,))
        writer.append([math.nan, -1.0, 1.0], scene.wall_ns, scene.monotonic_ns)
        rings = scene.rings()
        assert page(rings).count("c_total{") == 3
        openmetrics = samples_of(page(rings, Format.OPENMETRICS) + "# EOF\n", Format.OPENMETRICS)
        assert openmetrics == {("c_total", (("x", "c"),)): 1.0}


def test_a_counter_is_chosen_by_its_family_s_name_too(scene: Scene) -> None:
    scene.collector("s", Metric("hits_total", "counter", "H."))
    scene.commit("s", ("hits_total", 1.0))
    assert page(scene.rings(), query=MetricsQuery(("hits",))).endswith("\nhits_total 1.0\n")


def test_a_ring_whose_series_have_no_frame_yet_leaves_the_others_in_place(namespace: str, scene: Scene) -> None:
    with open_writer(namespace, "a", columns=3):
        scene.commit("b", ("packets", 5.0))
        found = scene.rings().refresh()
        # Not stale by whatever allowance: there still is nothing to show.
        text = b"".join(MetricsPage(found, MetricsQuery()).render(found, [False, False], Format.TEXT)).decode()
    assert samples_of(text) == {("packets_total", ()): 5.0}


# ---- times -------------------------------------------------------------------------------------------------------

MS = NOW_NS // 10**6
TIMED = f"""latency_bucket{{path="/",le="1.0"}} 1.0 {MS}
latency_bucket{{path="/",le="2.5"}} 1.0 {MS}
latency_bucket{{path="/",le="1000.0"}} 1.0 {MS}
latency_bucket{{path="/",le="+Inf"}} 1.0 {MS}
latency_count{{path="/"}} 1.0 {MS}
latency_sum{{path="/"}} 0.5 {MS}
packets_total 5000.0 {MS}
"""


def lines(text: str) -> str:
    return "".join(f"{line}\n" for line in text.splitlines() if line[0] != "#")


def test_counters_and_histograms_have_the_time_of_their_frame(scene: Scene) -> None:
    scene.wall_ns += 999_999  # ns; milliseconds are cut off, as servers do
    scene.commit("one", ("temperature", 21.5, {"room": "a"}), ("packets", 5000.0), ("latency", 0.5, {"path": "/"}))
    rings = scene.rings()
    scene.advance(20)
    timed = MetricsQuery(timestamps="counters")
    assert lines(page(rings, query=timed)) == TIMED + 'temperature{room="a"} 21.5\n'
    seconds = TIMED.replace(f" {MS}", f" {MS // 1000}.000")
    assert lines(page(rings, Format.OPENMETRICS, timed)) == seconds + 'temperature{room="a"} 21.5\n'
    assert lines(page(rings, query=MetricsQuery(timestamps="all"))) == TIMED + f'temperature{{room="a"}} 21.5 {MS}\n'
    assert f" {MS}" not in page(rings, query=MetricsQuery(timestamps="none"))


def test_summaries_have_the_time_of_their_frame(scene: Scene) -> None:
    scene.collector("one", *Summary.metrics)
    scene.collectors["one"].collect_from_sources([Summary()])
    scene.commit("one")
    text = page(scene.rings(), query=MetricsQuery(timestamps="counters"))
    assert lines(text) == f"size_count 2.0 {MS}\nsize_sum 3.5 {MS}\n"


class Summary(MetricSource):
    name = "summary"
    metrics = (Metric("size", "summary", "Size."),)

    def collect(self) -> list[Sample]:
        return [Sample("size", None, counted=(2, 3.5))]


def test_a_sample_with_a_time_of_its_own_keeps_it(scene: Scene) -> None:
    one = scene.collector("one")
    one.record_metric("packets", 7, timestamp=scene.wall_ns / 1e9 - 2.4993)  # milliseconds are cut off here, too
    one.record_metric("latency", 0.5, {"path": "/"})
    one.commit(scene.wall_ns, scene.monotonic_ns)
    text = page(scene.rings(), query=MetricsQuery(("packets", "latency_count"), timestamps="counters"))
    assert lines(text) == f'latency_count{{path="/"}} 1.0 {MS}\npackets_total 7.0 {MS - 2500}\n'
