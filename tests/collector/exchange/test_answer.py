"""An answer is whole, or an error that says why; whatever the bytes, and however they come."""

from __future__ import annotations

import contextlib
import gc
import tracemalloc
import weakref
from collections.abc import Iterable

import pytest
from hypothesis import given
from hypothesis import strategies as st

from collector.exchange import BrokenOff, ExchangeError, Limits, NotHttp, Refused, Reply, TooLong
from collector.exchange.answer import HttpAnswer, LineAnswer

OK = b"HTTP/1.1 200 OK\r\n"
CHUNKED = OK + b"Transfer-Encoding: chunked\r\n\r\n"
MOST = 1000
MIB = 2**20


def read(pieces: Iterable[bytes], most: int = MOST) -> Reply:
    """The reply to be had of these pieces, and of the end of the connection behind them. Raises ExchangeError."""
    answer = HttpAnswer(Limits(10.0, most, "[source.x]"))
    for piece in pieces:
        reply = answer.feed(piece)
        if reply is not None:
            return reply
    return answer.end()


def refusal(*pieces: bytes, most: int = MOST) -> ExchangeError:
    with pytest.raises(ExchangeError) as caught:
        read(pieces, most)
    return caught.value


def refusal_at_once(head: bytes) -> ExchangeError:
    """Why there will be no reply to be had of what begins so."""
    with pytest.raises(ExchangeError) as caught:
        HttpAnswer(Limits(10.0, MOST)).feed(head)
    return caught.value


WHOLE = {
    "length": OK + b"Content-Type: text/x\r\nContent-Length: 5\r\n\r\nhello",
    "chunks": OK
    + b"Content-Type: text/x\r\nTransfer-Encoding: Chunked\r\n\r\n2\r\nhe\r\n3;x=y\r\nllo\r\n0\r\nX: y\r\n\r\n",
    "the end": OK + b"Content-Type: text/x\r\n\r\nhello",
    "the end of HTTP/1.0": b"HTTP/1.0 200 OK\r\ncontent-type: text/x\r\n\r\nhello",
    "hints before it": b"HTTP/1.1 103 Early Hints\r\nContent-Type: text/hint\r\n\r\n" * 3
    + b"HTTP/1.1 100 Continue\r\n\r\n"
    + OK
    + b"Content-Type: text/x\r\nContent-Length: 5\r\n\r\nhello",
    "identity": OK + b"Content-Encoding: Identity \r\nContent-Type: text/x\r\nContent-Length: 5\r\n\r\nhello",
    "an upgrade that is only offered": OK
    + b"Upgrade: h2c\r\nConnection: upgrade\r\nContent-Type: text/x\r\nContent-Length: 5\r\n\r\nhello",
    "a trailer that says otherwise": OK
    + b"Content-Type: text/x\r\nTransfer-Encoding: chunked\r\n\r\n5\r\nhello\r\n0\r\nContent-Type: text/y\r\n\r\n",
}


@pytest.mark.parametrize("name", WHOLE)
def test_a_whole_answer_is_read_in_one_piece_or_byte_by_byte(name: str) -> None:
    text = WHOLE[name]
    assert read([text]) == read(text[i : i + 1] for i in range(len(text))) == Reply(b"hello", "text/x")


@pytest.mark.parametrize("behind", [b"more", OK + b"Content-Length: 3\r\n\r\nxyz", b"\xff" * 10])
def test_what_follows_an_answer_is_not_looked_at(behind: bytes) -> None:
    for head in (b"Content-Length: 5\r\n", b"Connection: close\r\nContent-Length: 5\r\n"):
        assert read([OK + head + b"\r\nhello" + behind]).body == b"hello"


@pytest.mark.parametrize(
    ("pieces", "said"),
    [
        ([], "its answer broke off before it began"),
        ([OK], "its answer broke off in its head"),
        ([b"HTTP/1.1 100 Continue\r\n\r\n"], "its answer broke off in its head"),
        ([OK + b"Content-Length: 9\r\n\r\nhello"], "its answer broke off 4 bytes before the end"),
        ([CHUNKED + b"9\r\nhello"], "its answer broke off before its last chunk"),
        ([CHUNKED + b"5\r\nhello\r\n0\r\n"], "its answer broke off before its last chunk"),
    ],
)
def test_an_answer_that_ends_before_its_end_broke_off(pieces: list[bytes], said: str) -> None:
    error = refusal(*pieces)
    assert isinstance(error, BrokenOff)
    assert str(error) == said


