"""Provider *haproxy*: each backend of HAProxy is a deployment.

Read from the stats socket (``show stat``) or the stats page with ``;csv``: one line for each frontend, server and
backend. Only BACKEND lines are used (shortened; HAProxy 2.6 has 128 columns, and versions add and remove some):

    # pxname,svname,stot,econ,eresp,act,hrsp_5xx,req_tot,rtime,mode,
    web,FRONTEND,9,,,,0,9,,http,
    web,web1,8,0,0,1,2,8,13,http,
    web,BACKEND,9,0,0,2,2,9,14,http,

(https://docs.haproxy.org/2.6/management.html#9.1, "CSV format"):

    replicas      act: active servers that are up
    request rate  increase of req_tot a second; of stot, sessions, for a TCP backend
    error rate    increase of hrsp_5xx + econ + eresp a second; of econ + eresp for a TCP backend
    latency       rtime, ms, HAProxy's average over the last 1,024 requests. Absent for TCP, which has no responses.

One failed request may count in more than one of the three error counters: if no server can be reached, HAProxy counts
a connection error (econ) and answers 503 itself (hrsp_5xx). So errors may exceed requests.

Counters count since HAProxy's start. A counter that fell was reset by a restart; its whole value is an increase.

The page is not trusted: it is parsed line by line within the limits below, which bound the memory (4 MiB of newlines
would otherwise be 320 MiB of empty rows).
"""

from __future__ import annotations

import csv
import fnmatch
import functools
import socket
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

from collector.sources.deployment.provider import MAX_DEPLOYMENTS, Deployment, explained, sum_of
from collector.sources.target import Limits, NoReply, parse_address
from shm.metric import increase

if TYPE_CHECKING:
    from collector.sources.http_client import HttpClient

KEY = "[source.deployment] haproxy_url"
# HAProxy counts in 64 bits; larger numbers are invalid, and might not fit a float.
_MAX_COUNT = 2**64 - 1
# Its times are 32-bit milliseconds. One absurd sample would spoil the histogram's sum forever: 2^64 + 45 = 2^64.
_MAX_TIME_MS = 2**32 - 1
# HAProxy 2.6 has 128 columns, so a line takes at least 128 bytes, and less than 1 KiB: 4 MiB hold 32,768 lines. A MiB
# of commas would be a row of a million cells.
_MAX_LINE_BYTES = 65_536
_MAX_LINES = 50_000


@dataclass(frozen=True, slots=True)
class BackendStats:
    """One BACKEND line. Counters since HAProxy's start; None: the column is missing, empty or not a number.

    ``failed``: connection errors, response errors, and HTTP errors unless it is a TCP backend. That has no response
    time, and its ``requests`` are its sessions.
    """

    name: str
    tcp: bool
    servers_up: int | None
    requests: int | None
    failed: tuple[int | None, ...]
    response_time_ms: int | None


def parse_stats(page: bytes) -> list[BackendStats]:
    """Parse the backends of a CSV page; columns are found by name. Raises ValueError for another page. Pure."""
    if not page.startswith(b"# pxname,svname,"):
        begin = page[:60].decode("utf-8", "replace")
        raise ValueError(f"its answer does not begin with HAProxy's CSV header but with {begin!r}")
    if not page.endswith(b"\n"):
        raise ValueError("its answer breaks off in mid-line")
    if page.count(b"\n") > _MAX_LINES:
        raise ValueError(f"its answer has more than {_MAX_LINES} lines")
    lines = page.split(b"\n")
    if max(map(len, lines)) > _MAX_LINE_BYTES:
        raise ValueError(f"its answer has a line of more than {_MAX_LINE_BYTES} bytes")
    backends: list[BackendStats] = []
    try:
        # Strict, because an unclosed quote swallows the lines after it, and backends would be missing without an error.
        rows = csv.reader((f"{line.decode('utf-8', 'replace')}\n" for line in lines), strict=True)
        header = next(rows)
        for row in rows:
            # Most lines are of servers; don't make a dictionary of 128 columns for each.
            if len(row) > 1 and row[1] == "BACKEND" and row[0]:
                backends.append(_backend(row[0], dict(zip(header, row, strict=False))))
                if len(backends) > MAX_DEPLOYMENTS:
                    raise ValueError(f"its answer has more than {MAX_DEPLOYMENTS} backends")
    except csv.Error as error:
        raise ValueError(f"its answer is not CSV ({error})") from None
    return backends


