from __future__ import annotations

import json
import subprocess
import sys
from collections.abc import Iterator
from typing import NoReturn

import pytest

from collector.frame.collector import MetricCollector
from collector.metrics import CIRCUIT_STATE
from collector.source import Collection
from collector.sources.betanet.breaker import CircuitState
from collector.sources.betanet.client import BetanetClient
from collector.sources.betanet.source import BetanetOptions, BetanetSource
from shm.errors import ConfigurationError
from tests import http_client
from tests.collector import hostile
from tests.collector.served import served
from tests.stand_ins.betanet import METRICS, NETWORK, NODES, PATHS, BetanetStandIn, still

ALL = {
    "betanet_packets_processed": 5000.0,
    "betanet_packets_dropped": 10.0,
    "betanet_connections": 5.0,
    "betanet_latency": 45.0,
}


class Betanet:
    """A source, the stand-in that it reads, and its breaker's clock."""

    def __init__(
        self, server: BetanetStandIn, url: str = "", request_timeout_seconds: float = 30.0, max_reply_bytes: int = 9999
    ) -> None:
        self.server = server
        self.now = 0.0
        options = BetanetOptions(url or server.url, request_timeout_seconds, max_reply_bytes)
        self.source = BetanetSource(options, clock=lambda: self.now)

    def collect(self) -> Collection:
        return self.source.collect()

    def in_mode(self, mode: str) -> Collection:
        self.server.mode = mode
        return self.collect()

    def open_the_circuit(self) -> None:
        for _ in range(5):
            self.in_mode("failing")
        assert self.source.breaker.state is CircuitState.OPEN


@pytest.fixture
def server() -> Iterator[BetanetStandIn]:
    with BetanetStandIn() as stand_in:
        yield stand_in


@pytest.fixture
def betanet(server: BetanetStandIn) -> Betanet:
    return Betanet(server)


def values(collection: Collection) -> dict[str, float | None]:
    """The samples without the circuit's, by name; each may be there once."""
    found = {sample.metric: sample.value for sample in collection.samples if sample.metric != CIRCUIT_STATE.name}
    assert len(found) == len(collection.samples) - 1
    return found


def circuit(collection: Collection) -> float | None:
    [sample] = [sample for sample in collection.samples if sample.metric == CIRCUIT_STATE.name]
    assert sample.labels == {"source": "betanet"}
    return sample.value


def assert_down(collection: Collection, server: BetanetStandIn, *words: str) -> None:
    """Nothing but the circuit's sample, and for each endpoint one error that names it and has all the words."""
    assert values(collection) == {}
    assert not collection.up
    assert len(collection.errors) == len(PATHS)
    for path, error in zip(PATHS, collection.errors, strict=True):
        assert f"{server.url}{path}" in error
        for word in words:
            assert word in error


# ---- what is read --------------------------------------------------------------------------------------------


def test_the_four_metrics_are_read_from_three_endpoints(betanet: Betanet) -> None:
    collection = betanet.collect()
    assert values(collection) == ALL
    assert circuit(collection) == 0
    assert collection.up
    assert collection.errors == []
    assert sorted(betanet.server.requests) == sorted(PATHS)


def test_buckets_of_the_latency_are_those_of_the_configuration() -> None:
    source = BetanetSource(BetanetOptions(buckets=(20.0, 40.0)))
    assert [metric.buckets for metric in source.metrics] == [(), (), (20.0, 40.0), (), ()]


def test_the_endpoints_are_asked_at_the_same_time(betanet: Betanet) -> None:
    """The server answers none before all three have come."""
    assert values(betanet.in_mode("together")) == ALL


def test_endpoints_that_answer_promptly_share_a_connection() -> None:
    answers = {path: hostile.http(json.dumps(answer).encode()) for path, answer in still().items()}
    with served(lambda target: answers[target]) as server:
        client = BetanetClient(server.url)
        for _ in range(3):
            assert all(one.answered for one in client.read_all())
        client.close()
    assert (server.connections, server.targets) == (1, list(PATHS) * 3)