@pytest.mark.parametrize(
    "text",
    [
        b"hello",
        b"\x15\x03\x01\x00\x02\x02\x46",
        b"220 mail.example.org ESMTP\r\n",
        b"HTTP/1.1 OK 200\r\n\r\n",
        b"HTTP/1.1 200 OK\nContent-Length: 5\n\nhello",
        OK + b"no colon\r\n\r\n",
        OK + b"X: a\0b\r\n\r\n",
        OK + b"Content-Length: -1\r\n\r\n",
        OK + b"Content-Length: 99999999999999999999999\r\n\r\n",
        OK + b"Content-Length: 5\r\nContent-Length: 6\r\n\r\nhello",
        OK + b"Content-Length: 5\r\nTransfer-Encoding: chunked\r\n\r\n0\r\n\r\n",
        CHUNKED + b"-5\r\nhello\r\n0\r\n\r\n",
        CHUNKED + b"xyz\r\nhello\r\n0\r\n\r\n",
        CHUNKED + b"fffffffffffffffff\r\nhello\r\n0\r\n\r\n",
        CHUNKED + b"5\r\nhello!\r\n0\r\n\r\n",
    ],
)
def test_what_breaks_the_protocol_is_not_http(text: bytes) -> None:
    error = refusal(text)
    assert isinstance(error, NotHttp)
    assert str(error).startswith("its answer is not HTTP (")


@pytest.mark.parametrize("status", [101, 201, 204, 206, 301, 302, 304, 401, 404, 500, 503, 999])
def test_another_status_than_200_is_refused_at_its_head(status: int) -> None:
    """Its body is not waited for: there is none, or it never ends."""
    text = b"HTTP/1.1 %d What it says\r\nLocation: /there\r\nContent-Length: 99\r\n\r\n" % status
    error = refusal_at_once(text)
    assert isinstance(error, Refused)
    assert (error.status, error.location) == (status, "/there")
    assert str(error) == f"it answered HTTP {status} What it says"


def test_a_reason_is_shortened() -> None:
    assert str(refusal(b"HTTP/1.1 500 " + b"O" * 60_000 + b"\r\n\r\n")) == f"it answered HTTP 500 {'O' * 200}"


@pytest.mark.parametrize(
    "encoding", ["gzip", "br", "identity, gzip", "deflate", "", "gzip\r\nContent-Encoding: identity"]
)
def test_any_other_content_encoding_is_refused(encoding: str) -> None:
    error = refusal_at_once(OK + f"Content-Encoding: {encoding}\r\nContent-Length: 5\r\n\r\n".encode())
    assert isinstance(error, Refused)
    assert "it was asked for identity" in str(error)


@pytest.mark.parametrize("encoding", ["gzip", "gzip, chunked", "gzip\r\nTransfer-Encoding: chunked", "x" * 1000])
def test_any_other_transfer_encoding_than_chunked_is_refused(encoding: str) -> None:
    error = refusal_at_once(OK + f"Transfer-Encoding: {encoding}\r\n\r\n".encode())
    assert isinstance(error, Refused)
    assert str(error).startswith("it answered in Transfer-Encoding ")
    assert len(str(error)) < 200


# ---- what is bounded -----------------------------------------------------------------------------------------


def flooded(begin: bytes, piece: bytes) -> tuple[ExchangeError, int]:
    """What ends an answer that goes on with ``piece``, and after how many bytes."""
    answer, received = HttpAnswer(Limits(10.0, MOST)), len(begin)
    answer.feed(begin)
    try:
        while received < 4 * MIB:
            received += len(piece)
            answer.feed(piece)
    except ExchangeError as error:
        return error, received
    raise AssertionError("4 MiB were read, and no end")


def framings(body: bytes) -> list[bytes]:
    return [
        OK + b"Content-Length: %d\r\n\r\n" % len(body) + body,
        CHUNKED + b"%x\r\n" % len(body) + body + b"\r\n0\r\n\r\n",
        OK + b"\r\n" + body,
    ]


@pytest.mark.parametrize("framing", range(3))
def test_a_body_has_the_largest_size_or_is_too_long(framing: int) -> None:
    assert len(read([framings(b"x" * MOST)[framing]]).body) == MOST
    error = refusal(framings(b"x" * (MOST + 1))[framing])
    assert isinstance(error, TooLong)
    assert (error.most_bytes, error.of_http) == (MOST, False)
    assert str(error) == "its answer is longer than 1000 bytes ([source.x] max_reply_bytes)"


