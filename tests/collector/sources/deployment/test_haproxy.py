"""HAProxy as a provider: its statistics as text, the real one counting what we sent, servers that are not HAProxy."""

from __future__ import annotations

from pathlib import Path

import pytest

from collector.sources.deployment.haproxy import BackendStats, HaproxyProvider, parse_stats
from collector.sources.deployment.provider import Deployment, ProviderError
from collector.sources.target import Limits
from tests.collector import hostile
from tests.collector.sources.deployment.test_providers import LIMITS
from tests.memory import most_resident

# ``show stat`` of HAProxy 2.6.12, recorded; some lines are left out, none is changed.
RECORDED = Path(__file__).with_name("haproxy_2_6_stats.csv").read_text()
HEADER = "# pxname,svname,stot,econ,eresp,act,hrsp_5xx,req_tot,rtime,mode,"


def page(*lines: str, header: str = HEADER) -> str:
    return "\n".join([header, *lines, "", ""])


def parse(text: str) -> list[BackendStats]:
    return parse_stats(text.encode())


@pytest.fixture
def told(tmp_path: Path) -> Told:
    return Told(tmp_path)


class Told:
    """A provider whose HAProxy says what the test tells it to, ``seconds`` after it was asked before."""

    def __init__(self, folder: Path) -> None:
        self.path, self.now = folder / "s.sock", 1000.0
        self.provider = HaproxyProvider(f"unix://{self.path}", LIMITS, ["hidden*"], lambda: self.now)

    def ask(self, text: str, seconds: float = 10.0) -> dict[str, Deployment]:
        self.now += seconds
        self.path.unlink(missing_ok=True)
        with hostile.server(self.path, hostile.says(text.encode())):
            answer = self.provider.deployments()
        return {one.deployment_id: one for one in answer}


def test_the_recorded_page_is_read() -> None:
    assert parse(RECORDED) == [
        BackendStats("good", False, 2, 4, (0, 0, 0), 2),
        BackendStats("dead", False, 1, 1, (1, 0, 1), 0),
        BackendStats("empty", False, 0, 0, (0, 0, 0), 0),
        BackendStats("raw", True, 1, 1, (0, 0), None),
    ]


def test_columns_are_found_by_name_wherever_they_are() -> None:
    text = "# pxname,svname,mode,new,rtime,req_tot,hrsp_5xx,act,eresp,econ\nweb,BACKEND,http,?,7,6,5,4,3,2\n"
    assert parse(text) == [BackendStats("web", False, 4, 6, (2, 3, 5), 7)]


def test_a_column_that_is_missing_leaves_the_others() -> None:
    assert parse("# pxname,svname,req_tot,act\nweb,BACKEND,9,2\n") == [
        BackendStats("web", False, 2, 9, (None, None, None), None)
    ]
    assert parse("# pxname,svname,act,rtime\nweb,BACKEND,2\n") == [  # a line that is too short
        BackendStats("web", True, 2, None, (None, None), None)
    ]


@pytest.mark.parametrize("cell", ["", "x", "-1", "1.5", "nan", "٣", "1_0", " 1", "18446744073709551616", "9" * 5000])
def test_a_cell_that_is_no_count_is_unknown_and_leaves_the_others(cell: str) -> None:
    assert parse(page(f"a,BACKEND,1,2,3,{cell},5,6,7,http,")) == [BackendStats("a", False, None, 6, (2, 3, 5), 7)]


def test_a_response_time_that_haproxy_can_not_measure_is_unknown() -> None:
    cells = [parse(page(f"a,BACKEND,1,2,3,4,5,6,{ms},http,"))[0].response_time_ms for ms in (2**32 - 1, 2**32)]
    assert cells == [2**32 - 1, None]


_SETUP = "from collector.sources.deployment.haproxy import parse_stats"
_PARSE = """
with contextlib.suppress(ValueError):
    parse_stats(given)
"""


def test_a_page_takes_no_more_memory_than_a_few_times_its_size() -> None:
    """4 MiB of line ends were 320 MiB of rows, 4 MiB of short cells 100 MiB."""
    for text in ("\n" * 400_000, ("ab," * 20_000 + "\n") * 66, ("\U0001f600" * 60_000 + "\n") * 16):
        whole = f"{HEADER}\n{text}\n".encode()
        assert most_resident(_SETUP, _PARSE, whole) < 8 * 2**20


