"""Any program with a page for Prometheus: proxies, or the deployments themselves.

    sources/prometheus_text the page's format: bytes to samples
    prometheus_mapping.py   which samples say what of deployments
    prometheus_reading.py   one page by its mapping; the difference of two
    here                    one endpoint, asked every interval

Each endpoint is a provider of its own. Of two that know one deployment the first is believed, as of all providers: two
proxies that share its traffic are not added up.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Iterable, Mapping
from typing import Final

from collector.sources.deployment.prometheus_mapping import KEY as MAPPINGS_KEY
from collector.sources.deployment.prometheus_mapping import PageMapping, parse_mapping, ready_mappings
from collector.sources.deployment.prometheus_reading import Reading, deployments, read_page
from collector.sources.deployment.provider import Deployment, ProviderError
from collector.sources.http_client import HttpClient
from collector.sources.prometheus_text import BadText
from collector.sources.target import Limits, NoReply, parse_address
from shm.errors import ConfigurationError

KEY: Final = "[source.deployment] prometheus"
_REMEDY = 'give "MAPPING http://host:port/metrics", https or unix:///path/of/the.sock'
_ACCEPT: Final = "text/plain;version=0.0.4"


class PrometheusProvider:
    """The page at ``url``, of a Unix socket /metrics. ``clock`` is monotonic, in seconds.

    Raises ConfigurationError for an address that can't be one.
    """

    name = "prometheus"

    def __init__(
        self,
        url: str,
        mapping: PageMapping,
        timeout_seconds: float,
        max_reply_bytes: int,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        address = parse_address(url, KEY, schemes=("http", "https", "unix"), remedy=_REMEDY)
        limits = Limits(timeout_seconds, max_reply_bytes, "[source.deployment]")
        self._url = f"{address.url}/metrics" if address.unix_path else address.url
        self._client = HttpClient(address, limits, {"Accept": _ACCEPT})
        self.where = address.shown  # for messages: there may be several
        self._mapping = mapping
        self._clock = clock
        self._before: tuple[float, Reading] | None = None

    def deployments(self) -> list[Deployment]:
        """Rates and latencies since the call before that was answered; None in the first. Raises ProviderError."""
        reading = self._read()
        now = self._clock()
        before, self._before = self._before, (now, reading)
        counts_errors = bool(self._mapping.errors)
        if before is None or now <= before[0]:
            return deployments(reading, None, 0.0, counts_errors)
        return deployments(reading, before[1], now - before[0], counts_errors)

    def close(self) -> None:
        self._client.close()

    def _read(self) -> Reading:
        try:
            page = self._client.request(self._url)
        except NoReply as error:
            raise ProviderError(
                f"no page for Prometheus at {self.where}: {error}; does it run, and does it serve one there? set {KEY}"
            ) from error
        try:
            return read_page(page, self._mapping)
        except (BadText, ValueError) as error:
            raise ProviderError(
                f"what answers at {self.where} is no page for Prometheus that can be read: {error}; set {KEY} to "
                "the address of one"
            ) from error


def parse_endpoints(endpoints: Iterable[str], own: Iterable[str]) -> list[tuple[str, PageMapping]]:
    """Url and mapping of each endpoint, written "MAPPING URL". Raises ConfigurationError."""
    known = _mappings(own)
    found = []
    for number, endpoint in enumerate(endpoints, 1):
        name, _, url = endpoint.strip().partition(" ")
        if name not in known:
            # It may be the url, and hold a password.
            shown = repr(name) if name.isidentifier() else "no mapping"
            raise ConfigurationError(
                f"{KEY} begins entry {number} with {shown}; {_REMEDY}, with one of the mappings {', '.join(known)}, "
                f"or one of your own in {MAPPINGS_KEY}"
            )
        if not url.strip():
            raise ConfigurationError(f"{KEY} has no address behind {name!r}, in entry {number}; {_REMEDY}")
        found.append((url.strip(), known[name]))
    return found


def _mappings(own: Iterable[str]) -> Mapping[str, PageMapping]:
    known = ready_mappings()
    mine: set[str] = set()
    for mapping in map(parse_mapping, own):
        if mapping.name in mine:
            raise ConfigurationError(f"{MAPPINGS_KEY} has two of the name {mapping.name!r}; rename one")
        mine.add(mapping.name)
        known[mapping.name] = mapping  # one of a ready mapping's name takes its place
    return known
