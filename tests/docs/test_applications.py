"""docs/applications.md: its code runs, and its page is what the exporter makes of it."""

from __future__ import annotations

from exporter.app import Exporter
from exporter.http.negotiation import Format
from exporter.http.parameters import MetricsQuery
from fogmetrics.config import Config
from fogmetrics.settings.tables import ShmConfig
from shm.table.process import MODES
from tests.application import Process
from tests.docs.markdown import blocks, read
from tests.rings import namespace as namespace

PAGE = read("docs/applications.md")


def test_the_first_example_gives_the_page_below_it(namespace: str) -> None:
    code, drop_in = (block.text for block in blocks(PAGE, "python"))
    console = blocks(PAGE, "console")[0].text
    with Process(namespace, code):
        exporter = Exporter(Config(shm=ShmConfig(namespace=namespace)))
        try:
            page = b"".join(exporter.metrics_parts(MetricsQuery(sources=("web",)), Format.TEXT)).decode()
        finally:
            exporter.close()
    assert console.split("\n", 1)[1].strip() == page.strip()
    with Process(namespace, drop_in) as process:
        assert (
            process.do("__import__('fogmetrics.application.drop_in').drop_in._installed.table.application") == "'web'"
        )


def test_every_mode_is_in_the_table() -> None:
    for mode in MODES:
        if not mode.endswith("+dead"):
            assert f'`"{mode}"`' in PAGE, mode
