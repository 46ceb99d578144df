"""HAProxy and supervisord as they may be: pages of statistics and answers of XML-RPC, right and wrong."""

from __future__ import annotations

import random
import xmlrpc.client
from collections.abc import Callable, Iterator
from typing import Final

from tests.siege.hostile import Script, Step, chunks, drips, endless, gibibyte, http, says, silent
from tests.siege.targets_behaviour import NOTHING, Behaviour, Words, http_behaviours

STAT: Final = "show stat"  # the question on a stats socket
PAGE: Final = "/stats;csv"
RPC: Final = "/RPC2"

_METRICS = ("deployment_replica_count", "deployment_request_rate", "deployment_error_rate", "deployment_latency")
WEB: Final = ("deployment_replica_count", ("web",))
DB: Final = ("deployment_replica_count", ("db",))
APPS: Final = ("deployment_replica_count", ("apps",))
# Of HAProxy's backends all series, of supervisord's group the one that it knows.
HAPROXY_SERIES: Final = frozenset((metric, (name,)) for metric in _METRICS for name in ("web", "db"))
SUPERVISORD_SERIES: Final = frozenset({APPS})

# What a short check begins with.
SUPERVISORD_FIRST: Final = "answers a fault", "sends 1 GiB", "accepts and never answers"
HAPROXY_FIRST: Final = (
    "answers 'x' for a number", "answers with 1 MiB of line ends", "answers 2,000 new backends each time",
    "answers with a quote that never ends",
)  # fmt: skip

HEADER: Final = "# pxname,svname,stot,econ,eresp,act,hrsp_5xx,req_tot,rtime,mode,"

_HAPROXY = Words(
    late=("no whole answer within",),
    long=("longer than 4194304 bytes",),
    broken=("its answer broke off",),
    redirect=("HTTP 30",),
    body=("CSV header", "breaks off in mid-line"),
    encoding=("it was asked for identity",),
)
_SUPERVISORD = Words(
    late=_HAPROXY.late, long=_HAPROXY.long, broken=_HAPROXY.broken, redirect=_HAPROXY.redirect,
    body=("not a list of processes",), encoding=_HAPROXY.encoding,
)  # fmt: skip


# ---- HAProxy -------------------------------------------------------------------------------------------------


def lines(number: int) -> list[str]:
    """Two backends, with the number as their servers, so that each page has replicas of its own."""
    return [
        f"web,FRONTEND,{number},,,,0,{number},,http,",
        f"web,BACKEND,{number},0,0,{number},2,{number},14,http,",
        f"db,BACKEND,{number},0,0,{number}0,,,0,tcp,",
    ]


def page(*text: str, header: str = HEADER) -> bytes:
    return "\n".join([header, *text, "", ""]).encode()


def haproxy_well(unix: bool) -> Script:
    return _page(lambda number: page(*lines(number)), unix)


def _page(make: Callable[[int], bytes], unix: bool) -> Script:
    def script(number: int) -> Iterator[Step]:
        yield make(number) if unix else http(make(number))

    return script


def haproxy_behaviours(unix: bool, elsewhere: str) -> list[Behaviour]:
    sound = page(*lines(1))
    transport = _socket_behaviours(sound) if unix else http_behaviours(sound, elsewhere, _HAPROXY)
    return [*transport, *_pages(unix), *_cells(unix), *_names(unix)]


def _socket_behaviours(sound: bytes) -> Iterator[Behaviour]:
    """What a stats socket may do, which has no protocol but the page."""
    late, long = _HAPROXY.late, _HAPROXY.long
    yield Behaviour("accepts and never answers", silent, late)
    yield Behaviour("answers a byte now and then", drips(sound + b"web,BACKEND,1\n" * 90), late)
    yield Behaviour("says its page and never hangs up", says(sound, 3600.0), late)
    yield Behaviour("goes on with lines", endless(sound[:-1], b"x,BACKEND,1\n" * 1000), long)
    yield Behaviour("goes on with a line", endless(sound[:-1], b"x" * 65_536), long)
    yield Behaviour("sends 1 GiB", gibibyte(b"", bytes(2**20)), long)
    yield Behaviour("hangs up at once", says(), _HAPROXY.body)
    yield Behaviour("hangs up between two lines", says(sound[:-1]), ("broke off",))
    yield Behaviour("hangs up in mid-line", says(sound[:-9]), ("broke off",))
    yield Behaviour("says binary garbage", says(bytes(range(256)) * 64), _HAPROXY.body)
    yield Behaviour("refuses", says(b"Permission denied\n\n"), ("'Permission denied",))