def _backend(name: str, line: dict[str, str]) -> BackendStats:
    mode = line.get("mode", "")
    # HTTP pages may hide the mode; only HTTP backends fill req_tot then.
    tcp = mode == "tcp" or (not mode and not line.get("req_tot"))
    return BackendStats(
        name=name,
        tcp=tcp,
        servers_up=_count(line.get("act")),
        requests=_count(line.get("stot" if tcp else "req_tot")),
        failed=tuple(_count(line.get(column)) for column in ("econ", "eresp", "hrsp_5xx")[: 2 if tcp else 3]),
        response_time_ms=None if tcp else _count(line.get("rtime"), _MAX_TIME_MS),
    )


def _count(cell: str | None, most: int = _MAX_COUNT) -> int | None:
    # 20 digits hold any 64-bit count; int() may refuse longer ones. isdecimal also accepts digits of other scripts.
    if cell is None or not (cell.isascii() and cell.isdecimal()) or len(cell) > 20:
        return None
    count = int(cell)
    return count if count <= most else None


class HaproxyProvider:
    """The HAProxy at ``url``, a stats socket (unix:///…) or stats page (http://…;csv). ``exclude``: globs of ignored
    backends. ``clock`` is monotonic, in seconds. Raises ConfigurationError for an invalid address.
    """

    name = "haproxy"

    def __init__(
        self,
        url: str,
        limits: Limits,
        exclude: Sequence[str] = (),
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        address = parse_address(url, KEY)
        self._shown = address.shown
        self._client: HttpClient | None = None
        self._page: Callable[[], bytes]
        if address.unix_path:
            self._page = functools.partial(ask_socket, address.unix_path, limits)
        else:
            from collector.sources.http_client import HttpClient  # takes 7 MiB, not needed for the socket

            client = self._client = HttpClient(address, limits)
            self._page = lambda: client.exchange(address.url).reply()
        self._exclude = tuple(exclude)
        self._clock = clock
        self._before: tuple[float, dict[str, BackendStats]] | None = None

    def deployments(self) -> list[Deployment]:
        """The backends, with rates since the last successful call; None in the first. Raises ProviderError."""
        backends = self._read()
        now = self._clock()
        before, self._before = self._before, (now, {one.name: one for one in backends})
        if before is None or now <= before[0]:
            return [_deployment(one, None, 0.0) for one in backends]
        return [_deployment(one, before[1].get(one.name), now - before[0]) for one in backends]

    def close(self) -> None:
        if self._client is not None:
            self._client.close()

    def _read(self) -> list[BackendStats]:
        if_none = f"is it running, with 'stats socket' or 'stats enable', and may this user open it? set {KEY}"
        if_other = f'set {KEY} to its stats socket, or its stats page with ";csv" at the end'
        backends = explained(
            lambda: parse_stats(self._page()), self._shown, "HAProxy", if_none, "HAProxy statistics", if_other
        )
        return [one for one in backends if not any(fnmatch.fnmatchcase(one.name, glob) for glob in self._exclude)]


def ask_socket(path: str, limits: Limits) -> bytes:
    """Send ``show stat`` to the stats socket at ``path``, and read until it closes the connection. Raises NoReply."""
    deadline = time.monotonic() + limits.timeout_seconds
    page = bytearray()
    try:
        with socket.socket(socket.AF_UNIX) as connection:
            connection.settimeout(limits.timeout_seconds)
            connection.connect(path)
            connection.sendall(b"show stat\n")
            while piece := connection.recv(65_536):
                page += piece
                if len(page) > limits.max_reply_bytes:
                    raise limits.too_long()
                if (left := deadline - time.monotonic()) <= 0:
                    raise limits.late()
                connection.settimeout(left)
    except TimeoutError:
        raise limits.late() from None
    except OSError as error:
        raise NoReply(f"no connection: {error.strerror or error}") from None
    # HAProxy ends each reply with an empty line; without it some backends may be missing.
    if page.startswith(b"# ") and not page.endswith(b"\n\n"):
        raise NoReply("its answer broke off before its empty line")
    return bytes(page)


def _deployment(now: BackendStats, before: BackendStats | None, seconds: float) -> Deployment:
    """The changes in ``seconds``; without ``before``, only the replicas."""
    latency_ms = None if now.response_time_ms is None else float(now.response_time_ms)
    replicas = None if now.servers_up is None else float(now.servers_up)
    if before is None or now.tcp != before.tcp:
        return Deployment(now.name, replicas, keeps_latency=latency_ms is not None)
    requests = increase(before.requests, now.requests)
    failed = [increase(*counts) for counts in zip(before.failed, now.failed, strict=True)]
    errors = sum_of(failed)
    # rtime keeps its value (0 at first) while no server answers: a dead server would look the fastest of all.
    answered = requests is not None and requests > (failed[0] or 0)
    return Deployment(
        now.name,
        replicas,
        request_rate=None if requests is None else requests / seconds,
        error_rate=None if errors is None else errors / seconds,
        latency_ms=latency_ms if answered else None,
        keeps_latency=latency_ms is not None,
    )
