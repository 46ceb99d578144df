"""BetanetClient: asks Betanet's three endpoints at the same time.

Whoever listens at the url may be broken or malicious, so an answer is bounded in time (all of it, from the name
look-up to the last byte), in size, and in form: no redirect is followed, nothing is decompressed, no cookie kept.

httpx and asyncio are imported where they are used: this module is imported also by those who only want to know
the keys of [source.betanet].
"""

from __future__ import annotations

import os
from collections.abc import Awaitable, Callable, Mapping
from typing import TYPE_CHECKING, Any
from urllib.parse import urlsplit

from collector.sources.betanet_reply import ENDPOINTS, BetanetError, Endpoint, Reading, check_head, read_reply, shorten
from shm.errors import ConfigurationError

if TYPE_CHECKING:
    import httpx

_URL_KEY = "[source.betanet] url"

# What is read at a time until the head is there. A server that goes on with 100 Continue fits 2,600 of them into
# httpcore's 64 KiB, which takes their parser 0.2 s without a turn for the other endpoints, whose time runs out.
_HEAD_READ_BYTES = 1_024
# What HTTP may say besides the body: heads, and the sizes of chunks.
_HTTP_BYTES = 1_048_576


class BetanetClient:
    """Asks the endpoints below ``url``. Use it on one event loop, and close it there.

    ``request_timeout_seconds`` bounds each request as a whole, ``max_reply_bytes`` each answer's body.
    """

    def __init__(
        self, url: str = "http://localhost:9000", request_timeout_seconds: float = 5.0, max_reply_bytes: int = 1_048_576
    ) -> None:
        self.url = url.rstrip("/")
        self.shown_url = _shown_url(self.url)
        self.request_timeout_seconds = request_timeout_seconds
        self.max_reply_bytes = max_reply_bytes
        self._http: httpx.AsyncClient | None = None

    async def read_all(self) -> list[Reading]:
        """One Reading for each of ENDPOINTS, in their order; one that failed is not answered. Never raises."""
        import asyncio

        return await asyncio.gather(*(self._read(endpoint) for endpoint in ENDPOINTS))

    async def close(self) -> None:
        """Close what is open; the next request opens it again."""
        http, self._http = self._http, None
        if http is not None:
            await http.aclose()

    async def _read(self, endpoint: Endpoint) -> Reading:
        where = self.shown_url + endpoint.path
        try:
            return read_reply(await self._fetch(endpoint, where), endpoint, where)
        except BetanetError as error:
            return Reading(False, errors=(str(error),))
        except Exception as error:  # noqa: BLE001 - whatever one endpoint does, the others are read
            return Reading(False, errors=(f"{where} failed: {shorten(f'{type(error).__name__}: {error}')}",))

    async def _fetch(self, endpoint: Endpoint, where: str) -> bytes:
        """The body of the endpoint's answer. Raises BetanetError."""
        import asyncio

        import httpx

        try:
            # httpx's own timeouts are per read: a server that drips a byte a second would never meet them.
            async with asyncio.timeout(self.request_timeout_seconds):
                trace = _bounded_reads(self.max_reply_bytes + _HTTP_BYTES, where)
                async with self.open().stream("GET", self.url + endpoint.path, extensions={"trace": trace}) as response:
                    check_head(response.status_code, response.headers, where)
                    return await self._body(response, where)
        except TimeoutError:
            raise BetanetError(
                f"{where} did not answer within {self.request_timeout_seconds:g} s; see why Betanet is slow, "
                "or set [source.betanet] request_timeout_seconds"
            ) from None
        except httpx.ConnectError as error:
            raise BetanetError(f"no connection to {where}: {_reason(error)}; set {_URL_KEY}") from None
        except httpx.HTTPError as error:
            raise BetanetError(f"{where} broke off: {_reason(error)}; see Betanet's log") from None

    async def _body(self, response: httpx.Response, where: str) -> bytes:
        import asyncio

        body = bytearray()
        # Raw, because these bytes are the ones counted and parsed: check_head let no encoding through.
        async for chunk in response.aiter_raw():
            body += chunk
            if len(body) > self.max_reply_bytes:
                raise BetanetError(
                    f"{where} sends more than {self.max_reply_bytes} bytes; see that url is Betanet's, "
                    "or set [source.betanet] max_reply_bytes"
                )
            # Ten thousand chunks of a byte come in one read: without a turn between them the others' time runs out.
            await asyncio.sleep(0)
        return bytes(body)

    def open(self) -> httpx.AsyncClient:
        """The client that requests go through, made with the first call. On the event loop of the requests."""
        if self._http is None:
            self._http = _open_http(self.url.lower().startswith("https:"))
        return self._http


