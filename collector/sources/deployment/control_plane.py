"""Provider *control_plane*: deployments of the token's owner and their replicas, from fog-compute's control plane.

    GET /api/deployment/list?limit=100&offset=0
    Authorization: Bearer …

    [{"id": "6f1c…", "name": "web", "status": "running", "target_replicas": 3, "running_replicas": 2, …}]

    deployment_id   name, as in other providers; id if the name is empty or missing
    replicas        running_replicas, whatever the status

Names need not be unique: the replicas of deployments with the same name are added up.

The reply has pages of at most 100 deployments, 20 by default. They are requested one after the other, oldest
deployment first, within the timeout of a provider. A server without pages sends all deployments at once.

The token is read from its file at each collection, so that a new one is used at once. No message contains it.
"""

from __future__ import annotations

import os
import time
from collections.abc import Callable
from typing import Final

from collector.sources import json_reply
from collector.sources.deployment.provider import MAX_DEPLOYMENTS, Deployment, ProviderError, explained
from collector.sources.http_client import HttpClient
from collector.sources.target import Limits, NoReply, parse_address
from shm.errors import ConfigurationError
from shm.safe_repr import shown

KEY: Final = "[source.deployment] control_plane_url"
TOKEN_KEY: Final = "[source.deployment] control_plane_token_file"  # noqa: S105 - the name of a key
_REMEDY = "give http://host:port, https://host or unix:///path/of/the.sock"
_PATH: Final = "/api/deployment/list"
_PAGE: Final = 100  # the largest page
# Tokens are some hundred bytes; those with many claims a few thousand.
_MOST_TOKEN_BYTES: Final = 16_384


class ControlPlaneProvider:
    """The control plane at ``url``, without its path; ``token_file`` empty: no token is sent.

    ``clock`` is monotonic, in seconds. Raises ConfigurationError for an invalid address.
    """

    name = "control_plane"

    def __init__(
        self,
        url: str,
        token_file: str,
        limits: Limits,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        address = parse_address(url, KEY, schemes=("http", "https", "unix"), remedy=_REMEDY)
        if "?" in url or "#" in url:
            raise ConfigurationError(f"{KEY} is {address.shown!r}; {_REMEDY}, without ? and #")
        self._shown, self._url = address.shown, address.url.rstrip("/") + _PATH
        self._token_file = token_file
        self._timeout_seconds = limits.timeout_seconds
        self._client = HttpClient(address, limits, {"Accept": "application/json"})
        self._clock = clock

    def deployments(self) -> list[Deployment]:
        """Raises ProviderError."""
        token = {"Authorization": f"Bearer {read_token(self._token_file)}"} if self._token_file else {}
        if_none = f"does it run, and may this user ask it? set {KEY}"
        if_other = f"set {KEY} to its address, without {_PATH}"

        def read() -> list[Deployment]:
            try:
                return _by_name(self._rows(token))
            except NoReply as error:
                if error.status not in (401, 403):
                    raise
                raise ProviderError(
                    f"the control plane refused, at {self._shown}: {error}; set {TOKEN_KEY} to a file with a token "
                    "that it takes"
                ) from error

        return explained(read, self._shown, "control plane", if_none, "a control plane of fog-compute", if_other)

    def close(self) -> None:
        self._client.close()

    def _rows(self, headers: dict[str, str]) -> dict[str, tuple[str, int | None]]:
        """By id: name and replicas, of all pages. Raises NoReply or ValueError."""
        left = self._timeout_seconds
        deadline = self._clock() + left
        rows: dict[str, tuple[str, int | None]] = {}
        offset = 0
        while True:
            # Sorted, so that new deployments come last and move none to another page.
            url = f"{self._url}?limit={_PAGE}&offset={offset}&sort_by=created_at&sort_order=asc"
            page = parse_page(self._client.exchange(url, headers=headers, timeout_seconds=left).reply())
            known = len(rows)
            for key, name, replicas in page:
                rows[key] = name, replicas
            if len(rows) > MAX_DEPLOYMENTS:
                raise ValueError(f"its answer has more than {MAX_DEPLOYMENTS} deployments")
            # A page of another length is the last; so is one without new deployments, as a server without pages sends.
            if len(page) != _PAGE or len(rows) == known:
                return rows
            offset += _PAGE
            left = deadline - self._clock()
            if left <= 0:
                raise NoReply(f"it took more than {self._timeout_seconds:g} s for all of its pages")


def read_token(path: str) -> str:
    """The content of the file, without white space around it. Raises ProviderError."""
    try:
        # O_NONBLOCK, since a FIFO would block. With an opener, since open() does not close a given descriptor that it
        # refuses, such as that of a directory.
        with open(path, "rb", opener=lambda name, flags: os.open(name, flags | os.O_NONBLOCK)) as file:
            content = file.read(_MOST_TOKEN_BYTES + 1) or b""
    except OSError as error:
        raise ProviderError(
            f"{TOKEN_KEY}: {path} can't be read: {error.strerror or error}; let the collectors' user read it"
        ) from None
    token = content.decode("ascii", "replace").strip()
    if not token:
        raise ProviderError(f"{TOKEN_KEY}: {path} is empty; write the token into it")
    if len(content) > _MOST_TOKEN_BYTES or not token.isascii() or not token.isprintable() or " " in token:
        raise ProviderError(
            f"{TOKEN_KEY}: {path} is not a token, which is one word of printable ASCII, of at most "
            f"{_MOST_TOKEN_BYTES} bytes; write only the token into it"
        )
    return token


def parse_page(body: bytes) -> list[tuple[str, str, int | None]]:
    """(id, name, replicas) of each deployment in a reply; replicas None: not given. Raises ValueError. Pure."""
    page: list[tuple[str, str, int | None]] = []
    for one in json_reply.objects(json_reply.parse_json(body)):
        key, name, running = one.get("id"), one.get("name"), one.get("running_replicas")
        key = str(key) if json_reply.count(key) is not None else key
        if not isinstance(key, str | None) or not isinstance(name, str | None) or not (key or name):
            raise ValueError("a deployment lacks id and name, as strings")
        replicas = json_reply.count(running)
        if replicas is None and running is not None:
            raise ValueError(f"running_replicas is {shown(running)}, not a whole number from 0 to 2^64 - 1")
        page.append((key or name or "", name or key or "", replicas))
    return page


def _by_name(rows: dict[str, tuple[str, int | None]]) -> list[Deployment]:
    replicas: dict[str, int | None] = {}
    for name, running in rows.values():
        known = replicas.get(name)
        replicas[name] = known if running is None else running + (known or 0)
    return [Deployment(name, None if count is None else float(count)) for name, count in replicas.items()]