@pytest.mark.parametrize(
    ("begin", "block"),
    [
        (b"", b"HTTP/1.1 100 Continue\r\n\r\n"),
        (b"", b"HTTP/1.1 103 Early Hints\r\nLink: </x>\r\n\r\n"),
        (CHUNKED, b"1;%s\r\n \r\n" % (b"x" * 10_000)),
        (CHUNKED + b"0\r\n", b"X: y\r\n"),
    ],
    ids=["100", "103", "extensions", "trailers"],
)
def test_http_around_a_body_is_bounded_in_all(begin: bytes, block: bytes) -> None:
    piece = block * (65_536 // len(block))
    error, received = flooded(begin, piece)
    assert isinstance(error, TooLong)
    assert "longer than 1000 bytes and 1048576 of HTTP around them" in str(error)
    assert (error.most_bytes, error.of_http) == (MOST + MIB, True)
    assert MIB < received < MIB + 2 * 65_536


@pytest.mark.parametrize("piece", [b"X: y\r\n" * 10_000, b"y" * 60_000], ids=["many headers", "a long header"])
def test_one_head_is_bounded(piece: bytes) -> None:
    error, received = flooded(OK + b"X: ", piece)
    assert isinstance(error, NotHttp)
    assert "a head of more than 131072 bytes" in str(error)
    assert received < 200_000


def test_a_head_that_servers_may_send_is_read() -> None:
    cookies = b"".join(b"Set-Cookie: c%d=%s\r\n" % (i, b"x" * 60) for i in range(900))
    assert read([OK + cookies + b"Content-Length: 5\r\n\r\nhello"]).body == b"hello"


@pytest.mark.parametrize(
    "text",
    [
        CHUNKED + b"1\r\n \r\n" * 300_000,
        OK + b"".join(b"X%d:yy\r\n" % i for i in range(12_000)),
        OK + b"".join(b"Content-Type: y%d\r\n" % i for i in range(5_000)),
        b"HTTP/1.1 200 " + b"O" * 120_000,
    ],
    ids=["chunks of a byte", "names", "one name", "reason"],
)
def test_an_answer_takes_no_more_memory_than_a_few_times_its_body(text: bytes) -> None:
    """Chunks and headers are not kept as objects, of 50 bytes and more each."""
    tracemalloc.start()
    with contextlib.suppress(ExchangeError):
        read((text[i : i + 65_536] for i in range(0, len(text), 65_536)), most=MIB)
    _, peak = tracemalloc.get_traced_memory()
    tracemalloc.stop()
    assert peak < MIB


def test_an_answer_that_is_done_waits_for_no_garbage_collector() -> None:
    gc.disable()
    try:
        answer = HttpAnswer(Limits(10.0, MOST))
        assert answer.feed(WHOLE["length"]) is not None
        gone = weakref.ref(answer)
        answer.close()
        del answer
        assert gone() is None
    finally:
        gc.enable()


@given(st.lists(st.binary(max_size=100)) | st.sampled_from(list(WHOLE.values())).map(lambda text: [text]))
def test_no_bytes_do_more_than_fail(pieces: list[bytes]) -> None:
    with contextlib.suppress(ExchangeError):
        read(pieces)


@given(st.sampled_from(list(WHOLE.values())), st.data())
def test_bytes_changed_in_a_whole_answer_do_no_more_than_fail(text: bytes, data: st.DataObject) -> None:
    at = data.draw(st.integers(0, len(text)))
    changed = text[:at] + data.draw(st.binary(max_size=3)) + text[at + data.draw(st.integers(0, 3)) :]
    cut = data.draw(st.integers(0, len(changed)))
    with contextlib.suppress(ExchangeError):
        assert len(read([changed[:cut], changed[cut:]]).body) <= MOST


# ---- lines ---------------------------------------------------------------------------------------------------


def test_lines_are_all_that_is_said_up_to_the_largest_size() -> None:
    answer = LineAnswer(Limits(10.0, MOST))
    assert answer.feed(b"x" * MOST) is None
    assert answer.end() == Reply(b"x" * MOST)
    with pytest.raises(TooLong, match="its answer is longer than 1000 bytes"):
        answer.feed(b"x")
