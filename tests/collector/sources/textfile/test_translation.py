"""What becomes of each type of the text format, and what no type allows."""

from __future__ import annotations

import pytest

from collector.source import Sample
from collector.sources.prometheus_text import parse
from collector.sources.textfile.translation import ParsedMetric, translate
from shm.metric import Metric


def told(text: str) -> list[ParsedMetric]:
    families, errors = translate(parse(text), "Read.")
    assert errors == []
    return [one for family in families for one in family]


HISTOGRAM = """# TYPE t histogram
t_bucket{le="0.5"} 1
t_bucket{le="1"} 2
t_bucket{le="+Inf"} 4
t_sum 7.5
t_count 4
"""


def test_a_histogram_is_one_with_the_bounds_of_the_file() -> None:
    [one] = told(HISTOGRAM)
    assert one.metric == Metric("t", "histogram", "Read.", buckets=(0.5, 1.0))
    assert one.samples == (Sample("t", None, {}, counted=(1.0, 2.0, 4.0, 7.5)),)
    assert one.line == 2


def test_series_of_a_histogram_have_their_own_bounds_and_not_the_others() -> None:
    [one] = told(
        '# TYPE t histogram\nt_bucket{a="x",le="1"} 1\nt_count{a="x"} 2\nt_sum{a="x"} 3\n'
        't_bucket{b="y",le="5"} 4\nt_bucket{b="y",le="+Inf"} 6\nt_sum{b="y"} 7\n'
    )
    assert one.metric.buckets == (1.0, 5.0)
    assert [(sample.labels, sample.counted) for sample in one.samples] == [
        ({"a": "x", "b": ""}, (1.0, None, 2.0, 3.0)),
        ({"a": "", "b": "y"}, (None, 4.0, 6.0, 7.0)),
    ]


def test_a_histogram_that_none_of_ours_can_hold_is_its_samples_untyped() -> None:
    only = '# TYPE t histogram\nt_bucket{le="+Inf"} 4\nt_sum 7\nt_count 4\n'
    assert [(one.metric.name, one.metric.type) for one in told(only)] == [
        ("t_bucket", "untyped"), ("t_sum", "untyped"), ("t_count", "untyped"),
    ]  # fmt: skip
    for bounds, types in ((64, {"histogram"}), (65, {"untyped"})):
        many = "".join(f't_bucket{{le="{bound}"}} 1\n' for bound in range(bounds))
        text = f"# TYPE t histogram\n{many}t_sum 1\nt_count 1\n"
        assert {one.metric.type for one in told(text)} == types, bounds


@pytest.mark.parametrize(
    ("text", "name", "labels"),
    [
        ('# TYPE x gauge\nx{quantile="0.5"} 7\n', "x", {"quantile": "0.5"}),
        ('# TYPE x gauge\nx{le="a"} 7\n', "x", {"le": "a"}),
        ('# TYPE x_total counter\nx_total{le="a"} 7\n', "x_total", {"le": "a"}),
        ('# TYPE x histogram\nx_bucket{le="1"} 7\nx_bucket{le="+Inf"} 8\n', "x_bucket", {"le": "1"}),
        ('# TYPE x histogram\nx_bucket{le="1"} 7\nx_sum 1\n', "x_bucket", {"le": "1"}),
        ('# TYPE x histogram\nx_sum 7\n', "x_sum", {}),
        ('# TYPE x histogram\nx_bucket{quantile="1",le="1"} 7\nx_sum{quantile="1"} 7\nx_count{quantile="1"} 7\n',
         "x_bucket", {"quantile": "1", "le": "1"}),
        ('# TYPE x summary\nx_sum{le="1"} 7\nx_count{le="1"} 7\n', "x_sum", {"le": "1"}),
    ],
)  # fmt: skip
def test_a_family_that_its_type_can_t_hold_is_its_samples_untyped(text: str, name: str, labels: dict[str, str]) -> None:
    found = told(text)
    assert {one.metric.type for one in found} == {"untyped"}
    assert found[0].samples[0] == Sample(name, 7.0, labels)


