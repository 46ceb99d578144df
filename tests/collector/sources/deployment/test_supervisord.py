"""supervisord as a provider: its answers as bytes, and servers that are not supervisord."""

from __future__ import annotations

import contextlib
import tracemalloc
import xmlrpc.client
from pathlib import Path

import pytest

from collector.sources.deployment.provider import Deployment, ProviderError
from collector.sources.deployment.supervisord import QUESTION, SupervisordProvider, parse_processes
from tests.collector import hostile
from tests.programs import free_port

# Recorded from supervisord 4.3.0, shortened to one process.
RECORDED = b"""<?xml version='1.0'?>
<methodResponse>
<params>
<param>
<value><array><data>
<value><struct>
<member><name>name</name><value><string>web_0</string></value></member>
<member><name>group</name><value><string>web</string></value></member>
<member><name>start</name><value><int>1784700000</int></value></member>
<member><name>state</name><value><int>20</int></value></member>
<member><name>statename</name><value><string>RUNNING</string></value></member>
<member><name>exitstatus</name><value><int>0</int></value></member>
<member><name>pid</name><value><int>4242</int></value></member>
</struct></value>
</data></array></value>
</param>
</params>
</methodResponse>
"""


def answer(processes: object) -> bytes:
    return xmlrpc.client.dumps((processes,), methodresponse=True).encode()  # type: ignore[arg-type]


def provider(url: str = "", timeout: float = 10.0) -> SupervisordProvider:
    return SupervisordProvider(url, timeout, 100_000, environ={})


def test_the_question_is_the_one_that_python_would_ask() -> None:
    assert xmlrpc.client.dumps((), "supervisor.getAllProcessInfo").encode() == QUESTION


def test_the_recorded_answer_is_read() -> None:
    assert parse_processes(RECORDED) == [Deployment("web", replicas=1.0)]


def test_only_the_state_running_counts() -> None:
    states = ["RUNNING", "STARTING", "BACKOFF", "STOPPING", "STOPPED", "EXITED", "FATAL", "UNKNOWN", "RUNNING"]
    assert parse_processes(answer([{"group": "web", "statename": state} for state in states])) == [
        Deployment("web", replicas=2.0)
    ]
    assert parse_processes(answer([])) == []


def test_values_of_other_members_are_not_looked_at_and_a_value_without_a_type_is_a_string() -> None:
    text = RECORDED.replace(b"1784700000", b"many").replace(b"<string>web</string>", b"web")
    assert parse_processes(text) == [Deployment("web", replicas=1.0)]
    deep = b"<array><data>" + b"<value><i4>1</i4></value>" * 9 + b"</data></array>"
    assert parse_processes(RECORDED.replace(b"<int>4242</int>", deep)) == [Deployment("web", replicas=1.0)]
    inner = b"<struct><member><name>group</name><value><string>x</string></value></member></struct>"
    assert parse_processes(RECORDED.replace(b"<int>4242</int>", inner)) == [Deployment("web", replicas=1.0)]


def test_an_answer_longer_than_the_parsers_buffer_is_read_whole() -> None:
    many = [{"group": f"g{i}", "statename": "RUNNING", "description": "ü" * 100} for i in range(2000)]
    assert parse_processes(answer(many)) == [Deployment(f"g{i}", replicas=1.0) for i in range(2000)]
    with pytest.raises(ValueError, match="more than 10000 groups"):
        parse_processes(answer([{"group": f"g{i}", "statename": "RUNNING"} for i in range(10_001)]))


LIST = RECORDED[: RECORDED.index(b"<value><struct>")], RECORDED[RECORDED.index(b"</data>") :]
EMPTY = b"<value><struct><member><name>x</name>"


