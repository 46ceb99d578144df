"""gzip, for those who accept it: a Prometheus server does with every scrape.

By Intel's library where it is installed: for a page of metrics it takes a quarter of the time of zlib at its fastest
level, and gives a tenth less (benchmarks/compression.py).
"""

from __future__ import annotations

import functools
import zlib
from collections.abc import Callable, Iterable
from typing import Any, Final

_LEVEL: Final = 1  # of both; higher ones take several times the time, for less than a fifth
_WINDOW: Final = 16 + 15  # of 32 KiB, in a gzip member (zlib's deflateInit2)


def gzipped(parts: Iterable[bytes]) -> bytes:
    """The parts as one gzip member (RFC 1952), without a file name or a time."""
    one = _compressor()(level=_LEVEL, wbits=_WINDOW)
    return b"".join([*map(one.compress, parts), one.flush()])


@functools.cache
def _compressor() -> Callable[..., Any]:
    """What makes a compressor. Loaded with the first page that is compressed."""
    try:
        from isal import isal_zlib
    except ImportError:  # it is built for some platforms only
        return zlib.compressobj
    return isal_zlib.compressobj
