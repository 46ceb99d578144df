"""A control plane, an engine of containers and a proxy's page for Prometheus as they may be: right and wrong."""

from __future__ import annotations

import json
from collections.abc import Iterator
from typing import Final

from tests.siege.hostile import Step, http, says
from tests.siege.targets_behaviour import NOTHING, Behaviour, Target, answers, in_chunks, json_behaviours, marked

# The mapping of the page, one of our own.
MAPPING: Final = """\
deployment_id = "service"
requests = [{name = "requests_total"}]
errors = [{name = "requests_total", labels = {code = "5*"}}]
latency_seconds = {name = "request_seconds"}
replicas = [{name = "workers"}]
"""
_LABEL: Final = "com.docker.compose.service"

_METRICS = ("deployment_replica_count", "deployment_request_rate", "deployment_error_rate", "deployment_latency")
SHOP: Final = ("deployment_replica_count", ("shop",))
_API: Final = frozenset({("deployment_replica_count", ("api",))})
_MOST_BYTES: Final = 4 << 20


# ---- JSON ----------------------------------------------------------------------------------------------------


def _json(sound: bytes, many: list[object]) -> Iterator[Behaviour]:
    """Bodies that are wrong as a whole, whoever sends them. ``many``: more deployments than may be."""
    yield from json_behaviours(sound, _MOST_BYTES, "is not JSON", "not a list but")
    for name, body, said in (
        ("3 MiB of numbers", b"[0" + b",0" * 1_500_000 + b"]", "more than 150000 values"),
        ("an object", b"{}", "not a list but"),
        ("a list of numbers", b"[1, 2]", "not a list of objects"),
        ("12,000 deployments", json.dumps(many).encode(), "more than 10000 deployments"),
    ):
        yield Behaviour(f"answers {name}", says(http(body)), (said,))


# ---- the control plane ---------------------------------------------------------------------------------------


def rows(number: int) -> bytes:
    """One deployment, with the number as its replicas, so that each answer has replicas of its own."""
    return json.dumps([{"id": "6f1c", "name": "api", "status": "running", "running_replicas": number}]).encode()


def _rows() -> Iterator[Behaviour]:
    for text in ("-1", "1.5", "true", '"1"', "[1]", "{}", "1e30", str(2**64)):
        body = rows(0).replace(b": 0}", f": {text}}}".encode())
        yield Behaviour(f"answers {text[:8]} for a number", says(http(body)), ("not a whole number from 0",))
    for name, row in (("neither id nor name", {}), ("an id that is a list", {"id": [1], "name": "api"})):
        yield Behaviour(f"answers {name}", says(http(json.dumps([row]).encode())), ("lacks id and name",))

    def pages(number: int) -> Iterator[Step]:
        yield http(json.dumps([{"id": f"{number}-{i}", "name": "api"} for i in range(100)]).encode())

    def page_of_one(number: int) -> Iterator[Step]:
        # Full pages that say nothing new: the second is the last.
        yield http(json.dumps([{"id": str(i), "name": f"other{i}"} for i in range(100)]).encode())

    endless = ("no whole answer within", "for all of its pages", "more than 10000 deployments")
    yield Behaviour("goes on with new pages", pages, endless)
    yield Behaviour("repeats a full page", page_of_one, (), _API)


def _rows_tolerated() -> Iterator[Behaviour]:
    def strange(number: int) -> bytes:
        names = ["a\0b", "\x1b[2J", "\u2028", "ü\u0301", "{}", " ", '"\\\n', "x" * 1000]
        more = [{"id": str(i), "name": name, "running_replicas": i} for i, name in enumerate(names)]
        return json.dumps([*json.loads(rows(number)), *more]).encode()

    def long(number: int) -> bytes:
        return json.dumps([*json.loads(rows(number)), {"id": "x", "name": "x" * 1001, "running_replicas": 1}]).encode()

    def unsaid(number: int) -> bytes:
        return json.dumps([{"id": "6f1c", "name": "api", "running_replicas": None}]).encode()

    yield in_chunks(rows)
    yield marked(rows)
    yield Behaviour("answers names that are strange", answers(strange), (), NOTHING)
    yield Behaviour("answers a name of 1,001 characters", answers(long), ("1001 characters; at most 1000",), NOTHING)
    yield Behaviour("says nothing of replicas", answers(unsaid), (), _API)


# ---- the engine ----------------------------------------------------------------------------------------------


def containers(number: int) -> bytes:
    """Some containers of one service that run, and one that is stopped."""
    running = [{"Id": f"{i}", "State": "running", "Labels": {_LABEL: "jobs"}} for i in range(1 + number % 7)]
    return json.dumps([*running, {"Id": "s", "State": "exited", "Labels": {_LABEL: "jobs"}}]).encode()


def _containers() -> Iterator[Behaviour]:
    labels = {_LABEL: "jobs"}
    for name, one, said in (
        ("a container without a state", {"Labels": labels}, "lacks State"),
        ("a state that is a number", {"State": 1, "Labels": labels}, "lacks State"),
        ("labels that are a list", {"State": "running", "Labels": [_LABEL]}, "lacks State"),
        ("a label that is a number", {"State": "running", "Labels": {_LABEL: 5}}, "not a string"),
    ):
        yield Behaviour(f"answers {name}", says(http(json.dumps([one]).encode())), (said,))

    def others(number: int) -> bytes:
        rest = [{"State": "running", "Labels": None}, {"State": "running", "Labels": {_LABEL: ""}}, {"State": "odd"}]
        return json.dumps([*rest, *json.loads(containers(number))]).encode()

    yield in_chunks(containers)
    yield marked(containers)
    yield Behaviour("answers containers without the label", answers(others), (), NOTHING)


# ---- a page for Prometheus -----------------------------------------------------------------------------------


