"""Names beyond the classic characters, by each scheme, on pages that clients read."""

from __future__ import annotations

import re
from pathlib import Path

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from prometheus_client.openmetrics.exposition import escape_metric_name

from collector.frame.collector import MetricCollector
from exporter.exposition.names import Escaping, escaped, escaped_label, quoted, series_text, stem
from exporter.http.negotiation import Format
from shm.metric import Metric
from tests.exporter.scene import Scene, get, samples_of
from tests.exporter.test_main import exporter as running_exporter
from tests.programs import wait_until
from tests.prometheus import scraping

ACCEPT = {
    Format.TEXT: "text/plain;version=1.0.0;escaping={}",
    Format.OPENMETRICS: "application/openmetrics-text;version=1.0.0;escaping={}",
}
SCHEMES = [one.value for one in Escaping]


@pytest.mark.parametrize(
    ("name", "underscores", "dots", "values"),
    [
        ("http_requests:rate", "http_requests:rate", "http_requests:rate", "http_requests:rate"),
        ("http.requests", "http_requests", "http_dot_requests", "U__http_2e_requests"),
        ("http.status_code", "http_status_code", "http_dot_status__code", "U__http_2e_status__code"),
        ("no:escaping/1", "no:escaping_1", "no:escaping__1", "U__no:escaping_2f_1"),
        ("9.9", "__9", "___dot_9", "U___39__2e_9"),
        ("größe", "gr__e", "gr____e", "U__gr_f6__df_e"),
        ("😀", "_", "__", "U___1f600_"),
    ],
)
def test_each_scheme_escapes_what_is_not_classic_and_only_that(
    name: str, underscores: str, dots: str, values: str
) -> None:
    assert escaped(name, Escaping.ALLOW_UTF_8) == name
    assert escaped(name, Escaping.UNDERSCORES) == underscores
    assert escaped(name, Escaping.DOTS) == dots
    assert escaped(name, Escaping.VALUES) == values


@given(st.text(min_size=1), st.sampled_from([Escaping.UNDERSCORES, Escaping.VALUES]))
def test_names_are_escaped_as_prometheus_client_does_it(name: str, escaping: Escaping) -> None:
    assert escaped(name, escaping) == escape_metric_name(name, escaping.value)


@given(st.text(min_size=1))
def test_every_scheme_but_utf_8_gives_classic_names_and_a_label_has_no_colon(name: str) -> None:
    for escaping in Escaping:
        if escaping is not Escaping.ALLOW_UTF_8:
            assert re.fullmatch("[a-zA-Z_:][a-zA-Z0-9_:]*", escaped(name, escaping))
            assert re.fullmatch("(?!__)[a-zA-Z_][a-zA-Z0-9_]*", escaped_label(name, escaping))


@pytest.mark.parametrize(
    ("family", "ending", "labels", "text"),
    [
        ("up", "_total", [], "up_total"),
        ("up", "", [("a", "1")], 'up{a="1"}'),
        ("http.requests", "", [], '{"http.requests"}'),
        ("http.requests", "_total", [("a", "1"), ("b.c", '"')], '{"http.requests_total",a="1","b.c"="\\""}'),
        ("up", "", [("a:b", "1")], 'up{"a:b"="1"}'),
        ('a"\\', "", [], '{"a\\"\\\\"}'),
    ],
)
def test_a_name_that_is_not_classic_is_in_quotes_among_its_labels(
    family: str, ending: str, labels: list[tuple[str, str]], text: str
) -> None:
    assert series_text(family, "untyped", ending, labels, Escaping.ALLOW_UTF_8) == text


def test_the_total_of_a_counter_is_escaped_with_its_name_and_ends_it_still() -> None:
    assert stem("a.b", "counter", Escaping.VALUES) + "_total" == "U__a_2e_b__total"
    assert stem("a.b", "histogram", Escaping.VALUES) == "U__a_2e_b"
    assert quoted("a.b_total") == '"a.b_total"'


# ---- pages -------------------------------------------------------------------------------------------------------

METRICS = (
    Metric("http.requests_total", "counter", "R.", "requests", ("http.method",)),
    Metric("http.seconds", "histogram", "S.", "seconds", (), (1.0,)),
    Metric("größe", "gauge", 'In "m".'),
    Metric("plain", "gauge", "P.", "", ("a.b",)),
)


