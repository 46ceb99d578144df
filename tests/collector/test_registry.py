from __future__ import annotations

import sys
from pathlib import Path

import pytest

from collector import registry
from collector.source import Collection, MetricSource, Sample
from fogmetrics.config import Config, parse
from shm.errors import ConfigurationError
from shm.metric import Metric

OWN = """
from collector.source import MetricSource, Sample
from shm.metric import Metric


class QueueSource(MetricSource):
    name = "queue"
    metrics = (Metric("queue_depth", "gauge", "Jobs waiting.", "jobs"),)

    def __init__(self, depth: float = 1) -> None:
        self.depth = depth

    def collect(self) -> list[Sample]:
        return [Sample("queue_depth", self.depth)]


class Nameless:
    pass


class Words(QueueSource):
    metrics = ("queue_depth",)


class Soon(QueueSource):
    first_ticks_seconds = ["soon"]


class Unsaid(MetricSource):
    name = "queue"

    def collect(self) -> list[Sample]:
        return []


class Idle(MetricSource):
    name = "queue"
    metrics = ()


class Twice(QueueSource):
    metrics = (*QueueSource.metrics, Metric("queue_depth", "counter", "Jobs waiting."))


class Daemons(QueueSource):
    metrics = (Metric("collector_up", "gauge", "Up."),)


class Ends(QueueSource):
    def __init__(self) -> None:
        raise SystemExit(4)


class Fails(QueueSource):
    @property
    def off(self) -> str:
        raise OSError("no idea")


class Duck:
    name, metrics = "queue", ()

    def collect(self) -> list[Sample]:
        return []


class Custom:
    metrics = {"depth": 1}  # for itself: a source has a name as well

    def __init__(self, depth: float = 1) -> None:
        self.depth = depth

    def collect(self):
        from prometheus_client.core import GaugeMetricFamily

        yield GaugeMetricFamily("queue_depth", "Jobs waiting.", value=self.depth)
"""