def test_requests_ask_for_uncompressed_json_and_name_who_asks(betanet: Betanet) -> None:
    betanet.collect()
    for headers in betanet.server.headers:
        assert headers["accept-encoding"] == "identity"
        assert headers["accept"] == "application/json"
        assert headers["user-agent"] == "fogmetrics"


def test_a_url_may_end_in_a_slash(server: BetanetStandIn) -> None:
    betanet = Betanet(server, f"{server.url}/")
    assert values(betanet.collect()) == ALL
    assert_down(betanet.in_mode("failing"), server)


def test_all_of_it_fits_a_frame_of_the_ring(betanet: Betanet, namespace: str) -> None:
    with MetricCollector("betanet", namespace=namespace, capacity=8) as collector:
        collector.register(*betanet.source.metrics)
        for sample in betanet.collect().samples:
            assert collector.record_metric(sample.metric, sample.value, sample.labels)
        assert collector.commit() == 1


# ---- what may fail alone -------------------------------------------------------------------------------------


def test_an_endpoint_that_fails_costs_only_its_own_samples(betanet: Betanet) -> None:
    lost = {
        METRICS: {"betanet_packets_processed", "betanet_packets_dropped"},
        NODES: {"betanet_connections"},
        NETWORK: {"betanet_latency"},
    }
    for path, metrics in lost.items():
        betanet.server.modes = {path: "failing"}
        collection = betanet.collect()
        assert values(collection) == {name: value for name, value in ALL.items() if name not in metrics}
        assert collection.up
        [error] = collection.errors
        assert f"{betanet.server.url}{path}: it answered HTTP 500" in error


def test_an_endpoint_that_is_slow_costs_only_its_own_samples(server: BetanetStandIn) -> None:
    server.modes = {NODES: "slow"}
    collection = Betanet(server, request_timeout_seconds=2.0).collect()
    assert values(collection) == {name: value for name, value in ALL.items() if name != "betanet_connections"}
    [error] = collection.errors
    assert f"{server.url}{NODES}: no whole answer within 2 s" in error


def test_half_a_betanet_is_up_and_keeps_the_circuit_closed(betanet: Betanet) -> None:
    for _ in range(6):
        collection = betanet.in_mode("half")
        assert collection.up
        assert circuit(collection) == 0
        assert len(collection.errors) == 2


def test_values_that_make_no_sense_are_absent_and_named_and_no_failures_of_the_circuit(betanet: Betanet) -> None:
    betanet.server.answers = lambda: {
        METRICS: {"packets_processed": "5000", "packets_dropped": -10},
        NODES: {"active_nodes": True},
        NETWORK: {"avg_latency_ms": 1e300},
    }
    for _ in range(6):
        collection = betanet.collect()
        assert circuit(collection) == 0
    assert values(collection) == {}
    assert not collection.up
    url = betanet.server.url
    assert list(collection.errors) == [
        f"{url}{METRICS} answered packets_processed = '5000'; it must be a number from 0 to 18446744073709551616",
        f"{url}{METRICS} answered packets_dropped = -10; it must be a number from 0 to 18446744073709551616",
        f"{url}{NODES} answered active_nodes = True; it must be a number from 0 to 18446744073709551616",
        f"{url}{NETWORK} answered avg_latency_ms = 1e+300; it must be a number from 0 to 4294967296",
    ]


def test_the_size_of_a_reply_is_limited_by_the_options(server: BetanetStandIn) -> None:
    collection = Betanet(server, max_reply_bytes=10).collect()
    assert_down(collection, server, "longer than 10 bytes", "[source.betanet] max_reply_bytes")