def test_of_a_family_with_wrong_series_the_others_are_kept() -> None:
    text = (
        f'# TYPE x gauge\nx{{a="1"}} 1\nx{{a="{"v" * 1001}"}} 2\nx{{a="2"}} 3\nx{{b="",a="2"}} 4\nx{{a="4"}} 5\n'
        '# TYPE t histogram\nt_bucket{a="1",le="1"} 2\nt_bucket{a="1",le="+Inf"} 1\nt_sum{a="1"} 1\nt_count{a="1"} 1\n'
        't_bucket{a="2",le="1"} 2\nt_bucket{a="2",le="+Inf"} 3\nt_sum{a="2"} 4\nt_count{a="2"} 3\n'
    )
    [[x], [t]], errors = translate(parse(text), "Read.")
    assert [(sample.labels["a"], sample.value) for sample in x.samples] == [("1", 1.0), ("2", 3.0), ("4", 5.0)]
    assert t.samples == (Sample("t", None, {"a": "2"}, counted=(2.0, 3.0, 4.0)),)
    assert [str(error)[:42] for error in errors] == [
        'line 5: two samples of x{a="2"}; the first', "line 3: label 'a' of metric 'x' has 1001 c",
        "line 9: t_bucket falls from 2 to 1; bucket",
    ]  # fmt: skip


@pytest.mark.parametrize(
    ("text", "found"),
    [
        ("# TYPE x unknown\nx 1\n", {"x": "untyped"}),
        ('# TYPE x info\nx_info{a="1"} 1\n', {"x_info": "untyped"}),
        ('# TYPE x stateset\nx{x="on"} 1\n', {"x": "gauge"}),
        (
            '# TYPE x gaugehistogram\nx_bucket{le="+Inf"} 1\nx_gcount 1\n',
            {"x_bucket": "untyped", "x_gcount": "untyped"},
        ),
    ],
)
def test_the_types_of_openmetrics_are_those_that_a_text_has_for_them(text: str, found: dict[str, str]) -> None:
    families, errors = translate(parse(f"{text}# EOF\n"), "Read.")
    assert ({one.metric.name: one.metric.type for family in families for one in family}, errors) == (found, [])


def test_help_and_unit_are_as_long_as_a_ring_can_have_them() -> None:
    [one] = told(f"# HELP x {'h' * 3000}\n# TYPE x gauge\n# UNIT x {'u' * 300}\nx 1\n")
    assert (len(one.metric.help), len(one.metric.unit)) == (2000, 200)


def test_a_summary_is_its_samples_untyped_a_quantile_written_as_prometheus_does() -> None:
    found = told('# TYPE s summary\ns{quantile="0.50"} 1\ns{quantile="1.0"} 2\ns_sum 3\ns_count 4\n')
    assert {one.metric.type for one in found} == {"untyped"}
    assert [(sample.metric, dict(sample.labels), sample.value) for one in found for sample in one.samples] == [
        ("s", {"quantile": "0.5"}, 1.0), ("s", {"quantile": "1"}, 2.0), ("s_sum", {}, 3.0), ("s_count", {}, 4.0),
    ]  # fmt: skip


def test_a_summary_without_quantiles_is_one() -> None:
    [one] = told('# TYPE s summary\n# UNIT s seconds\ns_sum{a="x"} 3\ns_count{a="x"} 4\ns_count{b="y"} 5\n')
    assert one.metric == Metric("s", "summary", "Read.", "seconds", ("a", "b"))
    assert one.samples == (
        Sample("s", None, {"a": "x", "b": ""}, counted=[4.0, 3.0]),
        Sample("s", None, {"a": "", "b": "y"}, counted=[5.0, None]),
    )


def test_a_counter_is_one_only_if_its_name_can_stay() -> None:
    text = "# TYPE a_total counter\na_total 1\n# TYPE b counter\nb 2\n# TYPE c gauge\nc 3\nd 4\n"
    assert [(one.metric.name, one.metric.type) for one in told(text)] == [
        ("a_total", "counter"), ("b", "untyped"), ("c", "gauge"), ("d", "untyped"),
    ]  # fmt: skip


def test_created_beside_what_counts_is_left_out_and_kept_elsewhere() -> None:
    text = (
        f"# TYPE a_total counter\na_total 1\n# TYPE a_created gauge\na_created 5\n{HISTOGRAM}t_created 6\nb_created 7\n"
        "# TYPE s summary\ns_sum 1\ns_count 1\ns_created 8\n"
    )
    assert [one.metric.name for one in told(text)] == ["a_total", "t", "b_created", "s"]


