from __future__ import annotations

import configparser
import re
from pathlib import Path

import pytest

from collector.source import MetricSource, Sample
from fogmetrics.cli import programs
from fogmetrics.cli.init import write as init
from fogmetrics.config import Config, parse
from shm.errors import ConfigurationError


class Queue(MetricSource):
    name = "queue"
    metrics = ()

    def __init__(self, off: str = "") -> None:
        self.off = off

    def collect(self) -> list[Sample]:
        return []


OWN = f'[source.queue]\nclass = "{__name__}:Queue"\n'
BUILT_IN = ["node", "deployment", "betanet", "system"]


def written(directory: Path, text: str = "") -> configparser.RawConfigParser:
    """The programs of a daemon with that configuration, by their sections."""
    if not (directory / "supervisord.conf").exists():
        init(directory)
    found = configparser.RawConfigParser()
    config = parse(text, Path("fogmetrics.toml"))
    found.read(programs.write(directory, config, programs.all_sources(config)))
    return found


@pytest.mark.parametrize(
    ("text", "sources"),
    [
        ("", BUILT_IN),
        ("[source.betanet]\nenabled = false\n", ["node", "deployment", "system"]),
        ("".join(f"[source.{name}]\nenabled = false\n" for name in BUILT_IN), []),
        ("[source.host]\nenabled = true\n[source.applications]\nenabled = true\n", [*BUILT_IN, "host", "applications"]),
        ("[source.host]\nenabled = false\n[source.node]\nenabled = true\n", BUILT_IN),
        ('[source.textfile]\ndirectory = "/tmp"\n', [*BUILT_IN, "textfile"]),
        ('[source.textfile]\nenabled = true\ndirectory = "/tmp"\n', [*BUILT_IN, "textfile"]),
        ('[source.textfile]\nenabled = false\ndirectory = "/tmp"\n', BUILT_IN),
        (OWN, [*BUILT_IN, "queue"]),
        (f"{OWN}enabled = true\n", [*BUILT_IN, "queue"]),
        (f"{OWN}enabled = false\n", BUILT_IN),
        ('[source.gone]\nclass = "gone:Gone"\nenabled = false\n', BUILT_IN),
        (f'{OWN}off = "no queue here"\n', BUILT_IN),
    ],
)
def test_a_program_exists_for_each_source_that_is_on_and_for_no_other(
    text: str, sources: list[str], tmp_path: Path
) -> None:
    assert written(tmp_path, text).sections() == [f"program:{name}" for name in (*sources, "exporter")]


def test_a_textfile_source_that_is_turned_on_without_a_directory_is_a_mistake(tmp_path: Path) -> None:
    with pytest.raises(ConfigurationError, match=r"\[source.textfile\] enabled is true, but directory is empty"):
        written(tmp_path, "[source.textfile]\nenabled = true\n")


def test_programs_run_what_is_installed_whatever_the_working_directory_has(tmp_path: Path) -> None:
    for name, program in written(tmp_path, OWN).items():
        if name != "DEFAULT":
            assert re.search(r" -P -X configuration=[0-9a-f]{16} -m (collector \w+|exporter)$", program["command"])
            assert program["directory"] == "%(here)s/..", "of the written file, in run/"
            assert int(program["startsecs"]) > 0
            assert "exitcodes" not in program


def test_a_directory_whose_socket_is_elsewhere_is_written_as_supervisord_reads_it(tmp_path: Path) -> None:
    directory = tmp_path / "a%2Fb"
    written(directory)
    conf = directory / "supervisord.conf"
    conf.write_text(conf.read_text().replace("%(here)s/run/supervisor.sock", f"{tmp_path}/elsewhere/supervisor.sock"))
    text = programs.write(directory, Config(), []).read_text()
    assert f"directory = {tmp_path}/a%%2Fb\n" in text


@pytest.mark.parametrize(
    ("text", "changed"),
    [
        ("[source.node]\ninterval_seconds = 5\n", {"node"}),
        ("[source.node]\nnode_id = 'fog-1'\n", {"node"}),
        ("[exporter]\nport = 9300\n", {"exporter"}),
        ("[collector]\nmax_series = 999\n", set(BUILT_IN)),
        ("[exporter]\nweb_config = '/web.yml'\n", {"exporter"}),
        ("[applications]\nlabel = 'app'\n", {*BUILT_IN, "exporter"}),
        ("[log]\nlevel = 'debug'\n", set(BUILT_IN)),
        ("[exporter]\ntimestamps = 'none'\nmax_jobs = 3\n", set()),
        ("# nothing but a comment\n", set()),
    ],
)
def test_a_change_of_the_configuration_changes_the_programs_that_it_concerns(
    text: str, changed: set[str], tmp_path: Path
) -> None:
    before, after = written(tmp_path), written(tmp_path, text)
    assert before.sections() == after.sections()
    assert {name.removeprefix("program:") for name in before.sections() if before[name] != after[name]} == changed


@pytest.mark.parametrize(
    ("text", "rereads"),
    [
        ("[exporter]\ntimestamps = 'none'\n", True),
        ("[log]\nlevel = 'debug'\n", True),
        ("[source.betanet]\nenabled = false\n", True),
        ("[metric.node_load1]\nmax_series = 1\n", True),
        ("[source.node]\ninterval_seconds = 5\n", False),
    ],
)
def test_what_the_exporter_takes_over_without_a_restart_is_a_comment(text: str, rereads: bool, tmp_path: Path) -> None:
    def comment() -> str:
        return (tmp_path / "run" / programs.FILE).read_text().partition(programs.TAKEN_OVER)[2]

    written(tmp_path)
    before = comment()
    assert len(before) == 17
    written(tmp_path, text)
    assert (comment() != before) is rereads


def test_a_supervisord_conf_without_the_options_of_the_programs_is_named(tmp_path: Path) -> None:
    (tmp_path / "supervisord.conf").write_text("[supervisord]\n")
    with pytest.raises(ConfigurationError, match=r"supervisord.conf has no section \[fogmetrics:collector\]"):
        written(tmp_path)
