"""The page of a real Envoy by its ready mapping."""

from __future__ import annotations

import re
from collections.abc import Iterator
from pathlib import Path

import pytest

from collector.sources.deployment.prometheus_mapping import READY
from collector.sources.deployment.provider import Deployment, ProviderError
from tests.collector.sources.deployment.proxies import Asked, Backends, Proxy, Site, check_latencies, rates, written
from tests.docs.markdown import read
from tests.programs import find_program, free_port, wait_until

pytestmark = pytest.mark.real

_HTTP = "type.googleapis.com/envoy.extensions.filters"
_TIME = "envoy_cluster_upstream_rq_time"
# Answered by a member, or by Envoy itself: 504 for one that is too slow, 503 for one that is gone, and for none.
_STATUS = {"shop": 200, "bad": 500, "missing": 404, "late": 200, "silent": 504, "gone": 503, "empty": 503, "named": 200}
_MEASURED = ("shop", "bad", "missing", "late", "named")
_QUIET = dict.fromkeys(_STATUS, (0.0, 0.0))


def _address(port: int) -> dict[str, object]:
    return {"socket_address": {"address": "127.0.0.1", "port_value": port}}


@pytest.fixture
def envoy(tmp_path: Path) -> Iterator[Proxy]:
    """Envoy before servers of all kinds: clusters by their names, at paths of their names. ``shop`` has a health check,
    ``silent`` 0.2 s, and of ``bad`` and ``gone`` each request is tried three times.
    """
    program = find_program("envoy")
    with Backends() as backends:
        yield _envoy(program, tmp_path, backends)


def _envoy(program: str, folder: Path, backends: Backends) -> Proxy:
    front, admin = free_port(), free_port()

    def cluster(name: str, *ports: int, **more: object) -> dict[str, object]:
        members = [{"endpoint": {"address": _address(port)}} for port in ports]
        return {
            "name": name,
            "connect_timeout": "5s",
            "load_assignment": {"cluster_name": name, "endpoints": [{"lb_endpoints": members}]},
            **more,
        }

    health = {
        "timeout": "5s",
        "interval": "0.5s",
        "healthy_threshold": 1,
        "unhealthy_threshold": 1,
        "http_health_check": {"path": "/"},
    }
    again = {"retry_on": "5xx", "num_retries": 2}
    clusters = [
        cluster("shop", backends.good, backends.gone, health_checks=[health]),
        cluster("bad", backends.bad),
        cluster("missing", backends.missing),
        cluster("late", backends.late),
        cluster("silent", backends.silent),
        cluster("gone", backends.gone),
        cluster("empty"),
        cluster("dotted.v1", backends.good),
        cluster("named.v1", backends.good, alt_stat_name="named"),
    ]
    routes: dict[str, dict[str, object]] = {str(one["name"]): {"cluster": one["name"]} for one in clusters}
    routes["bad"]["retry_policy"] = routes["gone"]["retry_policy"] = again
    routes["silent"]["timeout"] = "0.2s"
    routes["named"] = routes.pop("named.v1")
    manager = {
        "@type": f"{_HTTP}.network.http_connection_manager.v3.HttpConnectionManager",
        "stat_prefix": "web",
        "route_config": {
            "virtual_hosts": [
                {
                    "name": "all",
                    "domains": ["*"],
                    "routes": [{"match": {"path": f"/{name}"}, "route": route} for name, route in routes.items()],
                }
            ]
        },
        "http_filters": [
            {"name": "envoy.filters.http.router", "typed_config": {"@type": f"{_HTTP}.http.router.v3.Router"}}
        ],
    }
    filters = [{"name": "envoy.filters.network.http_connection_manager", "typed_config": manager}]
    bootstrap = {
        "admin": {"address": _address(admin)},
        "stats_flush_interval": "0.1s",  # its histograms are as old as that
        "static_resources": {
            "listeners": [{"address": _address(front), "filter_chains": [{"filters": filters}]}],
            "clusters": clusters,
        },
    }
    configuration = written(folder / "envoy.yaml", bootstrap)
    # Two runs at once on one host would be two epochs of one Envoy, but for the first of these.
    command = [program, "--disable-hot-restart", "--concurrency", "2", "-c", configuration]
    return Proxy(command, folder, Site(front, f"http://127.0.0.1:{admin}/stats/prometheus"), _checked)


def _checked(site: Site) -> bool:
    """Whether it has checked the health of both members of ``shop``."""
    checks = ("envoy_cluster_health_check_success_total", "envoy_cluster_health_check_failure_total")
    return all(site.page().total(one, envoy_cluster_name="shop") for one in checks)


def _get(site: Site, **counts: int) -> None:
    for name, count in counts.items():
        site.get(f"/{name}", count, _STATUS[name])


def _counted(site: Site, **counts: int) -> None:
    """Until the page has so many requests of each cluster in all since it began, in counters and histograms."""

    def all_of_them() -> bool:
        page = site.page()
        return all(
            page.total("envoy_cluster_upstream_rq_xx_total", envoy_cluster_name=name) == count
            and page.total(f"{_TIME}_count", envoy_cluster_name=name) == (count if name in _MEASURED else 0)
            for name, count in counts.items()
        )

    wait_until(all_of_them, 30, f"the requests {counts}")


