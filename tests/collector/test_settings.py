"""The tables [collector], [source.NAME] and [metric.NAME]."""

from __future__ import annotations

import re
from pathlib import Path

import pytest

from collector.settings import MetricConfig, SourceConfig
from fogmetrics.config import parse
from shm.errors import ConfigurationError

FILE = Path("etc/fog.toml")


@pytest.mark.parametrize(
    ("text", "says"),
    [
        ("[metric.x]\nmax_serie = 3\n", "[metric.x] has no key 'max_serie'; did you mean 'max_series'?"),
        ('[metric.x]\nbeyond = "dorp"\n', "[metric.x] beyond is 'dorp'; give one of drop, oldest"),
        ('[collector]\nbeyond = ""\n', "[collector] beyond is ''; give one of drop, oldest"),
        ("[metric.x]\nmax_series = -1\n", "[metric.x] max_series is -1; give a number from 0 to 100000."),
        (
            "[metric.x]\nbuckets = [5, 1]\n",
            "etc/fog.toml: [metric.x] buckets can't be used: histogram 'x' has buckets that do not rise: (5.0, 1.0)",
        ),
        (
            '[metric."a\\tb"]\n',
            "etc/fog.toml: [metric.\"a\\tb\"] can't be a metric: metric name 'a\\tb' is not a Prometheus name",
        ),
        ('[metric."a b*"]\n', 'etc/fog.toml: [metric."a b*"] matches no metric name; use letters, digits and _'),
        ("[metric.a.b]\nmax_series = 1\n", "etc/fog.toml: [metric.a] has no key 'b'; the keys are max_series, beyond"),
        (
            '[collector]\nbeyond = "other"\n',
            "[collector] beyond is 'other', which added up the series beyond a limit in one series and was removed; "
            'give "drop", which counts their samples in collector_series_limited_total, or "oldest"',
        ),
        ('[metric.x]\nbeyond = "other"\n', "[metric.x] beyond is 'other', which added up the series beyond a limit"),
    ],
)
def test_what_is_wrong_is_refused_with_file_table_key_value_and_remedy(text: str, says: str) -> None:
    with pytest.raises(ConfigurationError, match=re.escape(says)):
        parse(text, FILE)


def test_a_sources_table_is_split_into_what_all_sources_have_and_what_its_class_has() -> None:
    config = parse(
        """
        [source.app]
        class = "mine.metrics:App"
        interval_seconds = 5
        url = "http://localhost:1"
        retries = 3
        [source.node]
        """,
        FILE,
    )
    options = {"url": "http://localhost:1", "retries": 3}
    assert config.source == {
        "app": SourceConfig(class_="mine.metrics:App", interval_seconds=5.0, options=options),
        "node": SourceConfig(),
    }


def test_the_tables_of_metrics_are_read_by_name_and_glob_in_their_order() -> None:
    config = parse('[metric."b_*"]\nbeyond = "oldest"\n[metric.a]\nmax_series = 3\nbuckets = [1, 2.5]\n', FILE)
    assert list(config.metric.items()) == [
        ("b_*", MetricConfig(beyond="oldest")), ("a", MetricConfig(max_series=3, buckets=(1.0, 2.5))),
    ]  # fmt: skip


@pytest.mark.parametrize("name", ["app_[a-c]?", "http.server.*", "größe_*"])
def test_globs_may_have_what_names_beyond_the_classic_ones_have(name: str) -> None:
    assert list(parse(f'[metric."{name}"]\nmax_series = 3\n', FILE).metric) == [name]
