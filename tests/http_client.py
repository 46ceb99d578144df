"""How tests ask over HTTP: by httpx, with one TLS context for all.

Left to itself httpx reads every certificate of its bundle for each request outside of a client: 40 ms of CPU, which in
a test that polls every 20 ms is most of what there is.
"""

from __future__ import annotations

import functools
import ssl
from collections.abc import Mapping

import httpx

_context = functools.cache(ssl.create_default_context)


def get(
    url: str, *, params: Mapping[str, str] | None = None, headers: Mapping[str, str] | None = None, timeout: float = 10
) -> httpx.Response:
    """GET on a connection of its own, whatever proxies the environment names. Raises httpx.TransportError."""
    return httpx.get(url, params=params, headers=headers, timeout=timeout, trust_env=False, verify=_context())


def request(method: str, url: str, *, timeout: float = 10) -> httpx.Response:
    return httpx.request(method, url, timeout=timeout, trust_env=False, verify=_context())


def client(*, timeout: float = 10) -> httpx.Client:
    """A client that keeps its connections."""
    return httpx.Client(timeout=timeout, trust_env=False, verify=_context())
