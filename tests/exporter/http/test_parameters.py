"""Literal parameters in, literal queries out."""

from __future__ import annotations

import re
from contextlib import suppress

import pytest
from hypothesis import given
from hypothesis import strategies as st

from exporter.http.parameters import (
    ALL_STATS,
    AggregatedQuery,
    Matcher,
    MetricsQuery,
    QueryError,
    parse_aggregated_query,
    parse_metrics_query,
    parse_query_string,
    parse_selector,
)

SECOND = 10**9
DEFAULT = 300 * SECOND


def parse(*params: tuple[str, str]) -> AggregatedQuery:
    return parse_aggregated_query(params, DEFAULT)


def test_no_parameters_ask_for_everything_over_the_default_window() -> None:
    assert parse() == AggregatedQuery(DEFAULT, (), ALL_STATS, (), None, ())
    assert ALL_STATS == ("avg", "min", "max", "sum", "p50", "p95", "p99", "rate", "increase")


def test_every_parameter_arrives_once_and_in_order() -> None:
    query = parse(
        ("window", "15m"), ("metric", "b"), ("metric", "a"), ("metric", "b"), ("stat", "p95,avg"), ("stat", " rate"),
        ("match[]", 'a{x="1"}'), ("match[]", "b"), ("match[]", "b"), ("by", "node_id"),
        ("source[]", "node"), ("source", "betanet"), ("source", "node"),
    )  # fmt: skip
    assert query == AggregatedQuery(
        window_ns=900 * SECOND,
        metrics=("b", "a"),
        stats=("avg", "p95", "rate"),
        matchers=((Matcher("__name__", "a"), Matcher("x", "1")), (Matcher("__name__", "b"),)),
        by="node_id",
        sources=("node", "betanet"),
    )


def test_a_query_is_a_key_whatever_the_order_of_statistics() -> None:
    assert parse(("stat", ",".join(reversed(ALL_STATS)))).stats == ALL_STATS
    assert hash(parse(("stat", "min,max"))) == hash(parse(("stat", "max"), ("stat", "min")))


@pytest.mark.parametrize(
    ("text", "matchers"),
    [
        ("up", [("__name__", "up", True)]),
        ("job:cpu:rate5m", [("__name__", "job:cpu:rate5m", True)]),
        ('{a="v"}', [("a", "v", True)]),
        ('up{a="v",b!="w"}', [("__name__", "up", True), ("a", "v", True), ("b", "w", False)]),
        (' up { a = "v" , b != "w" , } ', [("__name__", "up", True), ("a", "v", True), ("b", "w", False)]),
        ("up{a='v'}", [("__name__", "up", True), ("a", "v", True)]),
        ('{__name__!="up"}', [("__name__", "up", False)]),
        ("up{}", [("__name__", "up", True)]),
        ("{}", []),
        (r'{a="\\ \" \n \t \' \u00e9 \U0001F600"}', [("a", "\\ \" \n \t ' é 😀", True)]),
        (r"""{a='it\'s "so"'}""", [("a", 'it\'s "so"', True)]),
        ("""{a="it's"}""", [("a", "it's", True)]),
        ('{a="},{"}', [("a", "},{", True)]),
        ('{a="",b=""}', [("a", "", True), ("b", "", True)]),
        ('{a="é\n"}', [("a", "é\n", True)]),
        ('{"http.requests"}', [("__name__", "http.requests", True)]),
        ('{ "größe" , a = "1" }', [("__name__", "größe", True), ("a", "1", True)]),
        (
            'x{"http.method"!="GET",\'a"b\' = "c"}',
            [
                ("__name__", "x", True),
                ("http.method", "GET", False),
                ('a"b', "c", True),
            ],
        ),
    ],
)
def test_a_selector_reads_as_in_promql(text: str, matchers: list[tuple[str, str, bool]]) -> None:
    assert parse_selector(text) == tuple(Matcher(*one) for one in matchers)


