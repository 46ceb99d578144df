"""Requests that break a rule, each with the answer that it must get."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Final
from urllib.parse import quote

AGGREGATED: Final = "/metrics/aggregated?"

# (path, what the one line of its 400 must hold): parameter, value, what would be right. tests/exporter has more.
QUERIES: Final = (
    (f"{AGGREGATED}window=5x", ("window='5x'", "such as 5m")),
    (f"{AGGREGATED}window=-5m", ("window='-5m'", "such as 5m")),
    (f"{AGGREGATED}window=1e400", ("window='1e400'", "such as 5m")),
    (f"{AGGREGATED}window={quote('∞')}", ("window='∞'", "such as 5m")),
    (f"{AGGREGATED}window=nan", ("window='nan'", "such as 5m")),
    (f"{AGGREGATED}window=5m%00", (r"window='5m\x00'", "such as 5m")),
    (f"{AGGREGATED}window={'9' * 50_000}", ("window='999", "…", "such as 5m")),
    (f"{AGGREGATED}window={'9' * 20}", ("window='999", "at most 100 years")),
    (f"{AGGREGATED}window=8d", ("window='8d'", "longer than 7d")),
    (f"{AGGREGATED}match[]=%7Bx=~%22(a%2B)%2B%22%7D", ("match[]=", "repeat match[] with =")),
    (f"{AGGREGATED}match[]=load%00", ("match[]=", "expected the end")),
    (f"{AGGREGATED}match[]=%7Bx=%22%ff%22%7D", ("match[]", "is not UTF-8")),
    (f"{AGGREGATED}match[]=%zz", ("match[]=%zz", "%25")),
    (f"{AGGREGATED}match[]={'(' * 5000}", ("match[]='((", "at most 4096")),
    (f"{AGGREGATED}stat=median", ("stat='median'", "use avg")),
    (f"{AGGREGATED}by=a-b", ("by='a-b'", "such as by=node_id")),
    (f"{AGGREGATED}metric=a%20b", ("metric='a b'", "repeat metric")),
    (f"{AGGREGATED}metric={'x' * 40_000}%20", ("metric='xxx", "…", "repeat metric")),
    (f"{AGGREGATED}winow=5m", ("'winow'", "use window")),
    (f"{AGGREGATED}%ff=1", ("%ff=1", "is not UTF-8")),
    ("/metrics?name[]=%ed%a0%80", ("name[]=", "is not UTF-8")),
    ("/metrics?name[]=%", ("name[]=%", "%25")),
    ("/metrics?source[]=", ("source[]=''", "repeat source[]")),
)  # fmt: skip

# Right requests for what is not there: an empty page.
EMPTY: Final = (
    "/metrics?source[]=nothing", "/metrics?name[]=nothing&source[]=one", "/metrics?source[]=%00",
    f"{AGGREGATED}metric=nothing", f"{AGGREGATED}source[]=nothing", f"{AGGREGATED}match[]=%7Bx=%22%00%22%7D",
)  # fmt: skip

MISSING: Final = ("/nothing", "/metrics/", "//metrics", "/../../etc/passwd", "/%zz", "/%ff", "/%00", "/metrics%3f")


@dataclass(frozen=True)
class Raw:
    """Bytes on a connection of their own, the status that they get (0: the connection is closed without an answer),
    and what the answer must hold.
    """

    name: str
    sent: bytes
    status: int
    holds: bytes = b""


def _head(line: str, *headers: str) -> bytes:
    return "\r\n".join([line, "host: 127.0.0.1", *headers, "", ""]).encode("latin-1")


def _get(*headers: str) -> bytes:
    return _head("GET /metrics?source[]=one HTTP/1.1", *headers)


def _post(*headers: str) -> bytes:
    return _head("POST /metrics HTTP/1.1", *headers)


_NO_HTTP: Final = {
    "HTTP of two digits": _head("GET /metrics HTTP/10.0"),
    "no host": b"GET /metrics HTTP/1.1\r\n\r\n",
    "two hosts": _get("host: y"),
    "two hosts in HTTP/1.0": _head("GET /metrics HTTP/1.0", "host: y"),
    "a host that is none": _get("host: a b[\xff"),
    "a TLS hello": bytes.fromhex("16030100a5010000a10303") + bytes(range(160)),
    "zeros": bytes(1000),
    "an unknown coding": _post("transfer-encoding: xchunked") + b"0\r\n\r\n",
    "chunked, but not last": _post("transfer-encoding: chunked, identity") + b"0\r\n\r\n",
    "a chunk of 2^84": _post("transfer-encoding: chunked") + b"fffffffffffffffffffff\r\n",
    "a negative length": _post("content-length: -1"),
    "two lengths": _post("content-length: 1", "content-length: 2") + b"ab",
    "a length of letters": _post("content-length: 1a"),
    "a NUL in a header": _get("a: \0"),
    "carriage returns alone": b"GET /metrics HTTP/1.1\rhost: 127.0.0.1\r\r\r\n\r\n",
    "a header without a colon": b"GET /metrics HTTP/1.1\r\nhost\r\n\r\n",
    "a space before the colon": b"GET /metrics HTTP/1.1\r\nhost : x\r\n\r\n",
    "bytes above 127 in the path": _head("GET /\xff HTTP/1.1"),
}

_METHODS: Final = ("POST", "PUT", "DELETE", "PATCH", "OPTIONS", "TRACE", "PROPFIND", "CONNECT", "SCRAPE", "get")

# Unusual, and answered as if it were not.
_HARMLESS: Final = {
    "Expect: 100-continue": _get("expect: 100-continue"),
    "WebSocket": _get("connection: upgrade", "upgrade: websocket", "sec-websocket-version: 13"),
    "HTTP/2 by upgrade": _get("connection: upgrade, http2-settings", "upgrade: h2c", "http2-settings: AAMA"),
    "Range": _get("range: bytes=0-9,20-29,5-"),
    "conditions": _get('if-none-match: "x", *', "if-modified-since: Sat, 01 Jan 2000 00:00:00 GMT", "if-range: x"),
    "a folded header": _get("a: b", " c"),
    "line feeds alone": b"GET /metrics?source[]=one HTTP/1.1\nhost: 127.0.0.1\n\n",
    "HTTP/9.9": _head("GET /metrics?source[]=one HTTP/9.9"),
    "Accept of 60 KB": _get("accept: " + "a/b;q=0.1;x=y, " * 4000),
    "Accept of semicolons": _get("accept: " + ";" * 60_000),
    "many Accept headers": _get(*["accept: text/plain;q=0.00001, */*;q=1.1, ;;q="] * 1200),
    "many Accept-Encoding headers": _get(*["accept-encoding: gzip;q=0, x-gzip;q=.1"] * 1400),
    "an Accept of no characters": _get("accept: \xff\xfe;q=\xff"),
    "thousands of headers": _get(*[f"h{i}: {i}" for i in range(3000)]),
}  # fmt: skip

RAW: Final = (
    *(Raw(name, sent, 400, b"Invalid HTTP request") for name, sent in _NO_HTTP.items()),
    *(Raw(f"{one} /metrics", _head(f"{one} /metrics HTTP/1.1"), 405) for one in _METHODS),
    *(Raw(name, sent, 200, b"\nload{") for name, sent in _HARMLESS.items()),
    Raw("OPTIONS *", _head("OPTIONS * HTTP/1.1"), 404),
    Raw("CONNECT to another host", _head("CONNECT example.com:443 HTTP/1.1"), 404),
    Raw("an absolute URL", _head("GET http://y/metrics HTTP/1.1"), 404),
    Raw("HTTP/2's preface", b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n" + bytes(40), 404),
    Raw("an SSH banner", b"SSH-2.0-OpenSSH_9.6\r\n", 0),
    Raw("a body that is expected", _post("expect: 100-continue", "content-length: 100000"), 405),
    Raw("a chunk that is no number", _post("transfer-encoding: chunked") + b"zz\r\n", 400),
    Raw("length and chunks", _post("transfer-encoding: chunked", "content-length: 5") + b"0\r\n\r\n", 405),
    Raw("a header of 1 MB", _get("long: " + "x" * 1_000_000), 400, b"larger than 65536 bytes"),
    Raw("an URL of 1 MB", _head(f"GET /metrics?{'x' * 1_000_000} HTTP/1.1"), 400, b"larger than 65536 bytes"),
    Raw("a window of 10 MB of digits", _head(f"GET {AGGREGATED}window={'9' * 10_000_000} HTTP/1.1"), 400),
    Raw("empty lines", b"\r\n" * 40_000, 400),
)