def _open_http(secure: bool) -> httpx.AsyncClient:
    from http.cookiejar import CookieJar, DefaultCookiePolicy

    import httpx

    return httpx.AsyncClient(
        headers={"Accept": "application/json", "Accept-Encoding": "identity", "User-Agent": "fogmetrics"},
        timeout=None,  # noqa: S113 - asyncio.timeout bounds the request as a whole
        # A connection for each request: three a tick cost nothing, and one kept would be closed by the server at the
        # moment of its use, a failure that is none. No limit, because a request cut off in the wrong moment never
        # gives its place back (https://github.com/encode/httpcore/issues/830).
        limits=httpx.Limits(max_connections=None, max_keepalive_connections=0),
        cookies=CookieJar(DefaultCookiePolicy(allowed_domains=[])),  # else a server could fill our memory with them
        follow_redirects=False,  # the configuration says whom to ask, not the server
        trust_env=False,  # no proxy, no .netrc: the same in a shell and under supervisord
        verify=secure,  # without https, spare the worker the certificates: 20 ms at the first request
    )


def _bounded_reads(most_bytes: int, where: str) -> Callable[[str, Mapping[str, Any]], Awaitable[None]]:
    """A trace extension (https://www.encode.io/httpcore/extensions/#trace) that bounds what the connection reads: in
    all, and at a time. httpcore shows the stream there, and takes no other from us without a transport of our own.
    """
    headed, received = False, 0

    async def trace(event: str, info: Mapping[str, Any]) -> None:
        nonlocal headed
        if event == "http11.receive_response_headers.complete":
            headed = True
        elif event in ("connection.connect_tcp.complete", "connection.start_tls.complete"):
            stream = info["return_value"]
            read = stream.read

            async def bounded(max_bytes: int, timeout: float | None = None) -> bytes:
                nonlocal received
                data: bytes = await read(max_bytes if headed else min(max_bytes, _HEAD_READ_BYTES), timeout)
                received += len(data)
                if received > most_bytes:
                    raise BetanetError(f"{where} sends more than {most_bytes} bytes of HTTP; see that url is Betanet's")
                return data

            stream.read = bounded

    return trace


def _reason(error: BaseException) -> str:
    """Why, by the system's error inside: httpx's "All connection attempts failed" hides "Connection refused"."""
    text = str(error) or type(error).__name__
    inner: BaseException | None = error
    while inner is not None:
        if isinstance(inner, OSError) and inner.errno:
            # asyncio puts "Connect call failed (...)" in strerror. Errors of socket and ssl number their own way.
            builtin = type(inner).__module__ == "builtins"
            text = os.strerror(inner.errno) if builtin else inner.strerror or text
        # The context too, because httpcore raises "from None".
        deeper = inner.__cause__ or inner.__context__
        inner = inner.exceptions[-1] if isinstance(inner, BaseExceptionGroup) else deeper
    return shorten(text[0].lower() + text[1:].rstrip("."))


def _shown_url(url: str) -> str:
    """``url`` without user and password, for messages. Raises ConfigurationError."""
    try:
        parts = urlsplit(url)
        host, _ = parts.hostname, parts.port
    except ValueError:
        host = None
    if not host or parts.scheme not in ("http", "https") or parts.query or parts.fragment:
        raise ConfigurationError(f'{_URL_KEY} is {url!r}; give one such as "http://localhost:9000", without ? and #')
    return parts._replace(netloc=parts.netloc.rpartition("@")[2]).geturl()