@pytest.mark.parametrize(
    ("text", "complaint"),
    [
        ("", "expected a metric name or '{' at character 1, found the end"),
        ('"up"', "expected a metric name or '{' at character 1, found '\"up\"'"),
        ("1up", "expected a metric name or '{' at character 1"),
        ("up up", "expected the end of the selector at character 4, found 'up'"),
        ("up{", "expected a label name at character 4, found the end"),
        ("up{,}", "expected a label name at character 4"),
        ('up{a:b="c"}', "expected a label name at character 4"),
        ("up{a}", "expected = or != at character 5, found '}'"),
        ('up{a=="b"}', "expected a value in quotes at character 6"),
        ("up{a=b}", "expected a value in quotes at character 6, found 'b}'"),
        ('up{a="b}', "expected a value in quotes at character 6"),
        ('up{a="b\\"}', "expected a value in quotes at character 6"),
        ("up{a=\"b'}", "expected a value in quotes at character 6"),
        ('up{a="b" c="d"}', "expected ',' or '}' at character 10"),
        ('up{a="b"', "expected ',' or '}' at character 9, found the end"),
        ('up{a="b"}[5m]', "expected the end of the selector at character 10, found '[5m]'"),
        (r'{a="\q"}', r"unknown escape '\\q'; use "),
        (r'{a="\u12"}', r"unknown escape '\\u'"),
        (r'{a="\ud800"}', r"unknown escape '\\ud800'"),
        (r'{a="\UFFFFFFFF"}', r"unknown escape '\\UFFFFFFFF'"),
        ('{"stat"="p95"}', "choose statistics with the parameter stat="),
        ('{"a"', "expected ',' or '}' at character 5, found the end"),
        ('{stat="p95"}', "choose statistics with the parameter stat="),
        ("a" * 4097, "… has 4097 characters; at most 4096"),
        ('up{a=~"b.*"}', "has =~; regular expressions are not supported, because a hostile pattern could stall the "),
        (
            "{a!~'b'}",
            "has !~; regular expressions are not supported, because a hostile pattern could stall the exporter: "
            "repeat match[] with = for each value",
        ),
    ],
)
def test_a_broken_selector_is_told_where_and_what_would_be_right(text: str, complaint: str) -> None:
    with pytest.raises(QueryError, match=re.escape(complaint)):
        parse_selector(text)


@given(st.text(max_size=60), st.sampled_from(['"', "'"]))
def test_any_label_value_survives_quoting(value: str, quote: str) -> None:
    quoted = value.replace("\\", "\\\\").replace(quote, "\\" + quote).replace("\n", "\\n")
    assert parse_selector(f"up{{a={quote}{quoted}{quote}}}")[1] == Matcher("a", value)


@given(st.text(st.sampled_from("up{}=!~\"'\\,n \nstat_1é"), max_size=40))
def test_whatever_is_sent_is_a_selector_or_a_query_error(text: str) -> None:
    with suppress(QueryError):
        assert isinstance(parse_selector(text), tuple)


@pytest.mark.parametrize("hostile", ['{a="' + "\\" * 4092, "{" + " " * 4095, "a" * 4095 + "!", '{a="' + '\\"' * 2046])
def test_a_hostile_selector_of_full_length_ends_in_an_error(hostile: str) -> None:
    with pytest.raises(QueryError):
        parse_selector(hostile)


@pytest.mark.parametrize(
    ("params", "name", "labels", "chosen"),
    [
        ([], "up", {"a": "1"}, True),
        ([("metric", "up")], "up", {}, True),
        ([("metric", "up")], "down", {}, False),
        ([("match[]", "up")], "up", {"a": "1"}, True),
        ([("match[]", "up")], "down", {"a": "1"}, False),
        ([("match[]", '{a="1"}')], "up", {"a": "1"}, True),
        ([("match[]", '{a="1"}')], "up", {"a": "2"}, False),
        ([("match[]", '{a!="1"}')], "up", {"a": "1"}, False),
        ([("match[]", '{a!="1"}')], "up", {}, True),
        ([("match[]", '{a=""}')], "up", {}, True),
        ([("match[]", '{a=""}')], "up", {"a": "1"}, False),
        ([("match[]", '{a!=""}')], "up", {}, False),
        ([("match[]", 'up{a="1",b="2"}')], "up", {"a": "1", "b": "3"}, False),
        ([("match[]", 'up{a="1"}'), ("match[]", 'up{a="2"}')], "up", {"a": "2"}, True),
        ([("match[]", 'up{a="1"}'), ("match[]", 'up{a="2"}')], "up", {"a": "3"}, False),
        ([("match[]", '{__name__!="up"}')], "up", {}, False),
        ([("metric", "up"), ("match[]", "down")], "up", {}, False),
        ([("match[]", "{}")], "up", {}, True),
    ],
)
def test_a_series_is_chosen_if_its_metric_is_and_any_selector_fits(
    params: list[tuple[str, str]], name: str, labels: dict[str, str], chosen: bool
) -> None:
    assert parse(*params).selects({name}, labels) is chosen


