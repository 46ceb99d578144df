"""BetanetClient: requests Betanet's three endpoints, so that a slow one delays no other."""

from __future__ import annotations

from collector.loop.timeouts import MOMENT_SECONDS, CallPool
from collector.sources.betanet.reply import ENDPOINTS, Reading, read_reply
from collector.sources.http_client import HttpClient
from collector.sources.target import Limits, NoReply, parse_address
from shm.errors import ConfigurationError
from shm.safe_repr import said

_URL_KEY = "[source.betanet] url"
_REMEDY = 'give one such as "http://localhost:9000", without ? and #'


class BetanetClient:
    """Requests the endpoints below ``url``, http or https. Raises ConfigurationError for a malformed url.

    ``request_timeout_seconds`` bounds each whole request, ``max_reply_bytes`` the body of each reply.
    """

    def __init__(
        self, url: str = "http://localhost:9000", request_timeout_seconds: float = 5.0, max_reply_bytes: int = 1_048_576
    ) -> None:
        address = parse_address(url, _URL_KEY, schemes=("http", "https"), remedy=_REMEDY)
        if "?" in url or "#" in url:
            raise ConfigurationError(f"{_URL_KEY} is {address.shown!r}; {_REMEDY}")
        limits = Limits(request_timeout_seconds, max_reply_bytes, "[source.betanet]")
        self._urls = [address.url.rstrip("/") + path for path in ENDPOINTS]
        self._timeout_seconds = request_timeout_seconds
        # Far below the timeout, which begins for all three at once.
        self._calls: CallPool[bytes | NoReply] = CallPool("request", min(MOMENT_SECONDS, request_timeout_seconds / 100))
        self._client = HttpClient(address, limits, {"Accept": "application/json"})

    def read_all(self) -> list[Reading]:
        """One Reading for each of ENDPOINTS, in order; ``answered`` is False if the request failed. Never raises."""
        exchanges = {url: self._client.exchange(url) for url in self._urls}
        calls = self._calls.start(exchanges, self._timeout_seconds)
        readings = []
        for fields, (url, exchange) in zip(ENDPOINTS.values(), exchanges.items(), strict=True):
            try:
                readings.append(read_reply(exchange.reply(calls[url]), fields, url))
            except NoReply as error:
                readings.append(Reading(False, errors=(f"{url}: {error}; see Betanet's log, or set {_URL_KEY}",)))
            except Exception as error:  # noqa: BLE001 - the replies of the other endpoints are still read
                readings.append(Reading(False, errors=(f"{url} failed: {said(error)}",)))
        return readings

    def close(self) -> None:
        """Close the connections, which are kept open between readings."""
        self._calls.close()
        self._client.close()
