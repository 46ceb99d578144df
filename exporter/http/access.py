"""ASGI middleware for a web configuration: the rate limit, the headers of all answers, the passwords of users.

A request needs a password whatever its path. bcrypt takes tens of milliseconds on purpose: one thread checks passwords,
at most MOST_WAITING requests wait for it, and one more is answered 503. A password that was right is remembered as a
keyed hash, so that a scraper waits only once; wrong ones of others are then none of its business.
"""

from __future__ import annotations

import asyncio
import base64
import binascii
import hashlib
import hmac
import math
import secrets
import time
from collections.abc import Callable, Mapping
from concurrent.futures import ThreadPoolExecutor
from typing import TYPE_CHECKING, Final

import bcrypt
from starlette.datastructures import Headers
from starlette.responses import PlainTextResponse, Response
from starlette.types import ASGIApp, Message, Receive, Scope, Send

if TYPE_CHECKING:
    from exporter.http.web_config import Web, WebFile

MOST_WAITING: Final = 8
_BCRYPT_BYTES: Final = 72  # bcrypt ignores what is longer; the library refuses it
_CHALLENGE: Final = {"www-authenticate": 'Basic realm="fogmetrics", charset="UTF-8"'}


class RateLimit:
    """A token bucket: one request each ``interval_seconds``, and ``burst`` at once."""

    def __init__(self, interval_seconds: float, burst: int) -> None:
        self.interval_seconds, self._burst = interval_seconds, burst
        self._tokens, self._at = float(burst), time.monotonic()

    def take(self) -> bool:
        now = time.monotonic()
        self._tokens = min(self._tokens + (now - self._at) / self.interval_seconds, self._burst)
        self._at = now
        if self._tokens < 1:
            return False
        self._tokens -= 1
        return True


class Passwords:
    """The users' bcrypt hashes, and for each user the password that was right last, as a keyed hash."""

    def __init__(self, hashes: Mapping[str, str]) -> None:
        self._hashes = {user.encode(): one.encode() for user, one in hashes.items()}
        self._key = secrets.token_bytes(32)
        self._right: dict[bytes, bytes] = {}
        # Checked for unknown users, so that the time of an answer does not tell which users there are. Where costs
        # differ, the time tells it whatever this is: the least cost delays other logins least.
        cost = min(int(one.split("$")[2]) for one in hashes.values())
        self._nobody = f"$2b${cost:02}${'.' * 53}".encode()

    def remembers(self, user: bytes, password: bytes) -> bool:
        return hmac.compare_digest(self._right.get(user, b""), self._digest(password))

    def check(self, user: bytes, password: bytes) -> bool:
        """Whether it is the user's password. Takes as long as bcrypt does, unless it is remembered."""
        if self.remembers(user, password):
            return True
        found = self._hashes.get(user)
        right = bcrypt.checkpw(password[:_BCRYPT_BYTES], found or self._nobody)
        if found is None or not right:
            return False
        self._right[user] = self._digest(password)
        return True

    def _digest(self, password: bytes) -> bytes:
        return hashlib.blake2b(password, key=self._key).digest()


class Access:
    """ASGI middleware. ``refused`` is called with the status of each request that does not reach ``app``."""

    def __init__(self, app: ASGIApp, web: WebFile, refused: Callable[[int], None]) -> None:
        self._app, self._web, self._refused = app, web, refused
        self._thread = ThreadPoolExecutor(1, thread_name_prefix="password")
        self._waiting = 0

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] != "http":
            await self._app(scope, receive, send)
            return
        web = self._web.current()

        async def with_headers(message: Message) -> None:
            if message["type"] == "http.response.start":
                message["headers"] = [*message["headers"], *web.headers]
            await send(message)

        refusal = await self._refusal(web, Headers(scope=scope).get("authorization", ""))
        if refusal is not None:
            self._refused(refusal.status_code)
        await (refusal or self._app)(scope, receive, with_headers)

    async def _refusal(self, web: Web, authorization: str) -> Response | None:
        """The answer to a request that may not pass; None if it may."""
        if web.limit and not web.limit.take():
            seconds = math.ceil(web.limit.interval_seconds)
            return PlainTextResponse(
                f"too many requests; try again in {seconds} s\n", 429, {"retry-after": str(seconds)}
            )
        if web.passwords is None:
            return None
        login = _login(authorization)
        if login is None:
            return PlainTextResponse("a user's name and password are needed\n", 401, _CHALLENGE)
        if web.passwords.remembers(*login):
            return None
        if self._waiting >= MOST_WAITING:
            return PlainTextResponse(
                f"{MOST_WAITING} passwords are waiting to be checked; try again in 1 s\n", 503, {"retry-after": "1"}
            )
        self._waiting += 1
        try:
            if await asyncio.get_running_loop().run_in_executor(self._thread, web.passwords.check, *login):
                return None
        finally:
            self._waiting -= 1
        return PlainTextResponse("unknown user or wrong password\n", 401, _CHALLENGE)


def _login(authorization: str) -> tuple[bytes, bytes] | None:
    """User and password of a header Authorization (RFC 7617); None if it has none."""
    scheme, _, credentials = authorization.partition(" ")
    if scheme.lower() != "basic":
        return None
    try:
        user, colon, password = base64.b64decode(credentials.strip(), validate=True).partition(b":")
    except (binascii.Error, ValueError):
        return None
    return (user, password) if colon else None
