"""HAProxy and supervisord as they may be: pages of statistics and answers of XML-RPC, right and wrong."""

from __future__ import annotations

import xmlrpc.client
from collections.abc import Iterator
from typing import Final

from tests.siege.hostile import http, says
from tests.siege.targets_behaviour import NOTHING, Behaviour, Target, answers, in_chunks

_METRICS = ("deployment_replica_count", "deployment_request_rate", "deployment_error_rate", "deployment_latency")
WEB: Final = ("deployment_replica_count", ("web",))
DB: Final = ("deployment_replica_count", ("db",))
APPS: Final = ("deployment_replica_count", ("apps",))

HEADER: Final = "# pxname,svname,stot,econ,eresp,act,hrsp_5xx,req_tot,rtime,mode,"


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


def haproxy(raw: bool) -> Target:
    """Its page of statistics, or (raw) the same at its stats socket."""
    return Target(
        "show stat" if raw else "/stats;csv", lambda number: page(*lines(number)),
        # Of its backends all series.
        frozenset((metric, (name,)) for metric in _METRICS for name in ("web", "db")),
        [*_pages(raw), *_cells(raw), *_names(raw)],
        ("answers 'x' for a number", "answers with 1 MiB of line ends", "answers 2,000 new backends each time",
         "answers with a quote that never ends"),
        not_it=("CSV header", "breaks off in mid-line"), path_in_url=not raw, raw=raw,
    )  # fmt: skip


def _pages(raw: bool) -> Iterator[Behaviour]:
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
        yield Behaviour(f"answers with {name}", answers(make, raw=raw), (said,))


def _cells(raw: bool) -> Iterator[Behaviour]:
    """A cell that is no number costs its own sample, and is no error: versions of HAProxy differ in their columns."""
    spoilt = frozenset({WEB})
    for cell in ("", "x", "-1", "1.5", "nan", "inf", "0x10", "1e3", " 1", "9" * 5000, str(2**64), "\0", "٣"):

        def make(number: int, cell: str = cell) -> bytes:
            frontend, _, db = lines(number)
            return page(frontend, f"web,BACKEND,{number},0,0,{cell},2,{number},14,http,", db)

        yield Behaviour(f"answers {cell[:8]!a} for a number", answers(make, raw=raw), (), spoilt)

    def without(number: int) -> bytes:
        return page(*(f"{name},BACKEND,{number}" for name in ("web", "db")), header="# pxname,svname,stot,")

    def shuffled(number: int) -> bytes:
        return page(*(f"{name},{number},BACKEND,9,9,9" for name in ("web", "db")), header="# pxname,act,svname,x")

    yield Behaviour("leaves out columns", answers(without, raw=raw), (), frozenset({WEB, DB}))
    yield Behaviour("answers columns of another order", answers(shuffled, raw=raw), ("CSV header",))


def _names(raw: bool) -> Iterator[Behaviour]:
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

    yield Behaviour("answers 2,000 new backends each time", answers(many, raw=raw), (), NOTHING)
    yield Behaviour("answers backends of strange names", answers(strange, raw=raw), (), NOTHING)
    yield Behaviour(
        "answers a name of 1,001 characters", answers(long, raw=raw), ("1001 characters; at most 1000",), NOTHING
    )
    yield Behaviour("answers columns that nobody knows", answers(wide, raw=raw), (), NOTHING)


# ---- supervisord ---------------------------------------------------------------------------------------------


def answer(processes: object) -> bytes:
    return xmlrpc.client.dumps((processes,), methodresponse=True).encode()  # type: ignore[arg-type]  # wrong on purpose


def processes(number: int) -> list[dict[str, object]]:
    return [{"name": f"p{i}", "group": "apps", "statename": "RUNNING", "pid": number} for i in range(1 + number % 7)]


def _body(number: int) -> bytes:
    return answer(processes(number))


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
    def spaced(number: int) -> bytes:
        return _body(number).replace(b"</value>\n", b"</value>" + b"\n" * 100_000)

    def latin(number: int) -> bytes:
        return _body(number).replace(b"version='1.0'", b"version='1.0' encoding='latin-1'")

    def utf_16(number: int) -> bytes:
        return _body(number).decode().encode("utf-16")

    yield in_chunks(_body)
    yield Behaviour("answers in UTF-16", answers(utf_16), (), NOTHING)
    yield Behaviour("answers with 100,000 line ends in a row", answers(spaced), (), NOTHING)
    yield Behaviour("names another encoding", answers(latin), (), NOTHING)


SUPERVISORD: Final = Target(
    "/RPC2", _body, frozenset({APPS}), [*_xml(_body(1)), *_tolerated()],
    ("answers a fault", "sends 1 GiB", "accepts and never answers"), not_it=("not a list of processes",), unique=False,
)  # fmt: skip