def _pages(unix: bool) -> Iterator[Behaviour]:
    """Pages that are none as a whole."""
    backends = page(*(f"{i:x},BACKEND,1" for i in range(20_000)))
    web = 'web,BACKEND,"1,0,0,4,2,9,14,http,'
    for name, make, said in (
        ("a quote that never ends", lambda n: page(web, *lines(n)), "not CSV"),
        ("a quote in mid-cell", lambda n: page('web,BACKEND,"1"0,4', *lines(n)), "not CSV"),
        ("1 MiB of line ends", lambda n: page(*lines(n)) + b"\n" * 2**20, "more than 50000 lines"),
        ("a row of 1,000,000 cells", lambda n: page(*lines(n), "x,BACKEND" + ",1" * 10**6), "65536 bytes"),
        ("4 MiB of astral characters", lambda n: page("\U0001f600" * 10**6, *lines(n)), "65536 bytes"),
        ("20,000 backends", lambda n: backends, "10000 backends"),
        ("another table", lambda n: page(*lines(n), header="# name,value"), "CSV header"),
    ):  # fmt: skip
        yield Behaviour(f"answers with {name}", _page(make, unix), (said,))


def _cells(unix: bool) -> Iterator[Behaviour]:
    """A cell that is no number costs its own sample, and is no error: versions of HAProxy differ in their columns."""
    spoilt = frozenset({WEB})
    for cell in ("", "x", "-1", "1.5", "nan", "inf", "0x10", "1e3", " 1", "9" * 5000, str(2**64), "\0", "٣"):

        def make(number: int, cell: str = cell) -> bytes:
            frontend, _, db = lines(number)
            return page(frontend, f"web,BACKEND,{number},0,0,{cell},2,{number},14,http,", db)

        yield Behaviour(f"answers {cell[:8]!a} for a number", _page(make, unix), (), spoilt)

    def without(number: int) -> bytes:
        return page(*(f"{name},BACKEND,{number}" for name in ("web", "db")), header="# pxname,svname,stot,")

    def shuffled(number: int) -> bytes:
        return page(*(f"{name},{number},BACKEND,9,9,9" for name in ("web", "db")), header="# pxname,act,svname,x")

    yield Behaviour("leaves out columns", _page(without, unix), (), frozenset({WEB, DB}))
    yield Behaviour("answers columns of another order", _page(shuffled, unix), ("CSV header",))


def _names(unix: bool) -> Iterator[Behaviour]:
    """Right for web and db, and beside them backends of many names, or strange ones."""

    def many(number: int) -> bytes:
        return page(*lines(number), *(f"many-{number}-{i},BACKEND,1,2,3,4,5,6,7,http," for i in range(2000)))

    def strange(number: int) -> bytes:
        names = ['"a""b"', '"c\nd"', "e\\", "\0", "\x1b[2J", "\u2028", "ü\u0301", "{}", " ", "x" * 1000]
        return page(*lines(number), *(f"{name},BACKEND,1,2,3,4,5,6,7,http," for name in names))

    def long(number: int) -> bytes:
        return page(*lines(number), f"{'x' * 1001},BACKEND,1,2,3,4,5,6,7,http,")

    def wide(number: int) -> bytes:
        return page(*(line + "9," * 900 for line in lines(number)), header=HEADER + "web," * 900)

    yield Behaviour("answers 2,000 new backends each time", _page(many, unix), (), NOTHING)
    yield Behaviour("answers backends of strange names", _page(strange, unix), (), NOTHING)
    yield Behaviour(
        "answers a name of 1,001 characters", _page(long, unix), ("1001 characters; at most 1000",), NOTHING
    )
    yield Behaviour("answers columns that nobody knows", _page(wide, unix), (), NOTHING)


