from __future__ import annotations

import email.utils

import pytest

from exporter.http.messages import Response, http_date, text


def test_a_head_says_what_follows() -> None:
    response = Response(200, (b"ab", b"", b"cde"), "text/plain", {"vary": "accept"})
    assert response.head("TODAY", True) == (
        b"HTTP/1.1 200 OK\r\ndate: TODAY\r\ncontent-type: text/plain\r\ncontent-length: 5\r\nvary: accept\r\n\r\n"
    )
    assert response.head("TODAY", False).endswith(b"vary: accept\r\nconnection: close\r\n\r\n")


def test_a_sentence_is_a_line_of_text() -> None:
    response = text(503, "later", {"retry-after": "1"})
    assert (response.status, list(response.body), response.content_type) == (
        503,
        [b"later\n"],
        "text/plain; charset=utf-8",
    )


@pytest.mark.parametrize("seconds", [0, 784_111_777, 951_827_696, 1_795_797_258, 4_102_444_799])
def test_the_date_is_in_the_one_format_that_may_be_written(seconds: int) -> None:
    assert http_date(seconds) == email.utils.formatdate(seconds, usegmt=True)
