"""supervisord as a provider: its answers as bytes, and servers that are not supervisord."""

from __future__ import annotations

import xmlrpc.client
from pathlib import Path

import pytest

from collector.sources.deployment.provider import Deployment, ProviderError
from collector.sources.deployment.supervisord import SupervisordProvider, parse_processes
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


def test_the_recorded_answer_is_read() -> None:
    assert parse_processes(RECORDED) == [Deployment("web", replicas=1.0)]


def test_only_the_state_running_counts() -> None:
    states = ["RUNNING", "STARTING", "BACKOFF", "STOPPING", "STOPPED", "EXITED", "FATAL", "UNKNOWN", "RUNNING"]
    assert parse_processes(answer([{"group": "web", "statename": state} for state in states])) == [
        Deployment("web", replicas=2.0)
    ]
    assert parse_processes(answer([])) == []


def test_groups_are_read_as_many_as_a_source_may_have() -> None:
    many = [{"group": f"g{i}", "statename": "RUNNING", "description": "ü" * 100} for i in range(2000)]
    assert parse_processes(answer(many)) == [Deployment(f"g{i}", replicas=1.0) for i in range(2000)]
    with pytest.raises(ValueError, match="more than 10000 groups"):
        parse_processes(answer([{"group": f"g{i}", "statename": "RUNNING"} for i in range(10_001)]))


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


REFUSAL = xmlrpc.client.dumps(xmlrpc.client.Fault(1, "UNKNOWN_METHOD"), methodresponse=True).encode()


@pytest.mark.parametrize(
    ("behaviour", "reason"),
    [
        (hostile.silent, "no whole answer within 0.3 s"),
        (hostile.drips(b"HTTP/1.1 200 OK\r\nX: "), "no whole answer within 0.3 s"),
        (hostile.endless(b"HTTP/1.1 200 OK\r\n\r\n", b" " * 65_536), "longer than 100000 bytes"),
        (hostile.says(b"\xff\x00garbage\r\n\r\n"), "not HTTP"),
        (hostile.says(hostile.http(b"", "302 Found")), "HTTP 302"),
        (hostile.says(hostile.http(b"", "500 Oops")), "HTTP 500 Oops"),
        (hostile.says(hostile.http(b"")), "not a list of processes"),
        (hostile.says(hostile.http(b"<html><p>hello</html>")), "not a list of processes"),
        (hostile.says(hostile.http(b"<methodResponse><params/></methodResponse>")), "not a list of processes"),
        (hostile.says(hostile.http(RECORDED.replace(b"web_0", b"\xff"))), "not a list of processes"),
        (hostile.says(hostile.http(answer("RUNNING"))), "not a list of processes"),
        (hostile.says(hostile.http(answer([{"group": "web"}]))), "not a list of processes (KeyError('statename'))"),
        (hostile.says(hostile.http(REFUSAL)), "it refused: UNKNOWN_METHOD"),
    ],
)
def test_what_is_no_supervisord_is_an_error_and_never_a_hang(
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
