"""[source.deployment.prometheus.NAME]: a page for Prometheus, and the meaning of its series for deployments.

    [source.deployment.prometheus.shop]
    url = "http://localhost:8000/metrics"
    deployment_id = "service"
    requests = [{name = "shop_requests_total"}]
    errors = [{name = "shop_requests_total", labels = {code = "5*"}}, {name = "shop_timeouts_total"}]
    latency_seconds = {name = "shop_request_seconds"}

A table without such keys uses the mapping named by ``mapping``, or by NAME: one of READY, or of another table.
"""

from __future__ import annotations

import fnmatch
import re
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, fields
from typing import Final, Literal

from fogmetrics.settings.reader import Glob, key, mistakes_of, toml_key
from shm.errors import ConfigurationError

Role = Literal["requests", "errors", "latency", "replicas", "replica_series"]

_LABEL: Final = re.compile(r"[a-zA-Z_][a-zA-Z0-9_]*\Z")
_SERIES: Final = re.compile(r"[a-zA-Z_:][a-zA-Z0-9_:]*\Z")
SCHEMES: Final = ("http", "https", "unix")
_ADDRESS: Final = 'url = "http://host:port/metrics", https or unix:///path/of/the.sock'


@dataclass(frozen=True, slots=True)
class Series:
    """Selects samples by name and by globs for some labels; a label that a sample lacks is empty."""

    name: str = key("", "Name of the samples; of a histogram without _bucket.")
    labels: Mapping[str, Glob] = key({}, "Globs for labels, where not all series of that name are meant.")

    def takes(self, labels: Mapping[str, str]) -> bool:
        return all(fnmatch.fnmatchcase(labels.get(label, ""), glob) for label, glob in self.labels.items())


@dataclass(frozen=True, slots=True)
class PageMapping:
    """The meaning of a page's series for deployments."""

    deployment_id: str = key("", "Label whose value is the deployment_id; a series without it is left out.")
    until: str = key("", 'The value counts up to this text: of web@docker, with "@", it is web.')
    requests: tuple[Series, ...] = key((), "Counters of requests, added up.")
    errors: tuple[Series, ...] = key((), "Counters of failed requests, added up.")
    latency_seconds: Series | None = key(None, "A histogram in seconds.")
    latency_milliseconds: Series | None = key(None, "A histogram in milliseconds.")
    replicas: tuple[Series, ...] = key((), "Gauges, added up.")
    replica_series: tuple[Series, ...] = key((), "Series with a value above 0, counted.")

    @property
    def latency_ms(self) -> float:
        """The unit of the histogram, in milliseconds."""
        return 1.0 if self.latency_seconds is None else 1000.0

    def roles(self) -> Iterator[tuple[Role, Series]]:
        """The role of each series; one series may have several."""
        roles: tuple[Role, ...] = ("requests", "errors", "replicas", "replica_series")
        yield from ((role, one) for role in roles for one in getattr(self, role))
        if latency := self.latency_seconds or self.latency_milliseconds:
            for part in ("bucket", "sum", "count"):
                yield "latency", Series(f"{latency.name}_{part}", latency.labels)

    def id_of(self, labels: Mapping[str, str]) -> str:
        """The deployment_id; empty without one."""
        value = labels.get(self.deployment_id, "")
        return value.partition(self.until)[0] if self.until else value


@dataclass(frozen=True, slots=True)
class PrometheusOptions(PageMapping):
    """[source.deployment.prometheus.NAME]"""

    url: str = key("", "Address of the page, http or https; of a Unix socket, unix:///path, /metrics is asked for.")
    mapping: str = key("", "Mapping of another table, or traefik, traefik_routers, envoy or caddy; empty: NAME's.")

    @property
    def maps(self) -> bool:
        """Whether the table has a mapping of its own."""
        return any(getattr(self, one.name) for one in fields(PageMapping))


def table_of(name: str) -> str:
    return f"[source.deployment.prometheus.{toml_key(name)}]"


def mappings(tables: Mapping[str, PrometheusOptions]) -> dict[str, PageMapping]:
    """The mapping of each table. Raises ConfigurationError."""
    known = {**READY, **{name: table for name, table in tables.items() if table.maps}}
    mistakes = [one for name, table in tables.items() for one in mistakes_of(_mapping, name, table, known)]
    if mistakes:
        raise ConfigurationError(*mistakes)
    return {name: _mapping(name, table, known) for name, table in tables.items()}