# ---- supervisord ---------------------------------------------------------------------------------------------


def answer(processes: object) -> bytes:
    return xmlrpc.client.dumps((processes,), methodresponse=True).encode()  # type: ignore[arg-type]  # wrong on purpose


def processes(number: int) -> list[dict[str, object]]:
    return [{"name": f"p{i}", "group": "apps", "statename": "RUNNING", "pid": number} for i in range(1 + number % 7)]


def supervisord_well() -> Script:
    return _answer(lambda number: answer(processes(number)))


def _answer(make: Callable[[int], bytes], *headers: str) -> Script:
    def script(number: int) -> Iterator[Step]:
        yield http(make(number), "Content-Type: text/xml", *headers)

    return script


def supervisord_behaviours(elsewhere: str) -> list[Behaviour]:
    sound = answer(processes(1))
    return [*http_behaviours(sound, elsewhere, _SUPERVISORD), *_xml(sound), *_tolerated()]


def _xml(sound: bytes) -> Iterator[Behaviour]:
    fault = xmlrpc.client.dumps(xmlrpc.client.Fault(1, "UNKNOWN_METHOD"), methodresponse=True).encode()
    for name, body, said in (
        ("a fault", fault, "it refused: UNKNOWN_METHOD"),
        ("a string", answer("RUNNING"), "not a list of processes"),
        ("a list of strings", answer(["apps"]), "not a list of processes"),
        ("a process without a state", answer([*processes(1), {"group": "apps"}]), "not a list of processes"),
        ("invalid UTF-8", sound.replace(b">p0<", b">\xff<"), "not a list of processes"),
        ("half of its XML", sound[: len(sound) // 2], "not a list of processes"),
    ):  # fmt: skip
        yield Behaviour(f"answers {name}", says(http(body)), (said,))


def _tolerated() -> Iterator[Behaviour]:
    def pieces(number: int) -> Iterator[Step]:
        body = answer(processes(number))
        yield chunks([body[i : i + 2] for i in range(0, len(body), 2)])

    def spaced(number: int) -> bytes:
        return answer(processes(number)).replace(b"</value>\n", b"</value>" + b"\n" * 100_000)

    def latin(number: int) -> bytes:
        return answer(processes(number)).replace(b"version='1.0'", b"version='1.0' encoding='latin-1'")

    def utf_16(number: int) -> bytes:
        return answer(processes(number)).decode().encode("utf-16")

    yield Behaviour("answers in UTF-16", _answer(utf_16), (), NOTHING)
    yield Behaviour("answers in chunks of 2 bytes", pieces, (), NOTHING)
    yield Behaviour("answers with 100,000 line ends in a row", _answer(spaced), (), NOTHING)
    yield Behaviour("names another encoding", _answer(latin), (), NOTHING)


# ---- mutated -------------------------------------------------------------------------------------------------


class Mutated:
    """Sound answers of HAProxy or supervisord with some bytes changed."""

    def __init__(self, kind: str, random_: random.Random) -> None:
        self.answers = 0
        self._kind = kind
        self._random = random_

    def script(self, number: int) -> Iterator[Step]:
        sound = answer(processes(number)) if self._kind == "supervisord" else page(*lines(number))
        body = bytearray(sound)
        for _ in range(self._random.choice((0, 1, 1, 2, 3, 8))):
            mutate(body, self._random)
        self.answers += 1
        yield bytes(body) if self._kind == "socket" else http(bytes(body))


def mutate(body: bytearray, random_: random.Random) -> None:
    """Change, insert, take out or repeat some bytes."""
    at = random_.randrange(len(body) + 1)
    kind = random_.randrange(4)
    if kind == 0 and at < len(body):
        body[at] = random_.randrange(256)
    elif kind == 1:
        body[at:at] = random_.choice(
            (b"\n", b",", b'"', b"<", b">", b"&a;", b"-", b"\0", b"\xff", b"9" * 30, b"]]>", b"{", b"}", b"NaN")
        )
    elif kind == 2:
        del body[at : at + random_.randrange(20)]
    else:
        other = random_.randrange(len(body) + 1)
        body[at:at] = body[min(at, other) : max(at, other)]
