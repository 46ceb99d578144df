"""What the series of a Prometheus page say of deployments: ready mappings by name, and those that users write.

A mapping in the configuration is one string, a name and then its parts; SERIES is the name of a sample, with globs for
its labels where not all of its series are meant, or several, joined by +:

    shop deployment_id=service requests=shop_requests_total errors=shop_requests_total{code=5*,method=*}
         latency_seconds=shop_request_seconds replicas=shop_up

    deployment_id=LABEL                 the label whose value is the deployment_id; a series without it is left out
    until=TEXT                          the value counts up to TEXT: of web@docker, with until=@, it is web
    requests=SERIES                     counters of requests
    errors=SERIES                       counters of failed requests
    latency_seconds=NAME{…}             a histogram: NAME_bucket, NAME_sum and NAME_count
    latency_milliseconds=NAME{…}        the same in milliseconds
    replicas=SERIES                     gauges, added up
    replica_series=SERIES               series with a value above 0, counted
"""

from __future__ import annotations

import fnmatch
import re
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import Final, Literal

from shm.errors import ConfigurationError

KEY: Final = "[source.deployment] prometheus_mappings"
Role = Literal["requests", "errors", "latency", "replicas", "replica_series"]

_NAME: Final = re.compile(r"[a-z][a-z0-9_]*")
_LABEL: Final = re.compile(r"[a-zA-Z_][a-zA-Z0-9_]*")
_SELECTOR: Final = re.compile(r"([a-zA-Z_:][a-zA-Z0-9_:]*)(?:\{([^{}]*)\})?")
_MILLISECONDS: Final = {"latency_seconds": 1000.0, "latency_milliseconds": 1.0}
_PARTS: Final = ("deployment_id", "until", "requests", "errors", *_MILLISECONDS, "replicas", "replica_series")


@dataclass(frozen=True, slots=True)
class Selector:
    """Series by their name and globs for some labels; a label that a series does not have is empty."""

    name: str
    globs: tuple[tuple[str, str], ...] = ()

    def takes(self, labels: Mapping[str, str]) -> bool:
        return all(fnmatch.fnmatchcase(labels.get(label, ""), glob) for label, glob in self.globs)


@dataclass(frozen=True, slots=True)
class PageMapping:
    """``latency`` names a histogram in units of ``latency_ms`` milliseconds."""

    name: str
    deployment_id: str
    until: str = ""
    requests: tuple[Selector, ...] = ()
    errors: tuple[Selector, ...] = ()
    latency: Selector | None = None
    latency_ms: float = 1.0
    replicas: tuple[Selector, ...] = ()
    replica_series: tuple[Selector, ...] = ()

    def roles(self) -> Iterator[tuple[Role, Selector]]:
        """What each series is for; one series may be for more than one thing."""
        yield from (("requests", one) for one in self.requests)
        yield from (("errors", one) for one in self.errors)
        yield from (("replicas", one) for one in self.replicas)
        yield from (("replica_series", one) for one in self.replica_series)
        if self.latency is not None:
            for part in ("bucket", "sum", "count"):
                yield "latency", Selector(f"{self.latency.name}_{part}", self.latency.globs)

    def id_of(self, labels: Mapping[str, str]) -> str:
        """The deployment_id, empty where there is none."""
        value = labels.get(self.deployment_id, "")
        return value.partition(self.until)[0] if self.until else value