def test_the_largest_count_of_haproxy_is_read() -> None:
    assert parse(page("web,BACKEND,1,2,3,4,5,18446744073709551615,7,http,"))[0].requests == 2**64 - 1


def test_a_backend_without_mode_is_http_when_it_counts_requests() -> None:
    http, tcp = parse(page("web,BACKEND,1,2,3,4,5,6,7,,", "db,BACKEND,1,2,3,4,,,0,,"))
    assert (http.tcp, http.requests) == (False, 6)
    assert (tcp.tcp, tcp.requests) == (True, 1)


def test_only_backends_with_a_name_count() -> None:
    assert parse(page(",BACKEND,1,2,3,4,5,6,7,http,", "web,FRONTEND,1,2,3,4,5,6,7,http,", "", "x")) == []


def test_quoted_cells_may_hold_commas_quotes_and_line_ends() -> None:
    assert parse(page('"w,""\nb",BACKEND,1,2,3,4,5,6,7,http,')) == [BackendStats('w,"\nb', False, 4, 6, (2, 3, 5), 7)]


@pytest.mark.parametrize(
    ("text", "reason"),
    [
        ("", "CSV header"),
        ("<html>\n", "CSV header but with '<html>"),
        ("Permission denied\n\n", "Permission denied"),
        (HEADER + "\nweb,BACKEND,1,2", "breaks off"),
        (page("web,BACKEND," + "1" * 200_000), "line of more than 65536 bytes"),
        (page("web,BACKEND," + "," * 100_000), "line of more than 65536 bytes"),
        (page('web,BACKEND,"1,2,3', "db,BACKEND,1,2,3,4,5,6,7,http,"), "not CSV"),
        (page('web,BACKEND,"1"x,2,3'), "not CSV"),
        (page(*[""] * 50_001), "more than 50000 lines"),
        (page(*(f"b{i},BACKEND,1" for i in range(10_001))), "more than 10000 backends"),
    ],
)
def test_what_is_no_page_of_statistics_is_an_error(text: str, reason: str) -> None:
    with pytest.raises(ValueError, match=reason):
        parse(text)


def test_the_first_reading_knows_replicas_but_no_rates(told: Told) -> None:
    assert told.ask(page("web,BACKEND,100,2,3,4,5,100,7,http,")) == {"web": Deployment("web", 4.0, keeps_latency=True)}


def test_rates_are_increases_over_the_time_between_readings(told: Told) -> None:
    told.ask(page("web,BACKEND,0,10,20,4,30,1000,7,http,"))
    assert told.ask(page("web,BACKEND,0,11,22,3,33,1050,8,http,"), 20.0) == {
        "web": Deployment("web", 3.0, 50 / 20, (1 + 2 + 3) / 20, 8.0, keeps_latency=True)
    }


def test_latency_is_of_this_interval_only(told: Told) -> None:
    told.ask(page("web,BACKEND,0,0,0,4,0,1000,7,http,"))
    assert told.ask(page("web,BACKEND,0,0,0,4,0,1000,7,http,")) == {"web": Deployment("web", 4.0, 0.0, 0.0, None, True)}
    # Every request failed to reach a server: rtime is of earlier ones, or the 0 that it began with.
    told.ask(page("web,BACKEND,0,0,0,4,0,1000,0,http,"))
    unreached = told.ask(page("web,BACKEND,0,5,0,4,5,1005,0,http,"))["web"]
    assert unreached == Deployment("web", 4.0, 0.5, 1.0, None, True)
    # One of them did reach it.
    assert told.ask(page("web,BACKEND,0,9,0,4,9,1010,3,http,"))["web"].latency_ms == 3.0


def test_the_latency_of_a_tcp_backend_is_not_known_and_its_requests_are_sessions(told: Told) -> None:
    told.ask(page("db,BACKEND,100,1,2,4,,,0,tcp,"))
    assert told.ask(page("db,BACKEND,130,2,3,4,,,0,tcp,")) == {"db": Deployment("db", 4.0, 3.0, 0.2, None, False)}