def _mapping(name: str, table: PrometheusOptions, known: Mapping[str, PageMapping]) -> PageMapping:
    if not table.url:
        raise _refused(name, "has no url", f"give {_ADDRESS}")
    if table.maps and table.mapping:
        raise _refused(name, f"has mapping = {table.mapping!r} and a mapping of its own", "remove one of them")
    found = known.get(table.mapping or name)
    if found is None:
        what = f"has mapping = {table.mapping!r}, which does not exist" if table.mapping else "maps nothing"
        raise _refused(name, what, f"give mapping, one of {', '.join(known)}, or deployment_id and series")
    if not _LABEL.match(found.deployment_id):
        raise _refused(name, f"has deployment_id = {found.deployment_id!r}", "give the name of a label")
    if found.latency_seconds and found.latency_milliseconds:
        raise _refused(name, "has a latency in two units", "give latency_seconds or latency_milliseconds")
    series = [one for _, one in found.roles()]
    if not series:
        raise _refused(name, "maps no series", "give at least one of requests, errors, replicas or a latency")
    for one in series:
        if not _SERIES.match(one.name):
            raise _refused(name, f"names the series {one.name!r}", 'give the name of a sample, {name = "…"}')
        for label in one.labels:
            if not _LABEL.match(label):
                raise _refused(name, f"names the label {label!r} of {one.name}", 'give labels = {label = "glob"}')
    return found


def _refused(name: str, what: str, remedy: str) -> ConfigurationError:
    return ConfigurationError(f"{table_of(name)} {what}; {remedy}")


# https://doc.traefik.io/traefik/observability/metrics/overview/#service-metrics: services are NAME@PROVIDER. Server_up
# exists for services with a health check; in 3.0 and 3.1 its service is a hash of the server, without an @. Services
# count each try of a request at a server, and nothing if no server is up; only routers count the 503 then, and each
# request once (#router-metrics).
# https://www.envoyproxy.io/docs/envoy/latest/configuration/upstream/cluster_manager/cluster_stats: rq_completed, as
# rq_xx, counts each request once, whoever answered it. Rq_total counts each try, but no request that reached no server:
# a cluster without servers would have errors without requests.
# https://caddyserver.com/docs/metrics: each handler counts all requests that pass it, so count only one handler;
# subroute is that of sites with a host name in a Caddyfile. Since 2.8 the duration by code includes requests for which
# a handler failed, as for a server that is down.
_TRAEFIK_UP: Final = (Series("traefik_service_server_up", {"service": "*@*"}),)
READY: Final[Mapping[str, PageMapping]] = {
    "traefik": PageMapping(
        "service",
        until="@",
        requests=(Series("traefik_service_requests_total"),),
        errors=(Series("traefik_service_requests_total", {"code": "5*"}),),
        latency_seconds=Series("traefik_service_request_duration_seconds"),
        replicas=_TRAEFIK_UP,
    ),
    "traefik_routers": PageMapping(
        "service",
        until="@",
        requests=(Series("traefik_router_requests_total"),),
        errors=(Series("traefik_router_requests_total", {"code": "5*"}),),
        latency_seconds=Series("traefik_router_request_duration_seconds"),
        replicas=_TRAEFIK_UP,
    ),
    "envoy": PageMapping(
        "envoy_cluster_name",
        requests=(Series("envoy_cluster_upstream_rq_completed"),),
        errors=(Series("envoy_cluster_upstream_rq_xx", {"envoy_response_code_class": "5"}),),
        latency_milliseconds=Series("envoy_cluster_upstream_rq_time"),
        replicas=(Series("envoy_cluster_membership_healthy"),),
    ),
    "caddy": PageMapping(
        "server",
        requests=(Series("caddy_http_requests_total", {"handler": "subroute"}),),
        errors=(Series("caddy_http_request_duration_seconds_count", {"handler": "subroute", "code": "5*"}),),
        latency_seconds=Series("caddy_http_request_duration_seconds", {"handler": "subroute"}),
    ),
}