def parse_mapping(text: str) -> PageMapping:
    """A mapping as the configuration has it. Raises ConfigurationError."""
    words = text.split()
    name = words[0] if words else ""
    if not _NAME.fullmatch(name):
        raise _refused(text, "it begins with no name", "begin with a word of small letters, digits and _")
    parts: dict[str, str] = {}
    for word in words[1:]:
        part, _, value = word.partition("=")
        if part not in _PARTS or not value:
            raise _refused(text, f"{word!r} is none of its parts", f"the parts are {', '.join(_PARTS)}, each with =")
        if part in parts:
            raise _refused(text, f"{part} is given twice", "join the series by +")
        parts[part] = value
    latencies = [one for one in _MILLISECONDS if one in parts]
    if not _LABEL.fullmatch(parts.get("deployment_id", "")):
        raise _refused(text, "it has no deployment_id", "give deployment_id=LABEL")
    if len(latencies) > 1:
        raise _refused(text, "its latency has two units", f"give one of {' and '.join(latencies)}")
    if not set(parts) - {"deployment_id", "until"}:
        raise _refused(text, "it maps nothing", f"give at least one of {', '.join(_PARTS[2:])}")
    latency = _selectors(text, parts[latencies[0]]) if latencies else ()
    if len(latency) > 1:
        raise _refused(text, f"{latencies[0]} is more than one histogram", "give one")
    return PageMapping(
        name,
        parts["deployment_id"],
        parts.get("until", ""),
        requests=_selectors(text, parts.get("requests", "")),
        errors=_selectors(text, parts.get("errors", "")),
        latency=latency[0] if latency else None,
        latency_ms=_MILLISECONDS[latencies[0]] if latencies else 1.0,
        replicas=_selectors(text, parts.get("replicas", "")),
        replica_series=_selectors(text, parts.get("replica_series", "")),
    )


def _selectors(text: str, series: str) -> tuple[Selector, ...]:
    found = []
    position = 0
    while position < len(series):
        match = _SELECTOR.match(series, position)
        if match is None or series[match.end() :][:1] not in ("", "+") or series[match.end() :] == "+":
            raise _refused(text, f"{series!r} names no series", "give NAME or NAME{label=glob}, joined by +")
        globs = []
        for pair in filter(None, (match[2] or "").split(",")):
            label, equals, glob = pair.partition("=")
            if not equals or not _LABEL.fullmatch(label):
                raise _refused(text, f"{pair!r} is no label with a glob", "give label=glob, without quotes")
            globs.append((label, glob))
        found.append(Selector(match[1], tuple(globs)))
        position = match.end() + 1
    return tuple(found)


def _refused(text: str, what: str, remedy: str) -> ConfigurationError:
    return ConfigurationError(f"{KEY} has {text!r}, but {what}; {remedy}")


# https://doc.traefik.io/traefik/observability/metrics/overview/#service-metrics: services are NAME@PROVIDER. Server_up
# is there for services with a health check; 3.0 and 3.1 have a hash of the server for the service's name there, without
# an @. A service counts what was tried at its servers: each try of a request, and nothing where none of them is up; the
# 503 is counted by the routers alone, which count each request once (#router-metrics).
# https://www.envoyproxy.io/docs/envoy/latest/configuration/upstream/cluster_manager/cluster_stats: rq_completed counts
# what rq_xx does, each request once, whoever answered it. Rq_total has each try, and no request that reached nobody: a
# cluster that is gone had errors without requests by it.
# https://caddyserver.com/docs/metrics: each handler counts all requests that pass it, so that only one of them may be
# counted; subroute is the one of sites with a host name in a Caddyfile. Duration by code is from 2.8 on there for
# requests that a handler failed, as for a server that is down.
_READY: Final = (
    "traefik deployment_id=service until=@ requests=traefik_service_requests_total"
    " errors=traefik_service_requests_total{code=5*} latency_seconds=traefik_service_request_duration_seconds"
    " replicas=traefik_service_server_up{service=*@*}",
    "traefik_routers deployment_id=service until=@ requests=traefik_router_requests_total"
    " errors=traefik_router_requests_total{code=5*} latency_seconds=traefik_router_request_duration_seconds"
    " replicas=traefik_service_server_up{service=*@*}",
    "envoy deployment_id=envoy_cluster_name requests=envoy_cluster_upstream_rq_completed"
    " errors=envoy_cluster_upstream_rq_xx{envoy_response_code_class=5}"
    " latency_milliseconds=envoy_cluster_upstream_rq_time replicas=envoy_cluster_membership_healthy",
    "caddy deployment_id=server requests=caddy_http_requests_total{handler=subroute}"
    " errors=caddy_http_request_duration_seconds_count{handler=subroute,code=5*}"
    " latency_seconds=caddy_http_request_duration_seconds{handler=subroute}",
)


def ready_mappings() -> dict[str, PageMapping]:
    """Those that need not be written, by name."""
    return {one.name: one for one in map(parse_mapping, _READY)}