def test_labels_of_a_metric_are_those_of_all_its_series_and_help_and_unit_its_own() -> None:
    [one] = told('# HELP x Said.\n# TYPE x gauge\n# UNIT x bytes\nx{a="1"} 1\nx{b="2"} 2\n')
    assert one.metric == Metric("x", "gauge", "Said.", "bytes", ("a", "b"))
    assert [dict(sample.labels) for sample in one.samples] == [{"a": "1", "b": ""}, {"a": "", "b": "2"}]


def _changed(old: str, new: str) -> str:
    assert old in HISTOGRAM
    return HISTOGRAM.replace(old, new)


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ("# TYPE x_total counter\nx_total -1\n", "line 2: the counter x_total is -1; a counter is never below 0"),
        ('x{stat="a"} 1\n', "line 1: label name 'stat' of metric 'x' is reserved"),
        ('# TYPE x gauge\nx{stat="a"} 1\n', "line 2: label name 'stat' of metric 'x' is reserved"),
        ("x{" + ",".join(f'l{n}="1"' for n in range(33)) + "} 1\n", "line 1: metric 'x' has 33 labels; at most 32"),
        (f"# TYPE {'x' * 201} gauge\n{'x' * 201} 1\n", "line 2: metric name has 201 characters; at most 200"),
        ('\nx{a="1"} 1 1700000000000\nx{a="2"} 1\n', "line 2: x has the timestamp '1700000000000'; remove it"),
        ('{"x\\n"} 1\n', "line 1: metric name 'x\\n' is not a Prometheus name"),
        ('x{"a\\n"="1"} 1\n', "line 1: label name 'a\\n' of metric 'x' is not a Prometheus label name"),
        (f'x{{a="{"v" * 1001}"}} 1\n', "line 1: label 'a' of metric 'x' has 1001 characters; at most 1000"),
        ("# TYPE s summary\ns 1\n", "line 2: s of a summary has no label quantile"),
        ('# TYPE s summary\ns{quantile="half"} 1\n', "line 2: the label quantile of s is 'half'; give a number"),
        (_changed('le="1"', 'le="one"'), "line 3: the label le of t_bucket is 'one'; give a number"),
        (_changed('{le="1"}', ""), "line 3: t_bucket has no label le"),
        (_changed("t_sum", "t"), "line 5: the histogram t has a sample without _bucket, _sum or _count"),
        (_changed('le="1"} 2', 'le="1"} 0'), "line 3: t_bucket falls from 1 to 0"),
        (_changed('le="1"} 2', 'le="1"} NaN'), "line 3: t_bucket is nan; give a count, 0 or more"),
        (_changed("t_count 4", "t_count 5"), "line 6: t_count is 5, but its buckets count 4"),
    ],
)  # fmt: skip
def test_what_no_metric_can_be_is_named_with_its_line_and_costs_no_other_family(text: str, said: str) -> None:
    families, [error] = translate(parse(f"{text}neighbour 1\n"), "Read.")
    assert said in str(error)
    assert [one.metric.name for family in families for one in family] == ["neighbour"]


@pytest.mark.parametrize(
    ("text", "second", "series"),
    [
        ('x{a="1"} 1\n', 'x{a="1"} 2\n', 'x{a="1"}'),
        ('x{a=""} 1\n', "x 2\n", "x"),
        ("# TYPE x_total counter\nx_total 1\n", "x_total 1\n", "x_total"),
        (HISTOGRAM, 't_bucket{le="0.50"} 3\n', 't_bucket{le="0.50"}'),
        (HISTOGRAM, "t_sum 8\n", "t_sum"),
        (HISTOGRAM.replace("0.5", "0"), 't_bucket{le="0.0"} 3\n', 't_bucket{le="0.0"}'),
        ("# TYPE s summary\ns_sum 1\ns_count 1\n", "s_count 2\n", "s_count"),
        ('# TYPE s summary\ns{quantile="0.5"} 1\n', 's{quantile="0.50"} 2\n', 's{quantile="0.50"}'),
    ],
)
def test_of_a_series_given_twice_the_first_sample_is_kept_and_the_second_is_an_error(
    text: str, second: str, series: str
) -> None:
    once, none = translate(parse(f"{text}neighbour 1\n"), "Read.")
    twice, [error] = translate(parse(f"{text}{second}neighbour 1\n"), "Read.")
    assert not none
    assert str(error) == f"line {text.count(chr(10)) + 1}: two samples of {series}; the first is kept, remove the other"
    assert [[one.samples for one in family] for family in once] == [[one.samples for one in family] for family in twice]