def test_a_cluster_gives_requests_5xx_latencies_and_members_that_are_healthy(envoy: Proxy) -> None:
    with envoy.running() as site:
        asked = Asked(site.url, READY["envoy"])
        # Without a health check a member that is gone passes for a healthy one. A name with a dot is cut at it, and
        # what is behind becomes part of the names of the series: without another for the page, none of them is known.
        replicas = {**dict.fromkeys(_STATUS, 1.0), "empty": 0.0}
        assert asked.after(0.0) == {name: Deployment(name, count) for name, count in replicas.items()}
        assert rates(asked.after(1.0)) == _QUIET
        before = site.page()
        _get(site, shop=6, bad=2, missing=2, late=2, silent=2, named=1)
        _counted(site, shop=6, bad=2, missing=2, late=2, silent=2, named=1)
        found, now = asked.after(4.0), site.page()
        assert rates(found) == {
            **_QUIET, "shop": (1.5, 0.0), "bad": (0.5, 0.5), "missing": (0.5, 0.0), "late": (0.5, 0.0),
            "silent": (0.5, 0.5), "named": (0.25, 0.0),
        }  # fmt: skip
        for name in _MEASURED:
            check_latencies(found[name], before, now, _TIME, 1.0, envoy_cluster_name=name)
        # Its server takes 350 ms; one that took too long is not measured.
        assert [bound for bound, _ in found["late"].latency_ms.counts if bound < 350] == []  # type: ignore[union-attr]
        assert found["silent"].latency_ms is None
        site.get("/dotted.v1", 3, 200)
        _get(site, shop=1, bad=1, late=1)
        _counted(site, shop=7, bad=3, late=3)
        before, (found, now) = now, (asked.after(1.0), site.page())
        assert rates(found) == {**_QUIET, "shop": (1.0, 0.0), "bad": (1.0, 1.0), "late": (1.0, 0.0)}
        for name in ("shop", "bad", "late"):
            check_latencies(found[name], before, now, _TIME, 1.0, envoy_cluster_name=name)
        assert asked.after(1.0)["shop"] == Deployment("shop", 1.0, 0.0, 0.0, None, keeps_latency=True)


def test_the_filter_of_the_documentation_leaves_what_is_read(envoy: Proxy) -> None:
    [query] = re.findall(r'"http://localhost:9901/stats/prometheus(\?filter=[^"]+)"', read("docs/configuration.md"))
    with envoy.running() as site:
        pages = [Asked(url, READY["envoy"]) for url in (site.url, site.url + query)]
        assert pages[0].after(0.0) == pages[1].after(0.0)
        _get(site, shop=4, bad=2, missing=1, gone=1)
        _counted(site, shop=4, bad=2, missing=1, gone=1)
        found = pages[1].after(1.0)
        assert found == pages[0].after(1.0)
        assert rates(found) == {
            **_QUIET,
            "shop": (4.0, 0.0),
            "bad": (2.0, 2.0),
            "missing": (1.0, 0.0),
            "gone": (1.0, 1.0),
        }
        assert found["shop"].latency_ms is not None
        names = {name for name, _ in Site(site.front, site.url + query).page().samples}
        assert len(names) < len({name for name, _ in site.page().samples}) / 10


def test_a_request_that_reaches_nobody_is_a_request_and_an_error(envoy: Proxy) -> None:
    """Once each, however often it was tried."""
    with envoy.running() as site:
        asked = Asked(site.url, READY["envoy"])
        asked.after(0.0)
        _get(site, gone=3, empty=2)
        _counted(site, gone=3, empty=2)
        found = asked.after(1.0)
        assert rates(found) == {**_QUIET, "gone": (3.0, 3.0), "empty": (2.0, 2.0)}
        assert [found[name].latency_ms for name in ("gone", "empty")] == [None, None]


def test_after_a_restart_what_it_counted_anew_came_since(envoy: Proxy) -> None:
    with envoy.running() as site:
        asked = Asked(site.url, READY["envoy"])
        _get(site, shop=9, bad=5)
        _counted(site, shop=9, bad=5)
        asked.after(0.0)
    with pytest.raises(ProviderError, match="no page for Prometheus"):
        asked.after(1.0)
    with envoy.running() as site:
        before = site.page()
        _get(site, shop=4, bad=2)
        _counted(site, shop=4, bad=2)
        # No collection saw the page without them: the counters fell, in the two seconds since the last that did.
        found, now = asked.after(1.0), site.page()
        assert rates(found) == {**_QUIET, "shop": (2.0, 0.0), "bad": (1.0, 1.0)}
        for name in ("shop", "bad"):
            check_latencies(found[name], before, now, _TIME, 1.0, envoy_cluster_name=name)
    with envoy.running() as site:
        assert rates(asked.after(2.0)) == _QUIET
        _get(site, shop=7, bad=3)
        _counted(site, shop=7, bad=3)
        assert rates(asked.after(1.0)) == {**_QUIET, "shop": (7.0, 0.0), "bad": (3.0, 3.0)}
