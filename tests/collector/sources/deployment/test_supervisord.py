"""supervisord as a provider: its answers as bytes, and servers that are not supervisord."""

from __future__ import annotations

import xmlrpc.client
from pathlib import Path

import pytest

from collector.sources.deployment.provider import Deployment, ProviderError
from collector.sources.deployment.supervisord import SupervisordProvider, parse_processes
from tests.collector.sources.deployment import hostile
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


def test_the_recorded_answer_is_read() -> None:
    assert parse_processes(RECORDED) == [Deployment("web", replicas=1.0)]


def test_only_the_state_running_counts() -> None:
    states = ["RUNNING", "STARTING", "BACKOFF", "STOPPING", "STOPPED", "EXITED", "FATAL", "UNKNOWN", "RUNNING"]
    assert parse_processes(answer([{"group": "web", "statename": state} for state in states])) == [
        Deployment("web", replicas=2.0)
    ]
    assert parse_processes(answer([])) == []


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
        (hostile.drips(b""), "no whole answer within 0.3 s"),
        (hostile.drips(b"HTTP/1.1 200 OK\r\nX: "), "no whole answer within 0.3 s"),
        (hostile.drips(HUGE), "no whole answer within 0.3 s"),
        (hostile.drips(CHUNKED, b"1\r\n \r\n"), "no whole answer within 0.3 s"),
        (hostile.endless(HUGE, b" " * 65_536), "longer than 100000 bytes"),
        (hostile.endless(CHUNKED, b"10000\r\n" + b" " * 65_536 + b"\r\n"), "longer than 100000 bytes"),
        (hostile.endless(CHUNKED + b"-1\r\n", b" " * 65_536), "longer than 100000 bytes"),
        (hostile.endless(b"", b"HTTP/1.1 100 Continue\r\n\r\n" * 100), "longer than 100000 bytes"),
        (hostile.endless(b"HTTP/1.1 200 OK\r\n", b"X" * 65_536), "not HTTP"),
        (hostile.says(CHUNKED + b"-5\r\n<methodResponse/>\r\n"), "not HTTP"),
        (hostile.says(b""), "not HTTP"),
        (hostile.says(b"\xff\x00garbage\r\n\r\n"), "not HTTP"),
        (hostile.says(b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\nxyz\r\n"), "not HTTP"),
        (hostile.says(hostile.http(RECORDED, length=len(RECORDED) + 1)), "broke off 1 bytes before the end"),
        (hostile.says(hostile.http(b"", "302 Found")), "HTTP 302 Found"),
        (hostile.says(hostile.http(b"", "500 Oops")), "HTTP 500 Oops"),
        (hostile.says(hostile.http(b"")), "not XML-RPC"),
        (hostile.says(hostile.http(b"<html><p>hello</html>")), "not XML-RPC"),
        (hostile.says(hostile.http(b"<methodResponse><params/></methodResponse>")), "not a list of processes"),
        (hostile.says(hostile.http(b"<array><data></data></array>")), "not XML-RPC"),
        (hostile.says(hostile.http(RECORDED.replace(b"1784700000", b"many"))), "not XML-RPC"),
        (hostile.says(hostile.http(RECORDED.replace(b"web_0", b"\xff"))), "decode"),
        (hostile.says(hostile.http(BOMB)), "document type"),
        (hostile.says(hostile.http(answer("RUNNING"))), "not a list of processes"),
        (hostile.says(hostile.http(answer(["web"]))), "not a list of processes"),
        (hostile.says(hostile.http(answer([{"group": "web"}]))), "lacks group or statename"),
        (hostile.says(hostile.http(answer([{"group": 7, "statename": "RUNNING"}]))), "lacks group or statename"),
        (hostile.says(hostile.http(REFUSAL)), "it refused: UNKNOWN_METHOD"),
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
