"""The page of a real Traefik by its two ready mappings: one asks the services, one the routers."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest

from collector.sources.deployment.prometheus_mapping import READY
from collector.sources.deployment.provider import Deployment, ProviderError
from tests.collector.sources.deployment.proxies import Asked, Backends, Proxy, Site, check_latencies, rates, written
from tests.programs import find_program, free_port, wait_until

pytestmark = pytest.mark.real

_HEALTH = {"path": "/", "interval": "500ms", "timeout": "5s"}
_SERVICE = "traefik_service_request"
_ROUTER = "traefik_router_request"


@pytest.fixture
def traefik(tmp_path: Path) -> Iterator[Proxy]:
    """Traefik before servers of all kinds: services by their names, at paths of their names. ``shop`` and ``sick`` have
    a health check, which no server of ``sick`` passes; of ``gone`` each request is tried three times.
    """
    program = find_program("traefik")
    with Backends() as backends:
        yield _traefik(program, tmp_path, backends)


def _traefik(program: str, folder: Path, backends: Backends) -> Proxy:
    front, admin = free_port(), free_port()

    def servers(*ports: int, **more: object) -> object:
        return {"loadBalancer": {"servers": [{"url": f"http://127.0.0.1:{port}"} for port in ports], **more}}

    services = {
        "shop": servers(backends.good, backends.gone, healthCheck=_HEALTH),
        "sick": servers(backends.bad, healthCheck=_HEALTH),
        "bad": servers(backends.bad),
        "missing": servers(backends.missing),
        "late": servers(backends.late),
        "silent": servers(backends.silent, serversTransport="hasty"),
        "gone": servers(backends.gone),
    }
    routers = {
        name: {"rule": f"Path(`/{name}`)", "service": name, "middlewares": ["again"] if name == "gone" else []}
        for name in services
    }
    dynamic = {
        "http": {
            "routers": routers,
            "services": services,
            "middlewares": {"again": {"retry": {"attempts": 3, "initialInterval": "10ms"}}},
            "serversTransports": {"hasty": {"forwardingTimeouts": {"responseHeaderTimeout": "200ms"}}},
        }
    }
    static = {
        "global": {"checkNewVersion": False, "sendAnonymousUsage": False},
        "entryPoints": {
            "web": {"address": f"127.0.0.1:{front}"},
            "traefik": {"address": f"127.0.0.1:{admin}"},
        },
        "metrics": {"prometheus": {"addRoutersLabels": True}},
        "providers": {"file": {"filename": written(folder / "services.yml", dynamic), "watch": False}},
    }
    command = [program, f"--configFile={written(folder / 'traefik.yml', static)}"]
    return Proxy(command, folder, Site(front, f"http://127.0.0.1:{admin}/metrics"), _checked)


def _checked(site: Site) -> bool:
    return sorted(site.page().each("traefik_service_server_up")) == [0.0, 0.0, 1.0]


def _counted(site: Site, family: str, count: int) -> None:
    """Until the page has so many requests in counters and histograms: it counts one when it is done with it, which may
    be after its client has the answer.
    """

    def all_of_them() -> bool:
        page = site.page()
        return page.total(f"{family}s_total") == page.total(f"{family}_duration_seconds_count") == count

    wait_until(all_of_them, 30, f"{count} of {family}s")


def test_a_service_gives_requests_5xx_latencies_and_the_servers_that_pass_its_health_check(traefik: Proxy) -> None:
    with traefik.running() as site:
        asked = Asked(site.url, READY["traefik"])
        assert asked.after(0.0) == {"shop": Deployment("shop", 1.0), "sick": Deployment("sick", 0.0)}
        assert asked.after(1.0) == {"shop": Deployment("shop", 1.0), "sick": Deployment("sick", 0.0)}
        for name, status in (
            ("shop", 200),
            ("bad", 500),
            ("missing", 404),
            ("late", 200),
            ("silent", 504),
            ("gone", 502),
        ):
            site.get(f"/{name}", 1, status)
        _counted(site, _SERVICE, 8)
        # The first requests of a service without health check bring it onto the page; what was before is not known.
        assert rates(asked.after(1.0)) == {
            "shop": (1.0, 0.0), "sick": (None, None), "bad": (None, None), "missing": (None, None),
            "late": (None, None), "silent": (None, None), "gone": (None, None),
        }  # fmt: skip
        before = site.page()
        site.get("/shop", 6, 200)
        site.get("/bad", 4, 500)
        site.get("/missing", 2, 404)
        site.get("/late", 2, 200)
        site.get("/silent", 2, 504)
        _counted(site, _SERVICE, 24)
        found, now = asked.after(4.0), site.page()
        assert rates(found) == {
            "shop": (1.5, 0.0), "sick": (None, None), "bad": (1.0, 1.0), "missing": (0.5, 0.0),
            "late": (0.5, 0.0), "silent": (0.5, 0.5), "gone": (0.0, 0.0),
        }  # fmt: skip
        assert {name: one.replicas for name, one in found.items() if one.replicas is not None} == {"shop": 1, "sick": 0}
        for name in ("shop", "bad", "missing", "late", "silent"):
            check_latencies(found[name], before, now, f"{_SERVICE}_duration_seconds", 1000.0, service=f"{name}@file")
        assert [one.latency_ms for one in (found["gone"], found["sick"])] == [None, None]
        # Its server takes 350 ms.
        assert [bound for bound, _ in found["late"].latency_ms.counts if bound < 350] == []  # type: ignore[union-attr]
        # Each try is one of the service's; of a service without a server that is up it counts nothing.
        site.get("/gone", 2, 502)
        site.get("/sick", 3, 503)
        _counted(site, _SERVICE, 30)
        found = asked.after(2.0)
        assert rates(found)["gone"] == (3.0, 3.0)
        assert rates(found)["sick"] == (None, None)
        assert rates(found)["shop"] == (0.0, 0.0)
        assert found["shop"] == Deployment("shop", 1.0, 0.0, 0.0, None, keeps_latency=True)


def test_a_router_counts_each_request_once_also_where_no_server_is_up(traefik: Proxy) -> None:
    with traefik.running() as site:
        asked = Asked(site.url, READY["traefik_routers"])
        assert asked.after(0.0) == {"shop": Deployment("shop", 1.0), "sick": Deployment("sick", 0.0)}
        before = site.page()
        site.get("/shop", 4, 200)
        site.get("/sick", 2, 503)
        site.get("/gone", 1, 502)
        _counted(site, _ROUTER, 7)
        found, now = asked.after(2.0), site.page()
        assert rates(found) == {"shop": (2.0, 0.0), "sick": (1.0, 1.0), "gone": (None, None)}
        for name in ("shop", "sick"):
            check_latencies(found[name], before, now, f"{_ROUTER}_duration_seconds", 1000.0, service=f"{name}@file")
        site.get("/gone", 3, 502)
        _counted(site, _ROUTER, 10)
        assert rates(asked.after(1.0)) == {"shop": (0.0, 0.0), "sick": (0.0, 0.0), "gone": (3.0, 3.0)}


def test_after_a_restart_what_it_counted_anew_came_since(traefik: Proxy) -> None:
    with traefik.running() as site:
        asked = Asked(site.url, READY["traefik"])
        site.get("/shop", 9, 200)
        site.get("/bad", 5, 500)
        _counted(site, _SERVICE, 14)
        asked.after(0.0)
    with pytest.raises(ProviderError, match="no page for Prometheus"):
        asked.after(1.0)
    with traefik.running() as site:
        before = site.page()
        site.get("/shop", 4, 200)
        site.get("/bad", 2, 500)
        _counted(site, _SERVICE, 6)
        # No collection saw the page without them: the counters fell, in the two seconds since the last that did.
        found, now = asked.after(1.0), site.page()
        assert rates(found) == {"shop": (2.0, 0.0), "bad": (1.0, 1.0), "sick": (None, None)}
        for name in ("shop", "bad"):
            check_latencies(found[name], before, now, f"{_SERVICE}_duration_seconds", 1000.0, service=f"{name}@file")
    with traefik.running() as site:
        # Here one does: of shop the health check remains, of bad nothing.
        assert rates(asked.after(2.0)) == {"shop": (None, None), "sick": (None, None)}
        site.get("/shop", 7, 200)
        site.get("/bad", 3, 500)
        _counted(site, _SERVICE, 10)
        assert rates(asked.after(1.0)) == {"shop": (7.0, 0.0), "bad": (None, None), "sick": (None, None)}
        site.get("/bad", 1, 500)
        _counted(site, _SERVICE, 11)
        assert rates(asked.after(1.0)) == {"shop": (0.0, 0.0), "bad": (1.0, 1.0), "sick": (None, None)}