def fill(scene: Scene) -> None:
    scene.collector("s", *METRICS)
    for _ in range(2):
        scene.commit(
            "s", ("http.requests_total", 7.0, {"http.method": "GET"}), ("http.seconds", 0.5), ("größe", 2.0),
            ("plain", 3.0, {"a.b": "x"}),
        )  # fmt: skip
        scene.advance(1)


@pytest.mark.parametrize("form", Format)
def test_a_client_that_takes_utf_8_gets_the_names_as_they_are(scene: Scene, form: Format) -> None:
    fill(scene)
    exporter = scene.exporter(timestamps="none")
    accept = ACCEPT[form].format("allow-utf-8")
    answer = get(exporter, "/metrics?source[]=s", accept=accept)
    assert answer.headers["content-type"] == f"{form.value}; version=1.0.0; charset=utf-8; escaping=allow-utf-8"
    family = "http.requests" + "_total" * (form is Format.TEXT)
    help_text = r"In \"m\"." if form is Format.OPENMETRICS else 'In "m".'
    assert answer.text.removesuffix("# EOF\n") == (
        f'# HELP "größe" {help_text}\n# TYPE "größe" gauge\n{{"größe"}} 2.0\n'
        f'# HELP "{family}" R.\n# TYPE "{family}" counter\n{{"http.requests_total","http.method"="GET"}} 7.0\n'
        '# HELP "http.seconds" S.\n# TYPE "http.seconds" histogram\n{"http.seconds_bucket",le="1.0"} 2.0\n'
        '{"http.seconds_bucket",le="+Inf"} 2.0\n{"http.seconds_count"} 2.0\n{"http.seconds_sum"} 1.0\n'
        '# HELP plain P.\n# TYPE plain gauge\nplain{"a.b"="x"} 3.0\n'
    )
    found = samples_of(answer.text, form)
    assert found["http.requests_total", (("http.method", "GET"),)] == 7.0
    aggregated = get(exporter, '/metrics/aggregated?stat=max&by="a.b"', accept=accept).text
    assert samples_of(aggregated, form)["plain", (("a.b", "x"), ("stat", "max"))] == 3.0
    aggregated = get(exporter, '/metrics/aggregated?stat=max&match[]={"größe"}', accept=accept).text
    assert samples_of(aggregated, form)["größe", (("stat", "max"),)] == 2.0


@pytest.mark.parametrize("form", Format)
@pytest.mark.parametrize(
    ("scheme", "names"),
    [
        ("underscores", ("http_requests_total", "http_method", "http_seconds_sum", "gr__e")),
        ("dots", ("http_dot_requests__total", "http_dot_method", "http_dot_seconds_sum", "gr____e")),
        ("values", ("U__http_2e_requests__total", "U__http_2e_method", "U__http_2e_seconds_sum", "U__gr_f6__df_e")),
    ],
)
def test_a_client_with_another_scheme_gets_classic_names(
    scene: Scene, form: Format, scheme: str, names: tuple[str, ...]
) -> None:
    fill(scene)
    exporter = scene.exporter()
    accept = ACCEPT[form].format(scheme)
    for other in SCHEMES:  # whatever was asked for before
        get(exporter, "/metrics?source[]=s", accept=ACCEPT[form].format(other))
    answer = get(exporter, "/metrics?source[]=s", accept=accept)
    assert answer.headers["content-type"].endswith(f"; version=1.0.0; charset=utf-8; escaping={scheme}")
    counter, method, total, size = names
    found = samples_of(answer.text, form)
    assert found[counter, ((method, "GET"),)] == 7.0
    assert found[total, ()] == 1.0
    assert found[size, ()] == 2.0
    assert answer.text.isascii()
    aggregated = get(exporter, "/metrics/aggregated?stat=max", accept=accept).text
    assert samples_of(aggregated, form)[size, (("stat", "max"),)] == 2.0


def test_a_client_that_asks_for_nothing_gets_underscores_and_finds_the_metric_by_either_name(scene: Scene) -> None:
    fill(scene)
    exporter = scene.exporter(timestamps="none")
    for name in ("http.requests", "http.requests_total", "http_requests", "http_requests_total"):
        page = get(exporter, f"/metrics?name[]={name}")
        assert page.headers["content-type"] == "text/plain; version=0.0.4; charset=utf-8"
        assert page.text.endswith('\nhttp_requests_total{http_method="GET"} 7.0\n')
        assert (
            'http_requests{http_method="GET",stat="rate"}' in get(exporter, f"/metrics/aggregated?name[]={name}").text
        )