@pytest.mark.parametrize(
    "filling",
    [
        b"\n",
        b"<base64/>",
        EMPTY + b"<value><base64/></value></member></struct></value>",
        b"<value><array><data>",
        b"<value><struct><member><name>group</name><value>g</value></member></struct></value>",
        EMPTY + b"<value><array><data>" + b"<value><base64/></value>" * 1000 + b"</data></array></value></member>",
    ],
)
def test_an_answer_takes_no_more_memory_than_a_few_times_its_size(filling: bytes) -> None:
    """4 MiB of <base64/> were 80 MiB of objects."""
    text = LIST[0] + filling * (4_000_000 // len(filling)) + LIST[1]
    tracemalloc.start()
    with contextlib.suppress(ValueError):
        parse_processes(text)
    _, peak = tracemalloc.get_traced_memory()
    tracemalloc.stop()
    assert peak < 2 * 2**20


def test_without_an_address_it_is_an_error_only_when_asked() -> None:
    asked = provider()
    said = r"SUPERVISOR_SERVER_URL is not set.*set \[source.deployment\] supervisord_url"
    with pytest.raises(ProviderError, match=said):
        asked.deployments()


@pytest.mark.parametrize("scheme", ["unix", "http"])
def test_nobody_there_is_an_error_that_names_url_and_remedy(scheme: str, tmp_path: Path) -> None:
    url = f"unix://{tmp_path}/none.sock" if scheme == "unix" else f"http://127.0.0.1:{free_port()}"
    with pytest.raises(ProviderError) as caught:
        provider(url).deployments()
    for word in (
        url,
        "No such file" if scheme == "unix" else "refused",
        "[unix_http_server]",
        "[source.deployment] supervisord_url",
    ):
        assert word in str(caught.value)


HUGE = b"HTTP/1.1 200 OK\r\nContent-Length: 99999999999\r\n\r\n"
CHUNKED = b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n"
REFUSAL = xmlrpc.client.dumps(xmlrpc.client.Fault(1, "UNKNOWN_METHOD"), methodresponse=True).encode()
BOMB = RECORDED.replace(b"<methodR", b'<!DOCTYPE x [<!ENTITY a "web">]><methodR', 1).replace(b">web<", b">&a;<")


@pytest.mark.parametrize(
    ("behaviour", "reason"),
    [
        (hostile.silent, "no whole answer within 0.3 s"),
        (hostile.drips(b"", b"\r\n"), "no whole answer within 0.3 s"),
        (hostile.drips(b"HTTP/1.1 200 OK\r\nX: "), "no whole answer within 0.3 s"),
        (hostile.drips(HUGE), "no whole answer within 0.3 s"),
        (hostile.drips(CHUNKED, b"1\r\n \r\n"), "no whole answer within 0.3 s"),
        (hostile.endless(HUGE, b" " * 65_536), "longer than 100000 bytes"),
        (hostile.endless(CHUNKED, b"10000\r\n" + b" " * 65_536 + b"\r\n"), "longer than 100000 bytes"),
        (hostile.endless(CHUNKED + b"-1\r\n", b" " * 65_536), "not HTTP"),
        (hostile.endless(b"", b"HTTP/1.1 100 Continue\r\n\r\n" * 100), "longer than 100000 bytes"),
        (hostile.endless(b"HTTP/1.1 200 OK\r\n", b"X" * 65_536), "not HTTP"),
        (hostile.says(CHUNKED + b"-5\r\n<methodResponse/>\r\n"), "not HTTP"),
        (hostile.says(b""), "its answer broke off before it began"),
        (hostile.says(b"\xff\x00garbage\r\n\r\n"), "not HTTP"),
        (hostile.says(b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\nxyz\r\n"), "not HTTP"),
        (hostile.says(hostile.http(RECORDED, length=len(RECORDED) + 1)), "broke off 1 bytes before the end"),
        (hostile.says(hostile.http(b"", "302 Found")), "HTTP 302 Found"),
        (hostile.says(hostile.http(b"", "500 Oops")), "HTTP 500 Oops"),
        (hostile.says(hostile.http(b"")), "not XML-RPC"),
        (hostile.says(hostile.http(b"<html><p>hello</html>")), "not XML-RPC"),
        (hostile.says(hostile.http(b"<methodResponse><params/></methodResponse>")), "not a list of processes"),
        (hostile.says(hostile.http(b"<array><data></data></array>")), "not XML-RPC"),
        (hostile.says(hostile.http(RECORDED.replace(b"web_0", b"\xff"))), "not XML-RPC"),
        (hostile.says(hostile.http(BOMB)), "document type"),
        (hostile.says(hostile.http(answer("RUNNING"))), "not a list of processes"),
        (hostile.says(hostile.http(answer(["web"]))), "not a list of processes"),
        (hostile.says(hostile.http(answer([{"group": "web"}]))), "lacks group or statename"),
        (hostile.says(hostile.http(answer([{"group": 7, "statename": "RUNNING"}]))), "lacks group or statename"),
        (hostile.says(hostile.http(answer(["web"] * 9))), "not a list of processes but of <string>"),
        (hostile.says(hostile.http(answer([{"group": "", "statename": "RUNNING"}]))), "lacks group or statename"),
        (hostile.says(hostile.http(REFUSAL)), "it refused: UNKNOWN_METHOD"),
        (hostile.says(b"HTTP/1.1 500 " + b"O" * 60_000 + b"\r\n\r\n"), f"HTTP 500 {'O' * 200};"),
        (hostile.says(hostile.http(b"<methodResponse><x/></methodResponse>")), "it has <x> at"),
        (hostile.says(hostile.http(b"<methodResponse a='1'/>")), "it has <methodResponse> at"),
        (hostile.says(hostile.http(b"<methodResponse " + b"a" * 300 + b"='1'/>")), "tag of more than 200 bytes"),
        (hostile.says(hostile.http(b"<methodResponse>" + b"<value>" * 40)), "nested too deep"),
    ],
)
def test_a_hostile_server_is_an_error_and_never_a_hang(
    behaviour: hostile.Behaviour, reason: str, tmp_path: Path
) -> None:
    with hostile.server(tmp_path / "s.sock", behaviour) as url:
        with pytest.raises(ProviderError) as caught:
            provider(url, timeout=0.3 if "0.3" in reason else 10.0).deployments()
        assert reason in str(caught.value)
        assert url in str(caught.value)
        assert "[source.deployment] supervisord_url" in str(caught.value)


def test_a_supervisord_that_ends_has_no_deployments_and_is_no_failure(tmp_path: Path) -> None:
    """It stops this collector, too: an error then would be a false alarm in the history of every orderly stop."""
    fault = xmlrpc.client.dumps(xmlrpc.client.Fault(6, "SHUTDOWN_STATE"), methodresponse=True).encode()
    with hostile.server(tmp_path / "s.sock", hostile.says(hostile.http(fault))) as url:
        assert provider(url).deployments() == []