@pytest.mark.parametrize(
    ("params", "complaint"),
    [
        ([("windw", "5m")], "parameter 'windw' is unknown; use window, name[], stat, match[], by, source[], collect[]"),
        ([("nam[]", "up")], "parameter 'nam[]' is unknown; use window, name[]"),
        ([("window", "5m"), ("window", "5m")], "window='5m' is one of 2 values of window; give it once"),
        ([("window", "")], "window='' is not a duration; use numbers with ms, s, m, h, d, w"),
        ([("window", "0")], "window='0' is out of range; give more than 0 and at most 100 years"),
        ([("by", "a"), ("by", "b")], "by='a' is one of 2 values of by; give it once"),
        ([("by", "a,b")], "by='a,b' is not a label name; give one label, such as by=node_id"),
        ([("by", "")], "by='' is not a label name"),
        ([("by", "a:b")], "by='a:b' is not a label name"),
        ([("by", "__name__")], "by='__name__' is not a label name"),
        ([("by", "a\n")], "by='a\\n' is not a label name"),
        ([("stat", "median")], "stat='median' is unknown; use avg, min, max, sum, p50, p95, p99, rate, increase"),
        ([("stat", "avg,")], "stat='' is unknown; use avg"),
        ([("metric", "a,b")], "metric='a,b' is not a name; repeat metric for several, or leave it out"),
        ([("source[]", "")], "source[]='' is not a name"),
        ([("match[]", "a")] * 65, "match[] is given 65 times; at most 64"),
        ([("match[]", "{" + 'a="",' * 129 + "}"), ("match[]", "{" + 'b="",' * 128 + "}")],
         "match[] holds 257 matchers; at most 256 together"),
        ([("metric", f"m{one}") for one in range(257)], "metric is given 257 times; at most 256"),
    ],
)  # fmt: skip
def test_a_wrong_parameter_is_told_what_would_be_right(params: list[tuple[str, str]], complaint: str) -> None:
    with pytest.raises(QueryError, match=re.escape(complaint)):
        parse(*params)


def test_a_query_string_is_read_as_forms_are() -> None:
    assert parse_query_string(b"window=5m&&match%5B%5D=a+%7Bb%3D%22%C3%A9%22%7D&by&x=a=b") == [
        ("window", "5m"), ("match[]", 'a {b="é"}'), ("by", ""), ("x", "a=b"),
    ]  # fmt: skip
    assert parse_query_string(b"") == []


@pytest.mark.parametrize(
    ("raw", "complaint"),
    [
        (b"metric=%zz", "'metric=%zz' has '%zz'; write % as %25, or give two hexadecimal digits after it"),
        (b"metric=a%", "'metric=a%' has '%'; write % as %25"),
        (b"%4=a", "'%4=a' has '%4'; write % as %25"),
        (b"metric=%ff", "'metric=%ff' is not UTF-8; write é, for example, as %C3%A9"),
        (b"metric=\xff", r"'metric=\\xff' is not UTF-8"),
        (b"metric=%ed%a0%80", "is not UTF-8"),
    ],
)
def test_what_is_no_percent_encoding_of_utf_8_is_told_so(raw: bytes, complaint: str) -> None:
    with pytest.raises(QueryError, match=re.escape(complaint)):
        parse_query_string(raw)


def test_limits_are_inclusive() -> None:
    assert len(parse(*[("match[]", f"m{one}") for one in range(64)]).matchers) == 64
    assert len(parse(("match[]", "a" * 4096)).matchers[0][0].value) == 4096


def test_an_error_never_repeats_a_long_request() -> None:
    with pytest.raises(QueryError) as caught:
        parse(("x" * 60_000, ""))
    assert len(str(caught.value)) < 400


def test_the_plain_endpoint_takes_names_and_sources_only() -> None:
    assert parse_metrics_query([]) == MetricsQuery((), ())
    assert parse_metrics_query([("name[]", "up"), ("source[]", "node"), ("name[]", "down")]) == (
        MetricsQuery(names=("up", "down"), sources=("node",))
    )
    with pytest.raises(QueryError, match=re.escape("parameter 'window' is unknown; use name[], source[]")):
        parse_metrics_query([("window", "5m")])
    with pytest.raises(QueryError, match=re.escape("name[]='a b' is not a name")):
        parse_metrics_query([("name[]", "a b")])
