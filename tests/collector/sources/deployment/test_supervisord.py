"""supervisord as a provider: its answers as bytes."""

from __future__ import annotations

import xmlrpc.client

import pytest

from collector.sources.deployment.provider import Deployment, ProviderError
from collector.sources.deployment.supervisord import SupervisordProvider, parse_processes
from tests.collector.sources.deployment.test_providers import LIMITS

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
    asked = SupervisordProvider("", LIMITS, environ={})
    said = r"SUPERVISOR_SERVER_URL is not set.*set \[source.deployment\] supervisord_url"
    with pytest.raises(ProviderError, match=said):
        asked.deployments()


REFUSAL = xmlrpc.client.dumps(xmlrpc.client.Fault(1, "UNKNOWN_METHOD"), methodresponse=True).encode()


@pytest.mark.parametrize(
    ("reply", "reason"),
    [
        (b"", "not a list of processes"),
        (b"<html><p>hello</html>", "not a list of processes"),
        (b"<methodResponse><params/></methodResponse>", "not a list of processes"),
        (RECORDED.replace(b"web_0", b"\xff"), "not a list of processes"),
        (answer("RUNNING"), "not a list of processes"),
        (answer([{"group": "web"}]), r"not a list of processes \(KeyError\('statename'\)\)"),
        (REFUSAL, "it refused: UNKNOWN_METHOD"),
    ],
)
def test_what_is_no_answer_of_supervisord_is_an_error(reply: bytes, reason: str) -> None:
    with pytest.raises(ValueError, match=reason):
        parse_processes(reply)


def test_a_supervisord_that_ends_has_no_deployments_and_is_no_failure() -> None:
    """It stops this collector, too: an error then would be a false alarm in the history of every orderly stop."""
    fault = xmlrpc.client.dumps(xmlrpc.client.Fault(6, "SHUTDOWN_STATE"), methodresponse=True).encode()
    assert parse_processes(fault) == []