@pytest.fixture
def own_module(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> str:
    (tmp_path / "own_queue.py").write_text(OWN)
    monkeypatch.syspath_prepend(tmp_path)
    monkeypatch.delitem(sys.modules, "own_queue", raising=False)
    return "own_queue"


def config(text: str) -> Config:
    return parse(text, Path("fogmetrics.toml"))


def test_a_source_has_a_capacity_of_its_own_or_that_of_all_and_never_too_small_a_one() -> None:
    text = "[shm]\ncapacity = 100\n[source.node]\ncapacity = 86400\n"
    assert registry.capacity("node", config(text)) == 86_400
    assert registry.capacity("system", config(text)) == 100
    with pytest.raises(ConfigurationError, match=r"\[source.betanet\] capacity is 7; give 8 frames or more"):
        config("[source.betanet]\ncapacity = 7\n")


@pytest.mark.parametrize("name", registry.BUILT_IN)
def test_every_built_in_source_is_named_like_its_key_and_builds_from_its_defaults(name: str) -> None:
    source = registry.build(name, Config())
    assert isinstance(source, MetricSource)
    assert source.name == name
    assert source.metrics


def test_a_users_source_is_made_from_its_class_and_keys(own_module: str) -> None:
    source = registry.build("queue", config('[source.queue]\nclass = "own_queue:QueueSource"\ndepth = 5\n'))
    assert [sample.value for sample in source.collect()] == [5]  # type: ignore[union-attr]  # it gives a list


def test_a_custom_collector_of_prometheus_client_is_a_source_of_its_table_s_name(own_module: str) -> None:
    source = registry.build("depths", config('[source.depths]\nclass = "own_queue:Custom"\ndepth = 5\n'))
    assert (source.name, source.metrics) == ("depths", ())
    found = source.collect()
    assert isinstance(found, Collection)
    assert found.samples == [Sample("queue_depth", 5.0, {})]
    assert found.metrics == (Metric("queue_depth", "gauge", "Jobs waiting."),)


@pytest.fixture
def package(own_module: str, tmp_path: Path) -> str:
    """An installed package whose entry point leads to the same class, by the name that it gives the source."""
    info = tmp_path / "own_queue-1.0.dist-info"
    info.mkdir()
    (info / "METADATA").write_text("Metadata-Version: 2.1\nName: own-queue\nVersion: 1.0\n")
    (info / "entry_points.txt").write_text(f"[{registry.ENTRY_POINTS}]\nqueue = own_queue:QueueSource\n")
    return "queue"


def test_an_entry_point_names_a_source_and_its_table_has_the_keys(package: str) -> None:
    assert [sample.value for sample in registry.build(package, Config()).collect()] == [1]  # type: ignore[union-attr]
    source = registry.build(package, config("[source.queue]\ndepth = 5\n"))
    assert [sample.value for sample in source.collect()] == [5]  # type: ignore[union-attr]
    with pytest.raises(ConfigurationError, match=r"did you mean 'queue'\? The sources are node, .*, queue; "):
        registry.build("queu", Config())


def test_a_class_in_the_table_comes_before_an_entry_point(package: str) -> None:
    with pytest.raises(ConfigurationError, match="'own_queue:Nameless' is not a source"):
        registry.build(package, config("[source.queue]\nclass = 'own_queue:Nameless'\n"))


@pytest.mark.parametrize(
    ("name", "text", "said"),
    [
        (
            "nod",
            "",
            r"there is no source 'nod'; did you mean 'node'\? The sources are node, deployment, betanet, system",
        ),
        (
            "node",
            "[source.node]\nnode = 'x'\n",
            r"fogmetrics.toml: \[source.node\] has no key 'node'; did you mean 'node_id'",
        ),
        (
            "node",
            "[source.node]\ndisk_timeout_seconds = 99\n",
            "disk_timeout_seconds is 99; give a duration from 10ms to 1m",
        ),
        (
            "deployment",
            "[source.deployment]\nproviders = []\n",
            r"^fogmetrics.toml: \[source.deployment\] providers is",
        ),
        ("queue", "[source.queue]\ndepth = 1\n", r"\[source.queue\] is no source: it has no class"),
        ("other", "[source.other]\nclass = 'own_queue:QueueSource'\n", "has the name 'queue'; the table and"),
    ],
)
def test_what_cannot_be_built_is_told_by_key_value_and_remedy(own_module: str, name: str, text: str, said: str) -> None:
    with pytest.raises(ConfigurationError, match=said):
        registry.build(name, config(text))


@pytest.mark.parametrize(
    ("path", "said"),
    [
        ("own_queue", "class is 'own_queue'; give \"module:Class\""),
        ("no_such:Thing", "can't be made from {}: ModuleNotFoundError"),
        ("own_queue:QueueSource'\nwidth = '2", r"has no key 'width'; did you mean 'depth'\?"),
        ("own_queue:Nameless", "is not a source, which needs name, metrics"),
        ("own_queue:Duck", "is not a source, which needs name, metrics.* only collect"),
        ("own_queue:Words", "has the metrics .* give a list of Metric"),
        ("own_queue:Soon", "has the first_ticks_seconds .*soon.*; give a list"),
        ("own_queue:Unsaid", "has the metrics None; give a list of Metric"),
        ("own_queue:Idle", "is not a source, which needs name"),
        ("own_queue:Twice", "has two different metrics 'queue_depth'; rename"),
        ("own_queue:Daemons", "'collector_up', which is the daemon's own"),
        ("own_queue:Ends", "can't be made from {}: SystemExit: 4"),
        ("own_queue:Fails", "can't be made from {}: OSError: no idea"),
    ],
)
def test_what_is_no_class_of_a_source_is_told_by_its_name(own_module: str, path: str, said: str) -> None:
    with pytest.raises(ConfigurationError, match=said):
        registry.build("queue", config(f"[source.queue]\nclass = '{path}'\n"))


def test_intervals_and_timeouts_come_from_the_source_then_the_collector_then_the_default() -> None:
    assert registry.times("node", Config()) == (15.0, 10.0)
    assert registry.times("node", config("[collector]\ninterval_seconds = 5\n")) == (5.0, 4.0)
    of_both = config("[collector]\ntimeout_seconds = 2\n[source.node]\ninterval_seconds = 3\n")
    assert registry.times("node", of_both) == (3.0, 2.0)
    assert registry.times("node", config("[source.node]\ninterval_seconds = 1\ntimeout_seconds = 0.5\n")) == (1.0, 0.5)


@pytest.mark.parametrize(
    "text",
    [
        "[source.node]\ninterval_seconds = 0.05\n",
        "[source.node]\ninterval_seconds = 1\ntimeout_seconds = 1\n",
        "[collector]\ninterval_seconds = 2\ntimeout_seconds = 3\n",
    ],
)
def test_a_timeout_not_below_the_interval_or_an_interval_too_short_is_refused(text: str) -> None:
    with pytest.raises(
        ConfigurationError, match=r"fogmetrics.toml: \[(source.node|collector)\] (interval|timeout)_seconds is"
    ):
        registry.times("node", config(text))


def test_a_request_may_not_take_the_whole_time_of_its_collection() -> None:
    slow = registry.build("betanet", config("[source.betanet]\ninterval_seconds = 1\n"))
    assert slow.options.request_timeout_seconds == pytest.approx(0.64)  # type: ignore[attr-defined]
    # The providers are asked at the same time: each has all of it.
    both = 'interval_seconds = 1.0\nproviders = ["supervisord", "haproxy"]\nhaproxy_url = "http://h/"\n'
    deployment = registry.build("deployment", config(f"[source.deployment]\n{both}"))
    assert deployment.options.request_timeout_seconds == pytest.approx(0.64)  # type: ignore[attr-defined]
    host = registry.build("host", config("[source.host]\ninterval_seconds = 0.5\n"))
    assert host.options.group_timeout_seconds == pytest.approx(0.32)  # type: ignore[attr-defined]
    node = registry.build("node", config("[source.node]\ninterval_seconds = 0.1\n"))
    assert node.options.disk_timeout_seconds == pytest.approx(0.064)  # type: ignore[attr-defined]
    own = registry.build("betanet", config("[source.betanet]\nrequest_timeout_seconds = 2\n"))
    assert own.options.request_timeout_seconds == 2.0  # type: ignore[attr-defined]
