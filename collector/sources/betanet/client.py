"""BetanetClient: requests Betanet's three endpoints at the same time, each over its own connection."""

from __future__ import annotations

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
        self._clients = [HttpClient(address, limits, {"Accept": "application/json"}) for _ in ENDPOINTS]

    def read_all(self) -> list[Reading]:
        """One Reading for each of ENDPOINTS, in order; ``answered`` is False if the request failed. Never raises."""
        pending = [client.begin(url) for client, url in zip(self._clients, self._urls, strict=True)]
        readings = []
        for fields, url, wait in zip(ENDPOINTS.values(), self._urls, pending, strict=True):
            try:
                readings.append(read_reply(wait(), fields, url))
            except NoReply as error:
                readings.append(Reading(False, errors=(f"{url}: {error}; see Betanet's log, or set {_URL_KEY}",)))
            except Exception as error:  # noqa: BLE001 - the replies of the other endpoints are still read
                readings.append(Reading(False, errors=(f"{url} failed: {said(error)}",)))
        return readings

    def close(self) -> None:
        """Close the connections, which are kept open between readings."""
        for client in self._clients:
            client.close()