def test_a_password_in_the_url_is_sent_and_never_shown(server: BetanetStandIn) -> None:
    collection = Betanet(server, f"http://someone:secret@127.0.0.1:{server.port}").in_mode("failing")
    assert_down(collection, server)
    assert not [error for error in collection.errors if "secret" in error]
    assert all(headers["authorization"].startswith("Basic ") for headers in server.headers)


# ---- the circuit ---------------------------------------------------------------------------------------------


def test_a_betanet_that_is_gone_opens_the_circuit_and_is_found_again_when_it_is_back(betanet: Betanet) -> None:
    assert values(betanet.collect()) == ALL
    betanet.server.stop()
    for failures in range(1, 6):
        collection = betanet.collect()
        assert_down(collection, betanet.server, "no connection: Connection refused", "set [source.betanet] url")
        assert circuit(collection) == (2 if failures == 5 else 0)
    betanet.server.start()
    assert values(betanet.collect()) == {}
    betanet.now += 30.0
    collection = betanet.collect()
    assert values(collection) == ALL
    assert circuit(collection) == 0
    assert collection.up


def test_an_open_circuit_makes_no_request_and_says_why_and_until_when(betanet: Betanet) -> None:
    betanet.open_the_circuit()
    betanet.server.requests.clear()
    betanet.now += 17.5
    collection = betanet.in_mode("up")
    assert betanet.server.requests == []
    assert values(collection) == {}
    assert circuit(collection) == 2
    assert not collection.up
    assert list(collection.errors) == [
        "circuit open after 5 failures in a row, next try in 13 s; last error: "
        f"{betanet.server.url}{METRICS}: it answered HTTP 500 Internal Server Error; see Betanet's log, or set "
        "[source.betanet] url"
    ]


def test_a_trial_that_fails_asks_each_endpoint_once_and_opens_the_circuit_again(betanet: Betanet) -> None:
    betanet.open_the_circuit()
    betanet.server.requests.clear()
    betanet.now += 30.0
    assert circuit(betanet.collect()) == 2
    assert circuit(betanet.collect()) == 2
    assert sorted(betanet.server.requests) == sorted(PATHS)


def test_a_trial_that_ends_in_an_error_of_ours_is_tried_again(
    betanet: Betanet, monkeypatch: pytest.MonkeyPatch
) -> None:
    def fail() -> NoReturn:
        raise MemoryError

    betanet.open_the_circuit()
    betanet.now += 30.0
    with monkeypatch.context() as patched:
        patched.setattr(betanet.source.client, "read_all", fail)
        with pytest.raises(MemoryError):
            betanet.collect()
    assert values(betanet.in_mode("up")) == ALL


# ---- what can be configured ----------------------------------------------------------------------------------


@pytest.mark.parametrize(
    "url",
    ["localhost:9000", "", "http://localhost/?x=1"],
)
def test_a_url_that_can_not_be_asked_is_a_configuration_error_that_names_it(url: str) -> None:
    with pytest.raises(ConfigurationError, match=r"\[source.betanet\] url is .*; give one such as"):
        BetanetSource(BetanetOptions(url=url))


def test_buckets_that_do_not_rise_are_a_configuration_error() -> None:
    with pytest.raises(ConfigurationError, match=r"\[source.betanet\] buckets can't be used: .* do not rise"):
        BetanetSource(BetanetOptions(buckets=(2.0, 1.0)))


# ---- the stand-in by itself ----------------------------------------------------------------------------------


def test_the_stand_in_as_a_program_says_what_it_is_and_answers() -> None:
    command = [sys.executable, "-m", "tests.stand_ins.betanet", "--port", "0"]
    with subprocess.Popen(command, stdout=subprocess.PIPE, text=True) as program:
        try:
            assert program.stdout is not None
            line = program.stdout.readline()
            assert line.startswith("STAND-IN for Betanet")
            assert b"packets_processed" in http_client.get(f"{line.split()[-1]}{METRICS}").content
        finally:
            program.kill()
