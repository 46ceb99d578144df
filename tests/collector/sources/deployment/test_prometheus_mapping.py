"""[source.deployment.prometheus.NAME]: ready mappings, those of a table, and what is no mapping; the old spelling."""

from __future__ import annotations

import tomllib
from typing import Any

import pytest

from collector.sources.deployment import DeploymentOptions
from collector.sources.deployment.prometheus_mapping import READY, PageMapping, PrometheusOptions, Series, mappings
from fogmetrics.settings.reader import Where, read_table
from shm.errors import ConfigurationError
from tests.docs.markdown import read, table


def options(text: str) -> DeploymentOptions:
    """As a collector reads [source.deployment], the old spelling included."""
    document: dict[str, Any] = tomllib.loads(text)["source"]["deployment"]
    present, old = DeploymentOptions.modernized(document)
    found = read_table(DeploymentOptions, present, Where("f.toml", "source.deployment"))
    assert bool(old) == (document is not present)
    return found


def page(keys: str) -> PageMapping:
    """The mapping of a page with those keys."""
    text = f'[source.deployment.prometheus.shop]\nurl = "http://a/"\n{keys}\n'
    return mappings(options(text).prometheus)["shop"]


def test_the_ready_mappings_are_those_of_three_proxies() -> None:
    assert list(READY) == ["traefik", "traefik_routers", "envoy", "caddy"]
    assert [one.latency_ms for one in READY.values()] == [1000.0, 1000.0, 1.0, 1000.0]


def test_the_documentation_names_what_each_ready_mapping_reads() -> None:
    titles = ("mapping", "request rate", "error rate", "latency", "replicas", "tested with")
    rows = {row["mapping"]: row for row in table(read("docs/metrics.md"), *titles)}
    assert list(rows) == list(READY)
    for name, mapping in READY.items():
        row = rows[name]
        assert [one.name for one in mapping.requests if one.name not in row["request rate"]] == []
        assert [
            one.name for one in mapping.errors if one.name not in f"{row['request rate']} {row['error rate']}"
        ] == []
        latency = mapping.latency_seconds or mapping.latency_milliseconds
        assert latency is not None
        assert latency.name in row["latency"]
        assert [one.name for one in mapping.replicas if one.name not in row["replicas"]] == []
        assert bool(mapping.replicas) == bool(row["replicas"])


OWN = """
deployment_id = "service"
until = "@"
requests = [{name = "a_total", labels = {code = "*", method = "G?T"}}, {name = "b_total"}]
errors = [{name = "a_total", labels = {code = "5*"}}]
latency_seconds = {name = "c_seconds", labels = {code = "2*"}}
replicas = [{name = "d"}]
replica_series = [{name = "e"}]
"""


def test_a_mapping_is_read_from_the_keys_of_a_table() -> None:
    found = page(OWN)
    assert found == PrometheusOptions(
        "service",
        "@",
        requests=(Series("a_total", {"code": "*", "method": "G?T"}), Series("b_total")),
        errors=(Series("a_total", {"code": "5*"}),),
        latency_seconds=Series("c_seconds", {"code": "2*"}),
        replicas=(Series("d"),),
        replica_series=(Series("e"),),
        url="http://a/",
    )
    assert found.latency_ms == 1000.0
    assert page('deployment_id = "a"\nlatency_milliseconds = {name = "b"}').latency_ms == 1.0


def test_a_table_without_series_has_the_mapping_of_another_table_or_a_ready_one() -> None:
    found = mappings(
        {
            "traefik": PrometheusOptions(url="http://a/"),
            "edge": PrometheusOptions(url="http://b/", mapping="traefik"),
            "envoy": PrometheusOptions("other", requests=(Series("x"),), url="http://c/"),
            "inner": PrometheusOptions(url="http://d/", mapping="envoy"),
        }
    )
    assert [one.deployment_id for one in found.values()] == ["service", "service", "other", "other"]


def test_a_histogram_is_three_samples_by_name() -> None:
    roles = list(
        page(
            'deployment_id = "a"\nrequests = [{name = "r"}]\nlatency_seconds = {name = "b", labels = {c = "d"}}'
        ).roles()
    )
    assert roles == [
        ("requests", Series("r")),
        ("latency", Series("b_bucket", {"c": "d"})),
        ("latency", Series("b_sum", {"c": "d"})),
        ("latency", Series("b_count", {"c": "d"})),
    ]


def test_labels_are_taken_by_globs_and_one_that_is_not_there_is_empty() -> None:
    series = Series("a", {"code": "5*", "kind": ""})
    assert series.takes({"code": "500"})
    assert not series.takes({"code": "404"})
    assert not series.takes({"code": "500", "kind": "x"})
    assert not series.takes({})


def test_the_deployment_id_is_a_label_up_to_a_text() -> None:
    mapping = PageMapping("service", until="@")
    assert [mapping.id_of({"service": value}) for value in ("web@docker", "web", "@docker", "")] == [
        "web", "web", "", "",
    ]  # fmt: skip
    assert PageMapping("service").id_of({"service": "web@docker"}) == "web@docker"
    assert mapping.id_of({"other": "web"}) == ""


