from __future__ import annotations

import gzip
import sys
import zlib
from collections.abc import Iterator

import pytest

from exporter.http import coding

PARTS = [b"a 1.0\n" * 5000, b"", b"b 2.0\n"]


@pytest.fixture(autouse=True)
def forgotten() -> Iterator[None]:
    coding._compressor.cache_clear()
    yield
    coding._compressor.cache_clear()


@pytest.mark.parametrize("isal", [True, False])
def test_the_parts_are_one_member_that_every_gzip_reads(isal: bool, monkeypatch: pytest.MonkeyPatch) -> None:
    if isal:
        pytest.importorskip("isal", reason="isal has no wheel for this platform; pip install isal builds it")
    else:
        monkeypatch.setitem(sys.modules, "isal", None)
    made = coding.gzipped(PARTS)
    assert (coding._compressor() is zlib.compressobj) is not isal
    assert gzip.decompress(made) == b"".join(PARTS)
    assert len(made) < 1000
    one = zlib.decompressobj(wbits=31)
    assert one.decompress(made) == b"".join(PARTS)
    assert (one.eof, one.unused_data) == (True, b"")
    assert made[4:8] == bytes(4), "no time: the same page is the same bytes"
    assert coding.gzipped(PARTS) == made


def test_nothing_is_a_member_too() -> None:
    assert gzip.decompress(coding.gzipped([])) == b""
