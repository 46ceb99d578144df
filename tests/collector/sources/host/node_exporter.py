"""The real node_exporter beside ours: how it is started with what our options say, and what its page holds."""

from __future__ import annotations

import contextlib
import re
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

from prometheus_client.parser import text_string_to_metric_families

from collector.source import Sample
from collector.sources.host.options import HostOptions
from collector.sources.host.source import HostMetricSource
from tests import http_client
from tests.programs import find_program, free_port, listens, running

Labels = frozenset[tuple[str, str]]


@dataclass(frozen=True)
class Family:
    """A family's type, and its values by label set. A counter's name is without ``_total``."""

    type: str
    values: dict[Labels, float]


def of_page(page: str) -> dict[str, Family]:
    return {
        family.name: Family(family.type, {frozenset(sample.labels.items()): sample.value for sample in family.samples})
        for family in text_string_to_metric_families(page)
    }


def of_samples(source: HostMetricSource, samples: Iterable[Sample]) -> dict[str, Family]:
    """The same of what our source gave; families without a sample are not there."""
    metrics = {metric.name: metric for metric in source.metrics}
    found: dict[str, Family] = {}
    for sample in samples:
        metric = metrics[sample.metric]
        assert set(sample.labels) == set(metric.label_names)
        assert sample.value is not None
        family = found.setdefault(metric.family, Family(metric.type, {}))
        labels = frozenset((name, value) for name, value in sample.labels.items() if value)
        assert labels not in family.values, f"{sample.metric} has {dict(labels)} twice"
        family.values[labels] = sample.value
    return found


@contextlib.contextmanager
def node_exporter(options: HostOptions, directory: Path, *more: str) -> Iterator[str]:
    """Its address, while it runs the collectors that are our groups, with our filters and our places."""
    port = free_port()
    command = [
        find_program("prometheus-node-exporter"),
        f"--web.listen-address=127.0.0.1:{port}",
        "--collector.disable-defaults",
        *(f"--collector.{group}" for group in options.groups),
        f"--path.procfs={options.proc}",
        f"--path.sysfs={options.sys}",
        f"--path.rootfs={options.rootfs}",
        f"--collector.filesystem.mount-points-exclude={_regex(options.filesystem_exclude_mounts)}",
        f"--collector.filesystem.fs-types-exclude={_regex(options.filesystem_exclude_types)}",
        f"--collector.diskstats.device-exclude={_regex(options.disk_exclude)}",
        f"--collector.netdev.device-exclude={_regex(options.network_exclude)}",
        *more,
    ]
    with running(command, directory / "node_exporter.log") as program:
        program.wait_until(lambda: listens(port), 20, "its port")
        yield f"http://127.0.0.1:{port}/metrics"


def page_of(url: str) -> str:
    answer = http_client.get(url, timeout=20)
    assert answer.status_code == 200
    return answer.text


def _regex(globs: Sequence[str]) -> str:
    """The globs of the defaults, which know ``*`` and sets, as an expression of Go's."""
    if not globs:
        return "^$"
    parts = ("".join(".*" if c == "*" else c if c in "[]-" else re.escape(c) for c in glob) for glob in globs)
    return f"^({'|'.join(parts)})$"
