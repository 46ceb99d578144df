"""Provider *prometheus*: deployments from pages for Prometheus, of proxies or of the deployments themselves.

Each page is a provider. If two know the same deployment, the first is used, as with all providers: two proxies that
share its traffic are not added up.
"""

from __future__ import annotations

import time
from collections.abc import Callable
from typing import Final

from collector.sources.deployment.prometheus_mapping import SCHEMES, PageMapping
from collector.sources.deployment.prometheus_reading import Reading, deployments, read_page
from collector.sources.deployment.provider import Deployment, explained
from collector.sources.http_client import HttpClient
from collector.sources.target import Limits, parse_address

_REMEDY = "give http://host:port/metrics, https or unix:///path/of/the.sock"
_ACCEPT: Final = "text/plain;version=0.0.4"


class PrometheusProvider:
    """The page at ``url``; for a Unix socket its path /metrics. ``key`` of the configuration is for messages.

    ``clock`` is monotonic, in seconds. Raises ConfigurationError for an invalid address.
    """

    name = "prometheus"

    def __init__(
        self,
        url: str,
        mapping: PageMapping,
        limits: Limits,
        key: str,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        address = parse_address(url, key, schemes=SCHEMES, remedy=_REMEDY)
        self._url = f"{address.url}/metrics" if address.unix_path else address.url
        self._client = HttpClient(address, limits, {"Accept": _ACCEPT})
        self.where = address.shown  # for messages: there may be several
        self._key = key
        self._mapping = mapping
        self._clock = clock
        self._before: tuple[float, Reading] | None = None

    def deployments(self) -> list[Deployment]:
        """Rates and latencies since the last successful call; None in the first. Raises ProviderError."""
        reading = self._read()
        now = self._clock()
        before, self._before = self._before, (now, reading)
        if before is None or now <= before[0]:
            return deployments(reading, None, 0.0)
        return deployments(reading, before[1], now - before[0])

    def close(self) -> None:
        self._client.close()

    def _read(self) -> Reading:
        if_none = f"does it run, and does it serve one there? set {self._key}"
        if_other = f"set {self._key} to the address of one"
        return explained(
            lambda: read_page(self._client.exchange(self._url).reply(), self._mapping),
            self.where, "page for Prometheus", if_none, "a valid page for Prometheus", if_other,
        )  # fmt: skip