# ---- names that are equal with escapes ---------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("one", "other"),
    [
        (Metric("a.b", "gauge", ""), Metric("a_b", "gauge", "")),
        (Metric("a.b", "gauge", ""), Metric("a-b", "gauge", "")),
        (Metric("a.b", "gauge", ""), Metric("a_dot_b", "gauge", "")),
        (Metric("a.b", "gauge", ""), Metric("U__a_2e_b", "gauge", "")),
        (Metric("a.b_total", "counter", ""), Metric("a_b", "gauge", "")),
        (Metric("a.b", "histogram", "", buckets=(1.0,)), Metric("a_b_sum", "untyped", "")),
        (Metric("x", "gauge", "", "", ("a.b",)), Metric("x", "gauge", "", "", ("a_b",))),
        (Metric("x", "gauge", "", "", ("a.b",)), Metric("x", "gauge", "", "", ("a-b", "c"))),
        (Metric("x", "gauge", "", "", ("a.b", "a_dot_b")), Metric("y", "gauge", "")),
    ],
)
def test_of_two_names_that_some_client_would_get_as_one_every_page_has_one_and_the_other_is_named(
    scene: Scene, one: Metric, other: Metric
) -> None:
    for source, metric in (("one", one), ("two", other)):
        scene.collector(source, metric)
        scene.commit(source, (metric.name, 1.0, dict.fromkeys(metric.label_names, "v")))
    exporter = scene.exporter()
    counts = set()
    for path in ("/metrics?source[]=one&source[]=two", "/metrics/aggregated?stat=max,rate"):
        for form, accept in ACCEPT.items():
            for scheme in SCHEMES:
                page = get(exporter, path, accept=accept.format(scheme)).text
                counts.add(len(samples_of(page, form)) if "aggregated" not in path else -1)
                families = re.findall(r"^# TYPE (\S+)", page, re.MULTILINE)
                assert len(families) == len(set(families))
    assert len(counts) == 2, "what a page has does not depend on the client"
    [conflict] = get(exporter, "/stats").json()["conflicts"]
    assert conflict["series"] == 1
    assert "with escapes" in conflict["reason"]


_NAMES = st.text(st.sampled_from("a._-9:éU"), min_size=1, max_size=4)


@settings(suppress_health_check=[HealthCheck.function_scoped_fixture], max_examples=30)
@given(st.lists(st.tuples(_NAMES, st.sampled_from(["gauge", "counter"]), _NAMES), min_size=1, max_size=6))
def test_no_names_make_a_page_that_has_a_series_twice(scene: Scene, names: list[tuple[str, str, str]]) -> None:
    metrics: dict[str, Metric] = {}
    for name, kind, label in names:
        if not label.startswith("__"):
            metrics.setdefault(name, Metric(name, kind, "", "", (label,)))  # type: ignore[arg-type]
    scene.close()
    if not metrics:
        return
    fresh = Scene(scene.namespace)
    try:
        fresh.collector("s", *metrics.values())
        fresh.commit("s", *((one.name, 1.0, {one.label_names[0]: "v"}) for one in metrics.values()))
        exporter = fresh.exporter()
        for form, accept in ACCEPT.items():
            for scheme in SCHEMES:
                samples_of(get(exporter, "/metrics", accept=accept.format(scheme)).text, form)
    finally:
        fresh.close()


# ---- a real server -----------------------------------------------------------------------------------------------


@pytest.mark.real
def test_a_prometheus_before_utf_8_names_takes_all_of_both_pages(namespace: str, tmp_path: Path) -> None:
    with (
        MetricCollector("s", namespace=namespace, capacity=64) as collector,
        running_exporter(namespace, tmp_path) as (_, port),
        scraping(tmp_path, port) as prometheus,
    ):
        collector.register(*METRICS, Metric("http_requests_total", "counter", "Hidden."))

        def scraped() -> bool:
            collector.record_metric("http.requests_total", 7.0, {"http.method": "GET"})
            collector.record_metric("http.seconds", 0.5)
            collector.record_metric("größe", 2.0)
            collector.record_metric("plain", 3.0, {"a.b": "x"})
            collector.record_metric("http_requests_total", 9.0)
            collector.commit()
            return all(
                prometheus.query(query)
                for query in (
                    'http_requests_total{http_method="GET"} == 7', "gr__e == 2", 'plain{a_b="x"} == 3',
                    'gr__e{stat="max"} == 2', "http_seconds_sum > 0", "min(up) == 1",
                )
            )  # fmt: skip

        wait_until(scraped, 60, "all of it in Prometheus")
        assert prometheus.query("count(http_requests_total)")[0]["value"][1] == "1"
