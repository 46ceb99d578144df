"""The same directory, read by us and by the real node_exporter: the same samples."""

from __future__ import annotations

import os
from collections.abc import Iterable, Iterator
from pathlib import Path

import pytest
from prometheus_client.core import Metric
from prometheus_client.openmetrics import parser as openmetrics
from prometheus_client.parser import text_string_to_metric_families

from collector.frame.collector import MetricCollector
from collector.sources.textfile import TextfileOptions, TextfileSource
from exporter.http.negotiation import Format
from tests import http_client
from tests.exporter.scene import page_of
from tests.programs import find_program, free_port, listens, running

pytestmark = pytest.mark.real

FILES = {
    "backup.prom": r"""# HELP backup_last_success_timestamp_seconds When.
# TYPE backup_last_success_timestamp_seconds gauge
backup_last_success_timestamp_seconds{job="db",path="C:\\data"} 1.7e9
backup_last_success_timestamp_seconds{job="a \"b\"\nc"} 1.6e9
# TYPE backup_bytes_total counter
backup_bytes_total{job="db"} 123456789012
""",
    "bounds.prom": '# TYPE wait gauge\nwait{quantile="0.5"} 1\n# TYPE size gauge\nsize{le="1"} 2\nsize{le="2"} 3\n',
    "plain.prom": "plain 1\nplain_inf +Inf\nplain_nan{a=\"ü\"} NaN\n  spaced\t{ a = \"1\" , }  -2.5e-7\n\n# remark\n",
    "counts.prom": "# TYPE no_ending counter\nno_ending 7\n# TYPE in_flight_count gauge\nin_flight_count 3\n",
    "histogram.prom": """# HELP job_seconds How long.
# TYPE job_seconds histogram
job_seconds_bucket{queue="a",le="0.1"} 1
job_seconds_bucket{queue="a",le="1"} 4
job_seconds_bucket{queue="a",le="+Inf"} 5
job_seconds_sum{queue="a"} 12.5
job_seconds_count{queue="a"} 5
job_seconds_bucket{queue="b",le="1"} 2
job_seconds_bucket{queue="b",le="10"} 2
job_seconds_bucket{queue="b",le="+Inf"} 2
job_seconds_sum{queue="b"} 0.5
job_seconds_count{queue="b"} 2
""",
    "summary.prom": """# TYPE rpc_seconds summary
rpc_seconds{quantile="0.5"} 0.1
rpc_seconds{quantile="0.99"} 2
rpc_seconds_sum 17
rpc_seconds_count 42
""",
    "shared1.prom": '# HELP shared One.\n# TYPE shared gauge\nshared{file="1"} 1\n',
    "shared2.prom": '# HELP shared One.\n# TYPE shared gauge\nshared{file="2"} 2\n',
    "empty.prom": "",
}  # fmt: skip

Samples = dict[tuple[str, tuple[tuple[str, str], ...]], str]


@pytest.fixture
def directory(tmp_path: Path) -> Path:
    path = tmp_path / "texts"
    path.mkdir()
    for name, text in FILES.items():
        (path / name).write_text(text)
        os.utime(path / name, (1_700_000_000, 1_700_000_000))
    return path


@pytest.fixture
def node_exporter(directory: Path, tmp_path: Path) -> Iterator[str]:
    port = free_port()
    command = [
        find_program("prometheus-node-exporter"), "--collector.disable-defaults", "--collector.textfile",
        f"--collector.textfile.directory={directory}", "--web.disable-exporter-metrics",
        f"--web.listen-address=127.0.0.1:{port}",
    ]  # fmt: skip
    with running(command, tmp_path / "node_exporter.log") as program:
        program.wait_until(lambda: listens(port), 20, "node_exporter listening")
        yield f"http://127.0.0.1:{port}/metrics"


def samples(families: Iterable[Metric]) -> Samples:
    """By name and labels; an empty label is none, and a bound is what number it is."""
    return {
        (
            sample.name,
            tuple(sorted((k, str(float(v)) if k in ("le", "quantile") else v) for k, v in sample.labels.items() if v)),
        ): repr(float(sample.value))
        for family in families
        for sample in family.samples
        if not sample.name.startswith(("node_scrape_collector_", "node_exporter_", "promhttp_"))
    }


def bare(text: str) -> Iterable[Metric]:
    """The page without its types: of a counter, this parser gives every sample the ending ``_total``."""
    return text_string_to_metric_families("\n".join(line for line in text.splitlines() if line[0] != "#") + "\n")


def ours(directory: Path, namespace: str, form: Format) -> str:
    source = TextfileSource(TextfileOptions(str(directory)))
    with MetricCollector("textfile", namespace=namespace, capacity=64) as collector:
        collector.register(*source.metrics)
        [result] = collector.collect_from_sources([source], 5)
        assert not result.errors
        collector.commit()
        return page_of(namespace, form)


def test_a_directory_of_good_files_gives_the_samples_that_node_exporter_gives(
    directory: Path, namespace: str, node_exporter: str
) -> None:
    text = ours(directory, namespace, Format.TEXT)
    theirs = http_client.get(node_exporter).text
    found, wanted = samples(bare(text)), samples(bare(theirs))
    own = {key for key in found if key[0] == "textfile_error"}
    assert len(own) == len(FILES)
    assert {key: value for key, value in found.items() if key not in own} == wanted
    assert len(wanted) > 30
    # The types are theirs, or untyped: never another.
    types = {one.name: one.type for one in text_string_to_metric_families(theirs)}
    for family in text_string_to_metric_families(text):
        if family.name in types and family.type != types[family.name]:
            assert family.type == "unknown", family
    # OpenMetrics, which Prometheus asks for, has the same samples.
    families: Iterable[Metric] = openmetrics.text_string_to_metric_families(  # type: ignore[no-untyped-call]
        ours(directory, namespace, Format.OPENMETRICS) + "# EOF\n"
    )
    assert {key: value for key, value in samples(families).items() if key not in own} == wanted