def test_counters_that_fell_were_reset_and_count_from_zero(told: Told) -> None:
    told.ask(page("web,BACKEND,0,10,20,4,30,1000,7,http,"))
    assert told.ask(page("web,BACKEND,0,1,2,4,3,40,8,http,")) == {"web": Deployment("web", 4.0, 4.0, 0.6, 8.0, True)}


def test_a_backend_that_appears_later_begins_with_a_baseline(told: Told) -> None:
    old, new = "web,BACKEND,0,0,0,1,0,0,7,http,", "new,BACKEND,0,9,9,1,9,500,7,http,"
    told.ask(page(old))
    assert told.ask(page(old, new))["new"] == Deployment("new", 1.0, keeps_latency=True)
    assert told.ask(page(old))["web"].request_rate == 0.0
    assert told.ask(page(old, new))["new"].request_rate is None  # it was gone: what it counted meanwhile is unknown


def test_a_value_that_is_garbage_leaves_the_others_and_comes_back(told: Told) -> None:
    lines = "web,BACKEND,0,0,0,4,0,100,7,http,", "web,BACKEND,0,?,0,4,0,110,7,http,", "web,BACKEND,0,2,0,?,1,?,x,http,"
    told.ask(page(lines[0]))
    assert told.ask(page(lines[1])) == {"web": Deployment("web", 4.0, 1.0, None, 7.0, True)}
    assert told.ask(page(lines[2])) == {"web": Deployment("web", None, None, None, None, False)}
    assert told.ask(page(lines[0])) == {"web": Deployment("web", 4.0, None, 0.0, None, True)}


def test_a_reading_that_failed_makes_the_next_interval_longer_and_loses_nothing(told: Told) -> None:
    told.ask(page("web,BACKEND,0,0,0,4,0,100,7,http,"))
    with pytest.raises(ProviderError):
        told.ask("nonsense\n\n")
    assert told.ask(page("web,BACKEND,0,0,0,4,0,140,7,http,"))["web"].request_rate == 2.0


def test_without_time_between_readings_there_are_no_rates(told: Told) -> None:
    told.ask(page("web,BACKEND,0,0,0,4,0,100,7,http,"))
    assert told.ask(page("web,BACKEND,0,0,0,4,0,101,7,http,"), 0.0)["web"] == Deployment("web", 4.0, keeps_latency=True)


def test_a_backend_that_changed_its_mode_begins_again(told: Told) -> None:
    told.ask(page("web,BACKEND,100,0,0,4,,,0,tcp,"))
    assert told.ask(page("web,BACKEND,110,0,0,4,0,500,7,http,"))["web"] == Deployment("web", 4.0, keeps_latency=True)


def test_excluded_backends_are_no_deployments(told: Told) -> None:
    line = "web,BACKEND,0,0,0,4,0,100,7,http,"
    assert list(told.ask(page(line, line.replace("web", "hidden_stats")))) == ["web"]


@pytest.mark.parametrize(
    ("behaviour", "reason"),
    [
        (hostile.silent, "no whole answer within 0.3 s"),
        (hostile.drips(HEADER.encode() + b"\n"), "no whole answer within 0.3 s"),
        (hostile.endless(HEADER.encode() + b"\n", b"web,BACKEND,1,1\n" * 1000), "longer than 100000 bytes"),
        (hostile.says(b""), "CSV header"),
        (hostile.says(b"Unknown command: 'show'\n\n"), "Unknown command"),
        (hostile.says(b"\xff\xfe\x00" * 100), "CSV header"),
        (hostile.says(HEADER.encode() + b"\nweb,BACKEND,0,0,0,4,0,100,7,http,\n"), "broke off"),
        (hostile.says(HEADER.encode() + b"\n" + b"x" * 140_000 + b"\n\n"), "longer than 100000 bytes"),
    ],
)
def test_a_hostile_stats_socket_is_an_error_and_never_a_hang(
    behaviour: hostile.Behaviour, reason: str, tmp_path: Path
) -> None:
    with hostile.server(tmp_path / "s.sock", behaviour) as url:
        with pytest.raises(ProviderError) as caught:
            HaproxyProvider(url, Limits(0.3 if "0.3" in reason else 10.0, 100_000, "")).deployments()
        for word in (reason, url, "[source.deployment] haproxy_url"):
            assert word in str(caught.value)