def page(number: int, *lines: str, workers: str = "", service: str = "shop") -> bytes:
    """One service, with the number as its workers; each page has ten requests more than the one before."""
    of = f'service="{service}"'
    return "\n".join(
        [
            "# TYPE requests_total counter",
            f'requests_total{{{of},code="200"}} {9 * number}',
            f'requests_total{{{of},code="503"}} {number}',
            "# TYPE request_seconds histogram",
            f'request_seconds_bucket{{{of},le="0.1"}} {6 * number}',
            f'request_seconds_bucket{{{of},le="+Inf"}} {10 * number}',
            f"request_seconds_sum{{{of}}} {number}",
            f"request_seconds_count{{{of}}} {10 * number}",
            f"workers{{{of}}} {workers or number}",
            *lines,
            "",
        ]
    ).encode()


def _pages() -> Iterator[Behaviour]:
    mapped = [f'workers{{service="shop",i="{i}"}} 1' for i in range(40_000)]
    services = [f'workers{{service="n{i}"}} 1' for i in range(12_000)]
    for name, body, said in (
        ("40,000 samples that are mapped", page(1, *mapped), "more than 30000 samples"),
        ("12,000 deployments", page(1, *services), "more than 10000 deployments"),
        ("4 MiB of line ends", page(1) + b"\n" * 4_000_000, "more than 200000 lines"),
        ("a label that never ends", page(1, 'workers{service="shop,i="x} 1'), "its labels can't be read"),
        ("a value that is no number", page(1, workers="many"), "is not a number"),
        ("a value in hexadecimal", page(1, workers="0x10"), "is not a number"),
        ("line ends of two bytes", page(1).replace(b"\n", b"\r\n"), "is not a number"),
        ("invalid UTF-8", page(1).replace(b'"shop"', b'"\xff"'), "can't decode byte"),
        ("half of a line", page(1)[:-3], "breaks off in mid-line"),
        ("binary samples", bytes(range(256)) * 16 + b"\n", "can't decode byte"),
        ("comments alone", b"# HELP x y\n" * 1000, "no samples"),
    ):
        # What takes half of the time that there is may take all of it on a machine with other work.
        late = ("did not answer within", "still hangs") if body.count(b"\n") > 10_000 else ()
        yield Behaviour(f"answers {name}", says(http(body)), (said, *late))


def _values() -> Iterator[Behaviour]:
    """A value that is no count costs the sum that it is part of, and is no error: NaN is a value to Prometheus."""
    for text in ("-1", "NaN", "+Inf", "-Inf", "1e300", "-1e-9"):

        def make(number: int, text: str = text) -> bytes:
            return page(number, f'workers{{service="shop",i="2"}} {text}')

        yield Behaviour(f"answers {text} for a number", answers(make), (), frozenset({SHOP}))


def _pages_tolerated() -> Iterator[Behaviour]:
    def back(number: int) -> bytes:
        return page(number).replace(b" %d\n" % (9 * number), b" 5\n").replace(b" %d\n" % (10 * number), b" 6\n")

    def unknown(number: int) -> bytes:
        other = [f'other_total{{i="{i}"}} NaN 1395066363000' for i in range(5000)]
        return page(number, *other, '# HELP x \\"\\n', "", "workers_total 5", "workers 7")

    def names(number: int) -> bytes:
        strange = ["\\n", "\\\\", '\\"', "ü\u0301", "{}", " ", "\x1b[2J", "x" * 1000]
        return page(number, *(f'workers{{service="{name}"}} {i}' for i, name in enumerate(strange)))

    def long(number: int) -> bytes:
        return page(number, f'workers{{service="{"x" * 1001}"}} 1')

    def long_line(number: int) -> bytes:
        return page(number, "x" * 2**20)

    for name, script, said in (
        ("with counters that go back", answers(back), ()),
        ("families that nobody knows", answers(unknown), ()),
        ("names that are strange", answers(names), ()),
        ("a name of 1,001 characters", answers(long), ("1001 characters; at most 1000",)),
        ("with a line of 1 MiB", answers(long_line), ()),
    ):
        yield Behaviour(f"answers {name}", script, said, NOTHING)
    yield in_chunks(page)


# ---- the three -----------------------------------------------------------------------------------------------

CONTROL_PLANE: Final = Target(
    "/api/deployment/list", rows, _API,
    [*_json(rows(1), [{"id": str(i), "name": f"n{i}"} for i in range(12_000)]), *_rows(), *_rows_tolerated()],
    ("answers 3 MiB of numbers", "goes on with new pages", "accepts and never answers", "answers -1 for a number",
     "answers lists 40,000 deep", "redirects to elsewhere (302)"),
    not_it=("not a control plane of fog-compute",),
)  # fmt: skip
DOCKER: Final = Target(
    "/containers/json", containers, frozenset({("deployment_replica_count", ("jobs",))}),
    [*_json(containers(1), [{"State": "running", "Labels": {_LABEL: f"n{i}"}} for i in range(12_000)]), *_containers()],
    ("accepts and never answers", "answers a container without a state", "sends 1 GiB", "answers NaN",
     "answers 12,000 deployments", "sends a bomb of gzip"),
    not_it=("is not Docker or Podman",), unique=False,
)  # fmt: skip
PAGE: Final = Target(
    "/metrics", page, frozenset((metric, ("shop",)) for metric in _METRICS),
    [*_pages(), *_values(), *_pages_tolerated()],
    ("answers 40,000 samples that are mapped", "answers half of a line", "accepts and never answers",
     "answers with counters that go back", "answers a label that never ends", "answers -1 for a number",
     "answers NaN for a number"),
    not_it=("is not a valid page for Prometheus",), path_in_url=True,
)  # fmt: skip
