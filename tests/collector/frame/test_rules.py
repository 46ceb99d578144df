from __future__ import annotations

import re
from pathlib import Path

import pytest

from collector.frame.rules import Rules
from collector.metrics import UP
from collector.settings import MetricConfig
from fogmetrics.config import parse
from shm.errors import ConfigurationError
from shm.metric import Metric


def rules(text: str) -> Rules:
    return Rules.of(parse(text, Path("fog.toml")))


def gauge(name: str) -> Metric:
    return Metric(name, "gauge", "")


LATENCY = Metric("app_latency", "histogram", "L.", buckets=(1.0, 2.0))


def test_without_a_table_a_metric_has_the_limits_of_all() -> None:
    assert rules("").rule(gauge("a")) == MetricConfig(0, "drop", 0)
    assert rules('[collector]\nbeyond = "oldest"\nmax_label_values = 7\n').rule(gauge("a")) == MetricConfig(
        0, "oldest", 7
    )


def test_the_exact_name_comes_before_globs_and_globs_in_the_order_of_the_file_key_by_key() -> None:
    found = rules(
        """
        [collector]
        max_label_values = 9
        [metric."*"]
        beyond = "oldest"
        [metric."app_*"]
        max_series = 5
        beyond = "drop"
        [metric."app_r?quests"]
        max_label_values = 3
        [metric.app_requests]
        max_series = 7
        """
    )
    assert found.rule(gauge("app_requests")) == MetricConfig(7, "oldest", 3)
    assert found.rule(gauge("app_depth")) == MetricConfig(5, "oldest", 9)
    assert found.rule(gauge("else")) == MetricConfig(0, "oldest", 9)


def test_no_limit_of_values_can_be_said_where_there_is_one_by_default() -> None:
    assert rules("[collector]\nmax_label_values = 9\n[metric.a]\nmax_label_values = 0\n").rule(
        gauge("a")
    ) == MetricConfig(0, "drop", 0)


@pytest.mark.parametrize("table", ["jobs", "jobs_total", '"job*_total"', '"j?bs"'])
@pytest.mark.parametrize("name", ["jobs", "jobs_total"])
def test_a_counter_is_found_with_and_without_its_total(table: str, name: str) -> None:
    found = rules(f"[metric.{table}]\nmax_series = 3\n")
    assert found.rule(Metric(name, "counter", "")).max_series == 3


def test_a_gauge_is_found_by_its_name_alone() -> None:
    assert rules("[metric.jobs_total]\nmax_series = 3\n").rule(gauge("jobs")).max_series == 0


def test_buckets_are_for_the_histograms_among_those_that_a_glob_fits() -> None:
    found = rules('[metric."app_*"]\nbuckets = [5, 10]\n')
    assert found.configured(LATENCY) == Metric("app_latency", "histogram", "L.", buckets=(5.0, 10.0))
    assert found.configured(gauge("app_depth")) == gauge("app_depth")
    other = Metric("latency", "histogram", "L.", buckets=(1.0,))
    assert found.configured(other) == other
    found.check([LATENCY, gauge("app_depth"), UP])


@pytest.mark.parametrize(
    ("table", "says"),
    [
        (
            "[metric.depth]\nbuckets = [1]\n",
            "fog.toml: [metric.depth] buckets are for histograms, and depth is a gauge",
        ),
        ("[metric.collector_up]\n", "fog.toml: [metric.collector_up] is the daemon's own metric, which has no limits"),
    ],
)
def test_a_table_of_exactly_one_metric_that_can_not_be_meant_is_refused(table: str, says: str) -> None:
    with pytest.raises(ConfigurationError, match=re.escape(says)):
        rules(table).check([gauge("depth"), UP])
