"""docs/applications.md: its code runs, and its page is what the exporter makes of it."""

from __future__ import annotations

import inspect
import re

from collector.frame.collector import MetricCollector
from fogmetrics import RingCollector
from shm.table.process import MODES
from tests.application import Process
from tests.docs.markdown import blocks, read
from tests.exporter.scene import page_of
from tests.rings import namespace as namespace

PAGE = read("docs/applications.md")


def test_the_first_example_gives_the_page_below_it(namespace: str) -> None:
    code, drop_in, _ = (block.text for block in blocks(PAGE, "python"))
    console = blocks(PAGE, "console")[0].text
    with Process(namespace, code):
        assert console.split("\n", 1)[1].strip() == page_of(namespace).strip()
    with Process(namespace, drop_in) as process:
        assert (
            process.do("__import__('fogmetrics.application.drop_in').drop_in._installed.table.application") == "'web'"
        )


def test_the_rings_are_in_the_registry_of_a_program_as_documented(namespace: str) -> None:
    *_, example = (block.text for block in blocks(PAGE, "python"))
    with MetricCollector("queue", namespace=namespace, capacity=64) as collector:
        collector.register_metric("queue_depth", "gauge", help="Jobs waiting.")
        collector.record_metric("queue_depth", 17)
        collector.commit()
        code = f"{example.replace('RingCollector()', f'RingCollector({namespace!r})')}\nimport prometheus_client as p"
        with Process(namespace, code) as process:
            assert "queue_depth 17.0" in process.do("p.generate_latest().decode()")
    signature = str(inspect.signature(RingCollector)).partition(" ->")[0]
    assert f"`RingCollector{re.sub(r': [^=]+ = ', '=', signature).replace('*, ', '')}`".replace("'", '"') in PAGE


def test_every_mode_is_in_the_table() -> None:
    for mode in MODES:
        if not mode.endswith("+dead"):
            assert f'`"{mode}"`' in PAGE, mode
