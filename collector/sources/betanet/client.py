"""BetanetClient: asks Betanet's three endpoints at the same time, and words what goes wrong with each.

Whoever listens at the url may be broken or malicious; collector/exchange bounds what an answer may cost.
"""

from __future__ import annotations

from collector.exchange import (
    ExchangeError,
    Late,
    Limits,
    NoConnection,
    Refused,
    TooLong,
    ask_all,
    http_request,
    parse_address,
    prepare,
)
from collector.exchange.answer import Reply
from collector.sources.betanet.reply import ENDPOINTS, BetanetError, Endpoint, Reading, read_reply, shorten, shown
from shm.errors import ConfigurationError

_URL_KEY = "[source.betanet] url"
_REMEDY = 'give one such as "http://localhost:9000", without ? and #'


class BetanetClient:
    """Asks the endpoints below ``url``, http or https. Raises ConfigurationError for what can be no such url.

    ``request_timeout_seconds`` bounds each request as a whole, ``max_reply_bytes`` each answer's body.
    """

    def __init__(
        self, url: str = "http://localhost:9000", request_timeout_seconds: float = 5.0, max_reply_bytes: int = 1_048_576
    ) -> None:
        self._address = parse_address(url, _URL_KEY, schemes=("http", "https"), remedy=_REMEDY)
        if "?" in url or "#" in url:
            raise ConfigurationError(f"{_URL_KEY} is {self._address.shown!r}; {_REMEDY}")
        self._limits = Limits(request_timeout_seconds, max_reply_bytes, "[source.betanet]")
        base = self._address.target.rstrip("/")
        self._requests = [
            http_request(self._address, self._limits, base + one.path, headers={"Accept": "application/json"})
            for one in ENDPOINTS
        ]

    def open(self) -> None:
        """Load what the first request would load."""
        prepare(self._address)

    def read_all(self) -> list[Reading]:
        """One Reading for each of ENDPOINTS, in their order; one that failed is not answered. Never raises."""
        return [
            self._reading(endpoint, result) for endpoint, result in zip(ENDPOINTS, ask_all(self._requests), strict=True)
        ]

    def _reading(self, endpoint: Endpoint, result: Reply | ExchangeError) -> Reading:
        where = self._address.shown.rstrip("/") + endpoint.path
        if isinstance(result, ExchangeError):
            return Reading(False, errors=(self._said(result, where),))
        try:
            return read_reply(result.body, endpoint, where)
        except BetanetError as error:
            return Reading(False, errors=(str(error),))
        except Exception as error:  # noqa: BLE001 - whatever one endpoint says, the others are read
            return Reading(False, errors=(f"{where} failed: {shorten(f'{type(error).__name__}: {error}')}",))

    def _said(self, error: ExchangeError, where: str) -> str:
        """What happened to one endpoint, and a remedy."""
        if isinstance(error, Late):
            return (
                f"{where} did not answer within {self._limits.timeout_seconds:g} s; see why Betanet is slow, "
                "or set [source.betanet] request_timeout_seconds"
            )
        if isinstance(error, NoConnection):
            reason = str(error)
            return f"no connection to {where}: {reason[0].lower() + reason[1:]}; set {_URL_KEY}"
        if isinstance(error, TooLong):
            if error.of_http:
                return f"{where} sends more than {error.most_bytes} bytes of HTTP; see that url is Betanet's"
            return (
                f"{where} sends more than {error.most_bytes} bytes; see that url is Betanet's, "
                "or set [source.betanet] max_reply_bytes"
            )
        if isinstance(error, Refused) and 300 <= error.status < 400:
            to = shown(error.location or "nowhere")
            return f"{where} redirects to {to} ({error.status}), which is not followed; set {_URL_KEY}"
        if isinstance(error, Refused) and error.status != 200:
            return f"{where} answered {error.status} instead of 200; see Betanet's log, or set {_URL_KEY}"
        return f"{where}: {error}; see Betanet's log"
