"""Ours beside the real node_exporter: the same names, types and labels, and the values within what moved between."""

from __future__ import annotations

import os
from pathlib import Path

import pytest

from collector.sources.host.options import HostOptions
from collector.sources.host.source import HostMetricSource
from tests.collector.sources.host import fixture
from tests.collector.sources.host.node_exporter import Family, node_exporter, of_page, of_samples, page_of

pytestmark = pytest.mark.real

_MIB = 2**20
# Gauges that move while they are read: how far, beyond what ours moved from before to after. All others are the same.
_MOVING = {
    "node_load1": 1.0, "node_load5": 1.0, "node_load15": 1.0, "node_procs_running": 200, "node_procs_blocked": 200,
    "node_filefd_allocated": 2000, "node_filesystem_avail_bytes": 512 * _MIB, "node_filesystem_free_bytes": 512 * _MIB,
    "node_filesystem_files_free": 50_000, "node_disk_io_now": 1000, "node_entropy_available_bits": 4096,
    "node_filesystem_files": 50_000, "node_boot_time_seconds": 1, "node_thermal_zone_temp": 20,
    "node_hwmon_temp_celsius": 20, "node_cooling_device_cur_state": 100,
}  # fmt: skip
_MEMORY_THAT_STAYS = {
    "node_memory_MemTotal_bytes", "node_memory_SwapTotal_bytes", "node_memory_HugePages_Total",
    "node_memory_Hugepagesize_bytes", "node_memory_VmallocTotal_bytes",
}  # fmt: skip
# A tick of the kernel's, and float64 sums of the same in another order.
_COUNTER_SLACK = 0.05
_DURATION = "node_scrape_collector_duration_seconds"
_SUCCESS = "node_scrape_collector_success"


def test_each_family_has_their_name_type_and_labels_and_values_within_what_moved(tmp_path: Path) -> None:
    options = HostOptions()
    source = HostMetricSource(options)
    with node_exporter(options, tmp_path) as url:
        before = of_samples(source, source.collect().samples)
        theirs = of_page(page_of(url))
        after = of_samples(source, source.collect().samples)
    source.close()
    assert set(before) == set(after)
    assert len(before) > 90  # of a host without pressure or swap, too
    for name, ours in before.items():
        assert name in theirs, f"node_exporter has no {name}"
        assert ours.type == theirs[name].type, name
        assert set(ours.values) == set(theirs[name].values), name
        for labels, value in theirs[name].values.items():
            _check(name, ours.type, (ours.values[labels], after[name].values[labels]), value)


def _check(name: str, kind: str, ours: tuple[float, float], theirs: float) -> None:
    low, high = min(ours), max(ours)
    if name == _DURATION:
        assert 0 < theirs < 10
        assert 0 < low <= high < 10
    elif name == _SUCCESS:
        assert low == high == 1  # theirs is 0 where there is nothing to read, as of hwmon in a virtual machine
    elif kind == "counter":
        assert low - _COUNTER_SLACK <= theirs <= high + _COUNTER_SLACK, (name, ours, theirs)
    elif name.startswith("node_memory_") and name not in _MEMORY_THAT_STAYS:
        slack = max(256 * _MIB, 0.1 * high)
        assert low - slack <= theirs <= high + slack, (name, ours, theirs)
    elif name == "node_time_seconds":
        assert low <= theirs <= high
    else:
        slack = _MOVING.get(name, 0.0)
        assert low - slack <= theirs <= high + slack, (name, ours, theirs)


@pytest.mark.parametrize("name", fixture.HOSTS)
def test_a_host_that_stands_still_gives_the_same_samples_to_both(name: str, tmp_path: Path) -> None:
    options = fixture.write(name, tmp_path)
    source = HostMetricSource(options)
    # Their default is netlink, which knows the interfaces of this host alone.
    with node_exporter(options, tmp_path, "--no-collector.netdev.netlink") as url:
        theirs = of_page(page_of(url))
    ours = of_samples(source, source.collect().samples)
    source.close()
    # Of the file system of this test's directory.
    moving = {"node_filesystem_avail_bytes", "node_filesystem_free_bytes", "node_filesystem_files_free"}
    for family, found in ours.items():
        assert found.type == theirs[family].type, family
        if family in (_DURATION, _SUCCESS, *moving):
            assert set(found.values) == set(theirs[family].values)
        else:
            assert _rounded(found) == _rounded(theirs[family]), family
    offered = {metric.family for metric in source.metrics}
    assert set(theirs) & offered <= set(ours)
    assert set(ours) >= fixture.HOSTS[name].families
    assert os.path.samefile(options.rootfs, tmp_path / "root")


def _rounded(family: Family) -> dict[frozenset[tuple[str, str]], float]:
    return {labels: float(f"{value:.12g}") for labels, value in family.values.items()}
