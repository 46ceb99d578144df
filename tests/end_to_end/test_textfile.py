"""The textfile source in the whole daemon: files come, go bad, age and vanish, and the pages say so."""

from __future__ import annotations

import os
import time
from pathlib import Path

import pytest

from tests.daemon import STATES, Daemon
from tests.end_to_end.cases import families
from tests.programs import wait_until

pytestmark = pytest.mark.real

GOOD = """# TYPE jobs_total counter
jobs_total{queue="a"} 5
# TYPE job_seconds histogram
job_seconds_bucket{le="0.5"} 1
job_seconds_bucket{le="1"} 2
job_seconds_sum 2.5
job_seconds_count 3
"""


def _samples(daemon: Daemon, path: str = "/metrics") -> dict[tuple[str, ...], float]:
    """By name and label values, those of files by their names alone."""
    return {
        (sample.name, *(Path(value).name for value in sample.labels.values())): sample.value
        for family in families(daemon.url, path).values()
        for sample in family.samples
    }


def test_files_come_go_bad_age_and_vanish_and_every_page_has_what_is_there(tmp_path: Path) -> None:
    directory = tmp_path / "texts"
    directory.mkdir()
    (directory / "good.prom").write_text(GOOD)
    toml = f'[source.textfile]\ndirectory = "{directory}"\nmax_age_seconds = 3600\n'
    with Daemon(tmp_path, interval_seconds=0.3, toml=toml) as daemon:
        daemon.wait_until_collected("textfile")
        wait_until(lambda: daemon.states() == {**STATES, "textfile": "RUNNING"}, 10, "all programs")
        wait_until(lambda: ("jobs_total", "a") in _samples(daemon), 10, "the file's samples")
        found = _samples(daemon)
        assert [value for name, value in found.items() if name[0] == "job_seconds_bucket"] == [1, 2, 3]
        assert found["job_seconds_sum",] == 2.5
        assert found["textfile_error", "good.prom"] == 0
        # Another program's histogram has no raw samples: it tells of what is counted, and nothing is.
        over = "/metrics/aggregated?window=1m&source[]=textfile"
        wait_until(lambda: ("jobs", "a", "increase") in _samples(daemon, over), 10, "a second sample of the counter")
        assert not [name for name in _samples(daemon, over) if name[0].startswith("job_seconds")]

        (directory / "bad.prom").write_text("x 1 1700000000000\n")
        wait_until(lambda: _samples(daemon).get(("textfile_error", "bad.prom")) == 1, 10, "the bad file, by name")
        found = _samples(daemon)
        assert found["jobs_total", "a"] == 5
        assert found["node_textfile_scrape_error",] == 1
        assert found["collector_errors_total", "textfile"] >= 1
        assert found["collector_up", "textfile"] == 1

        (directory / "bad.prom").unlink()
        old = time.time() - 7200
        os.utime(directory / "good.prom", (old, old))
        wait_until(lambda: ("jobs_total", "a") not in _samples(daemon), 10, "the end of a stale file's series")
        found = _samples(daemon)
        assert not [name for name in found if name[-1] == "bad.prom"]
        assert found["node_textfile_mtime_seconds", "good.prom"] < time.time() - 7000
        assert found["node_textfile_scrape_error",] == 0

        os.utime(directory / "good.prom")
        wait_until(lambda: ("jobs_total", "a") in _samples(daemon), 10, "it is written again")
        (directory / "good.prom").unlink()
        wait_until(lambda: ("jobs_total", "a") not in _samples(daemon), 10, "the end of a file that is gone")
        log = (tmp_path / "run" / "log" / "textfile.log").read_text()
        for event in ("textfile refused", "textfile too old", "textfile read again"):
            assert log.count(f'event="{event}"') == 1, log