@pytest.mark.parametrize(
    ("keys", "reason"),
    [
        ('url = ""', "has no url"),
        ("", "maps nothing; give mapping, one of traefik, traefik_routers, envoy, caddy"),
        ('mapping = "nginx"', "has mapping = 'nginx', which does not exist"),
        ('mapping = "envoy"\ndeployment_id = "a"', "has mapping = 'envoy' and a mapping of its own"),
        ('requests = [{name = "b"}]', "has deployment_id = ''"),
        ('deployment_id = "1a"\nrequests = [{name = "b"}]', "has deployment_id = '1a'"),
        ('deployment_id = "a"\nuntil = "@"', "maps no series"),
        ('deployment_id = "a"\nlatency_seconds = {name = "b"}\nlatency_milliseconds = {name = "c"}', "two units"),
        ('deployment_id = "a"\nrequests = [{name = "1b"}]', "names the series '1b'"),
        ('deployment_id = "a"\nrequests = [{labels = {c = "d"}}]', "names the series ''"),
        ('deployment_id = "a"\nrequests = [{name = "b", labels = {"1e" = "f"}}]', "names the label '1e' of b"),
    ],
)
def test_what_is_no_mapping_is_refused_with_the_table_and_a_remedy(keys: str, reason: str) -> None:
    text = f'url = "http://a/"\n{keys}' if not keys.startswith("url") else keys
    tables = options(f"[source.deployment.prometheus.shop]\n{text}\n").prometheus
    with pytest.raises(ConfigurationError) as caught:
        mappings(tables)
    assert str(caught.value).startswith("[source.deployment.prometheus.shop] ")
    assert reason in str(caught.value)
    assert "; give " in str(caught.value) or "; remove " in str(caught.value)


@pytest.mark.parametrize(
    ("keys", "said"),
    [
        ('requests = "b"', "f.toml: [source.deployment.prometheus.shop] requests is 'b'; give a list"),
        ('requests = ["b"]', "make it a table: [source.deployment.prometheus.shop.requests]"),
        ("requests = [{nam = 'b'}]", "has no key 'nam'; did you mean 'name'?"),
        ("request = []", "has no key 'request'; did you mean 'requests'?"),
    ],
)
def test_a_key_of_the_wrong_type_is_refused_by_the_reader(keys: str, said: str) -> None:
    with pytest.raises(ConfigurationError) as caught:
        options(f"[source.deployment.prometheus.shop]\n{keys}\n")
    assert said in str(caught.value)


# ---- the old spelling ----------------------------------------------------------------------------------------

OLD = '''[source.deployment]
prometheus = ["traefik http://joe:s3cret@a/metrics", " shop   unix:///run/shop.sock ", "traefik https://b/"]
prometheus_mappings = [
    """shop deployment_id=service until=@ requests=a_total{code=*,method=G?T}+b_total errors=a_total{code=5*}
    latency_seconds=c_seconds{code=2*} replicas=d replica_series=e{}""",
]
'''


def test_lists_of_strings_are_read_as_the_tables_that_replaced_them() -> None:
    old = options(OLD).prometheus
    new = options(
        f"""
[source.deployment.prometheus.traefik]
url = "http://joe:s3cret@a/metrics"
[source.deployment.prometheus.shop]
url = "unix:///run/shop.sock"
{OWN}
[source.deployment.prometheus.traefik_3]
url = "https://b/"
mapping = "traefik"
"""
    ).prometheus
    assert old == new
    assert list(old) == list(new)


def test_a_note_has_the_table_that_replaces_each_page_without_its_password() -> None:
    _, notes = DeploymentOptions.modernized(tomllib.loads(OLD)["source"]["deployment"])
    assert len(notes) == 3
    assert notes[0] == (
        "[source.deployment] prometheus is a list of strings, the old spelling; write "
        '[source.deployment.prometheus.traefik] url = "http://a/metrics"'
    )
    # What it says to write is the table.
    keys = notes[1].partition("[source.deployment.prometheus.shop] ")[2]
    for part in OWN.strip().splitlines():
        assert part in keys
    assert 'mapping = "traefik"' in notes[2]


@pytest.mark.parametrize(
    ("keys", "said"),
    [
        ('prometheus = ["traefik"]', "begins entry 1 with no mapping, or has no address"),
        ('prometheus = ["traefik http://a/", "http://joe:s3cret@b/"]', "begins entry 2 with no mapping"),
        ('prometheus = ["shop http://a/"]', "begins entry 1 with no mapping"),
        ('prometheus_mappings = ["shop deployment_id=a requests=b requests=c"]', "'requests=c' is no part"),
        ('prometheus_mappings = ["shop deployment_id=a requests"]', "'requests' is no part"),
        ('prometheus_mappings = ["shop deployment_id=a requests=b{c=d"]', "'b{c=d' names no series"),
        ('prometheus_mappings = ["shop deployment_id=a requests=b+"]', "'b+' names no series"),
    ],
)
def test_what_the_old_spelling_does_not_allow_is_refused_with_the_new_one(keys: str, said: str) -> None:
    with pytest.raises(ConfigurationError) as caught:
        options(f"[source.deployment]\n{keys}\n")
    assert said in str(caught.value)
    assert "write it as a table, such as [source.deployment.prometheus.shop]" in str(caught.value)
    assert "s3cret" not in str(caught.value)
