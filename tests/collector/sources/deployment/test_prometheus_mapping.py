"""Mappings: the ready ones, those that users write, and what is no mapping."""

from __future__ import annotations

import pytest

from collector.sources.deployment.prometheus_mapping import PageMapping, Selector, parse_mapping, ready_mappings
from shm.errors import ConfigurationError
from tests.docs.markdown import read, table


def test_the_ready_mappings_are_those_of_three_proxies() -> None:
    ready = ready_mappings()
    assert list(ready) == ["traefik", "traefik_routers", "envoy", "caddy"]
    assert [one.latency_ms for one in ready.values()] == [1000.0, 1000.0, 1.0, 1000.0]


def test_the_documentation_names_what_each_ready_mapping_reads() -> None:
    titles = ("mapping", "request rate", "error rate", "latency", "replicas", "tested with")
    rows = {row["mapping"]: row for row in table(read("docs/metrics.md"), *titles)}
    assert list(rows) == list(ready_mappings())
    for name, mapping in ready_mappings().items():
        row = rows[name]
        assert [one.name for one in mapping.requests if one.name not in row["request rate"]] == []
        assert [
            one.name for one in mapping.errors if one.name not in f"{row['request rate']} {row['error rate']}"
        ] == []
        assert mapping.latency is not None
        assert mapping.latency.name in row["latency"]
        assert [one.name for one in mapping.replicas if one.name not in row["replicas"]] == []
        assert bool(mapping.replicas) == bool(row["replicas"])


def test_a_mapping_is_read_from_its_parts() -> None:
    assert parse_mapping(
        "shop deployment_id=service until=@ requests=a_total{code=*,method=G?T}+b_total errors=a_total{code=5*}"
        "  latency_seconds=c_seconds{code=2*} replicas=d replica_series=e{}"
    ) == PageMapping(
        "shop",
        "service",
        "@",
        requests=(Selector("a_total", (("code", "*"), ("method", "G?T"))), Selector("b_total")),
        errors=(Selector("a_total", (("code", "5*"),)),),
        latency=Selector("c_seconds", (("code", "2*"),)),
        latency_ms=1000.0,
        replicas=(Selector("d"),),
        replica_series=(Selector("e"),),
    )
    assert parse_mapping("x deployment_id=a latency_milliseconds=b").latency_ms == 1.0


def test_a_histogram_is_three_samples_by_name() -> None:
    roles = list(parse_mapping("x deployment_id=a requests=r latency_seconds=b{c=d}").roles())
    globs = (("c", "d"),)
    assert roles == [
        ("requests", Selector("r")),
        ("latency", Selector("b_bucket", globs)),
        ("latency", Selector("b_sum", globs)),
        ("latency", Selector("b_count", globs)),
    ]


def test_labels_are_taken_by_globs_and_one_that_is_not_there_is_empty() -> None:
    selector = Selector("a", (("code", "5*"), ("kind", "")))
    assert selector.takes({"code": "500"})
    assert not selector.takes({"code": "404"})
    assert not selector.takes({"code": "500", "kind": "x"})
    assert not selector.takes({})


def test_the_deployment_id_is_a_label_up_to_a_text() -> None:
    mapping = parse_mapping("x deployment_id=service until=@ requests=r")
    assert [mapping.id_of({"service": value}) for value in ("web@docker", "web", "@docker", "")] == [
        "web",
        "web",
        "",
        "",
    ]
    assert parse_mapping("x deployment_id=service requests=r").id_of({"service": "web@docker"}) == "web@docker"
    assert mapping.id_of({"other": "web"}) == ""


@pytest.mark.parametrize(
    ("text", "reason"),
    [
        ("", "begins with no name"),
        ("deployment_id=a requests=b", "begins with no name"),
        ("Shop deployment_id=a requests=b", "begins with no name"),
        ("shop", "no deployment_id"),
        ("shop requests=b", "no deployment_id"),
        ("shop deployment_id=1a requests=b", "no deployment_id"),
        ("shop deployment_id=a", "maps nothing"),
        ("shop deployment_id=a until=@", "maps nothing"),
        ("shop deployment_id=a request=b", "'request=b' is none of its parts"),
        ("shop deployment_id=a requests=", "'requests=' is none of its parts"),
        ("shop deployment_id=a requests", "'requests' is none of its parts"),
        ("shop deployment_id=a requests=b requests=c", "requests is given twice"),
        ("shop deployment_id=a latency_seconds=b latency_milliseconds=c", "two units"),
        ("shop deployment_id=a latency_seconds=b+c", "more than one histogram"),
        ("shop deployment_id=a requests=1b", "names no series"),
        ("shop deployment_id=a requests=b+", "names no series"),
        ("shop deployment_id=a requests=+b", "names no series"),
        ("shop deployment_id=a requests=b{c=d", "names no series"),
        ("shop deployment_id=a requests=b{c=d}e", "names no series"),
        ("shop deployment_id=a requests=b{c}", "'c' is no label with a glob"),
        ("shop deployment_id=a requests=b{c=d,1=e}", "'1=e' is no label with a glob"),
    ],
)
def test_what_is_no_mapping_is_refused_with_the_key_and_a_remedy(text: str, reason: str) -> None:
    with pytest.raises(ConfigurationError, match=reason) as caught:
        parse_mapping(text)
    assert "[source.deployment] prometheus_mappings" in str(caught.value)
    assert "; " in str(caught.value)
