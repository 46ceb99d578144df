"""The configuration: what is wrong is refused, and the message names file, table, key, value and remedy."""

from __future__ import annotations

import codecs
import dataclasses
import os
import re
import subprocess
import sys
import typing
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from collector import registry
from collector.settings import SourceConfig
from fogmetrics.config import Config, load, parse
from fogmetrics.durations import Seconds
from fogmetrics.settings.reader import keys_of
from fogmetrics.settings.tables import ShmConfig
from shm.errors import ConfigurationError
from tests.docs.test_tables import uncommented
from tests.rings import ROOT, become, in_fork

FILE = Path("etc/fog.toml")


def test_an_empty_file_is_all_defaults() -> None:
    assert parse("", FILE) == Config(path=FILE)


def test_each_key_is_read_into_its_table() -> None:
    config = parse(
        """
        [shm]
        namespace = "blue"
        capacity = 100
        [collector]
        interval_seconds = 5
        [exporter]
        listen = "0.0.0.0"
        stale_intervals = 2.5
        [log]
        level = "debug"
        """,
        FILE,
    )
    assert config.shm == ShmConfig(namespace="blue", capacity=100)
    assert config.collector.interval_seconds == 5.0
    assert type(config.collector.interval_seconds) is float
    assert (config.exporter.listen, config.exporter.stale_intervals, config.exporter.port) == ("0.0.0.0", 2.5, 9200)
    assert config.log.level == "debug"


@pytest.mark.parametrize(
    ("text", "says"),
    [
        ("[exporte]\n", "etc/fog.toml has no table 'exporte'; did you mean 'exporter'?"),
        (
            "[zzz]\n",
            "etc/fog.toml has no table 'zzz'; the tables are shm, applications, exporter, metric, collector, source, "
            "log",
        ),
        ("[exporter]\nport = true\n", "etc/fog.toml: [exporter] port is true; give a whole number, such as 15"),
        ("[exporter]\nport = 9200.0\n", "etc/fog.toml: [exporter] port is 9200.0; give a whole number, such as 15"),
        (
            "[exporter]\nport = 65536\n",
            "etc/fog.toml: [exporter] port is 65536; give a number from 0 to 65535. Port to listen on;",
        ),
        (
            "[collector]\ninterval_seconds = nan\n",
            "etc/fog.toml: [collector] interval_seconds is nan; give a duration from 100ms to 1h.",
        ),
        (f"[collector]\ninterval_seconds = 1{'0' * 400}\n", 'give a duration, such as 15, "15s" or "1h30m"'),
        (
            "[collector]\ninterval_seconds = 2024-01-01\n",
            'interval_seconds is 2024-01-01; give a duration, such as 15, "15s" or "1h30m"',
        ),
        ('[log]\nlevel = "loud"\n', "[log] level is 'loud'; give one of debug, info, warning, error"),
        ("shm = 3\n", "etc/fog.toml: shm is 3; make it a table: [shm]"),
        ("metric = 3\n", "etc/fog.toml: metric is 3; make it a table: [metric.NAME]"),
        ("[metric]\nx = 3\n", "etc/fog.toml: [metric] x is 3; make it a table: [metric.x]"),
        (
            "port = 1\n",
            "etc/fog.toml has the key 'port' outside of any table; port is a key of [exporter]: write it below a line",
        ),
        ("prot = 1\n", "etc/fog.toml has the key 'prot' outside of any table; did you mean 'port' of [exporter]?"),
        (
            "zzz = 1\n",
            "etc/fog.toml has the key 'zzz' outside of any table; the tables are shm, applications, exporter",
        ),
        (f"[exporter]\nport = 1{'0' * 5000}\n", "etc/fog.toml has a number of thousands of digits"),
        (f"[exporter]\nport = {'[' * 20_000}\n", "etc/fog.toml nests too deeply"),
        (f"[{'.'.join('a' * 20_000)}]\n", "etc/fog.toml nests too deeply"),
        ("[shm\n", "etc/fog.toml is not TOML: "),
        ("[shm]\n\ncapacity = 8\n capacity = 9", ", 'capacity = 9'; write each table and key once"),
        ("[log]\nlevel = info\nformat = 'json'\n", ", 'level = info'; write each table and key once, and texts in"),
    ],
)
def test_what_is_wrong_is_refused_with_file_table_key_value_and_remedy(text: str, says: str) -> None:
    with pytest.raises(ConfigurationError, match=re.escape(says)):
        parse(text, FILE)


def test_the_file_is_the_one_given_else_that_of_the_environment_else_that_in_the_working_directory(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    assert load(environ={}) == load(environ={"FOGMETRICS_CONFIG": ""}) == Config()
    for name, port in (("fogmetrics.toml", 1), ("environment.toml", 2), ("given.toml", 3)):
        (tmp_path / name).write_text(f"[exporter]\nport = {port}\n")
    environ = {"FOGMETRICS_CONFIG": "environment.toml"}
    assert load(environ={}).exporter.port == 1
    assert load(environ={"FOGMETRICS_CONFIG": ""}).exporter.port == 1
    assert load(environ=environ).exporter.port == 2
    assert load("given.toml", environ).exporter.port == 3
    assert load("given.toml", environ).path == Path("given.toml")


def test_the_namespace_of_the_environment_goes_before_that_of_the_file(tmp_path: Path) -> None:
    path = tmp_path / "fog.toml"
    path.write_text('[shm]\nnamespace = "file"\ncapacity = 99\n')
    config = load(path, {"FOGMETRICS_NAMESPACE": "environment"})
    assert config.shm == ShmConfig(namespace="environment", capacity=99)
    assert load(path, {"FOGMETRICS_NAMESPACE": ""}).shm.namespace == "file"


@pytest.fixture
def refusal(tmp_path: Path) -> Callable[[str], str]:
    """What load() says of a file of that name in ``tmp_path``."""

    def said(name: str) -> str:
        with pytest.raises(ConfigurationError) as raised:
            load(tmp_path / name, {})
        return str(raised.value)

    return said


def test_what_is_no_readable_file_is_refused_with_its_kind_and_a_remedy(
    tmp_path: Path, refusal: Callable[[str], str], monkeypatch: pytest.MonkeyPatch
) -> None:
    remedy = "; give --config or $FOGMETRICS_CONFIG the path of a TOML file"
    (tmp_path / "link.toml").symlink_to("gone.toml")
    (tmp_path / "file").touch()
    os.mkfifo(tmp_path / "fifo.toml")
    assert refusal("none.toml") == f"there is no configuration file {tmp_path}/none.toml{remedy} that exists"
    assert refusal("link.toml").endswith("is a link to gone.toml, which is missing; make that file, or remove the link")
    assert refusal("") == f"the configuration file {tmp_path} is a directory, not a file{remedy}"
    assert refusal("fifo.toml") == f"the configuration file {tmp_path}/fifo.toml is a FIFO, not a file{remedy}"
    assert refusal("/dev/null") == f"the configuration file /dev/null is a device, not a file{remedy}"
    assert (
        refusal("file/f.toml")
        == f"the configuration file {tmp_path}/file/f.toml can't be read: Not a directory{remedy}"
    )
    assert "can't be read: File name too long" in refusal("n" * 300)
    assert re.search("can't be read: .*embedded null", refusal("a\0b"))
    monkeypatch.chdir(tmp_path)
    Path("fogmetrics.toml").symlink_to("gone.toml")
    with pytest.raises(ConfigurationError, match=r"is a link to gone\.toml, which is missing"):
        load(environ={})


@pytest.mark.skipif(os.geteuid() != 0, reason="needs root, to become a user without rights: run the tests as root")
def test_a_file_that_this_user_may_not_read_is_refused_with_the_user(
    tmp_path: Path, refusal: Callable[[str], str]
) -> None:
    (tmp_path / "f.toml").touch(mode=0o600)

    def as_another() -> None:
        become(65534, 65534)
        assert "can't be read by this user, number 65534; let it read the file" in refusal("f.toml")

    in_fork(as_another)


@pytest.mark.parametrize(
    ("encoding", "mark", "said"),
    [
        ("utf-16", b"", "is in UTF-16, and TOML is in UTF-8; convert it: iconv -f UTF-16 -t UTF-8 "),
        ("utf-16-be", codecs.BOM_UTF16_BE, "is in UTF-16, and TOML is in UTF-8"),
        ("utf-16-le", b"", "is in UTF-16LE, and TOML is in UTF-8; convert it: iconv -f UTF-16LE -t UTF-8 "),
        ("utf-16-be", b"", "is in UTF-16BE, and TOML is in UTF-8"),
        ("utf-32", b"", "is in UTF-32, and TOML is in UTF-8"),
        (
            "latin-1",
            b"",
            "has the byte 0xfc in line 2, which is not UTF-8, the encoding of TOML; save the file as UTF-8",
        ),
    ],
)
def test_a_file_in_another_encoding_is_refused_with_the_command_that_converts_it(
    tmp_path: Path, refusal: Callable[[str], str], encoding: str, mark: bytes, said: str
) -> None:
    (tmp_path / "f f.toml").write_bytes(mark + '[shm]\nnamespace = "\xfc"\n'.encode(encoding))
    message = refusal("f f.toml")
    assert said in message
    (tmp_path / "f f.toml").write_bytes(subprocess.check_output(message[message.index("iconv ") :], shell=True))
    assert "namespace is '\xfc'" in refusal("f f.toml")


def test_a_file_may_begin_with_a_byte_order_mark(tmp_path: Path) -> None:
    (tmp_path / "fog.toml").write_text("[exporter]\nport = 9300\n", encoding="utf-8-sig")
    assert load(tmp_path / "fog.toml", {}).exporter.port == 9300


def test_messages_name_the_file_or_say_that_there_is_none() -> None:
    assert Config().where("shm") == "defaults: [shm]"
    assert Config(path=FILE).where("shm") == "etc/fog.toml: [shm]"


def test_every_key_has_a_sentence_that_says_what_it_means() -> None:
    for table, hint in typing.get_type_hints(Config).items():
        for cls in (hint, *typing.get_args(hint)):
            if dataclasses.is_dataclass(cls):
                for name, field in keys_of(cls).items():
                    assert str(field.metadata["doc"]).endswith("."), f"[{table}] {name}"


def test_each_key_that_is_a_time_is_a_duration() -> None:
    tables: list[Any] = [*map(registry.options_class, registry.BUILT_IN), SourceConfig]
    tables += [one for one in typing.get_type_hints(Config).values() if dataclasses.is_dataclass(one)]
    for cls in tables:
        hints = typing.get_type_hints(cls, include_extras=True)
        assert [name for name in keys_of(cls) if name.endswith("_seconds") and hints[name] != Seconds] == [], cls


def test_to_check_every_table_no_library_is_loaded(tmp_path: Path) -> None:
    (tmp_path / "f.toml").write_text(uncommented((ROOT / "fogmetrics.toml").read_text()))
    code = f"""
import sys
from fogmetrics.config import load
assert load({str(tmp_path / "f.toml")!r}).source["betanet"].options
print(*{{"numpy", "httpx", "psutil", "asyncio", "prometheus_client", "importlib.metadata"}} & sys.modules.keys())
"""
    assert subprocess.check_output([sys.executable, "-c", code], cwd=ROOT, text=True, timeout=60) == "\n"


@pytest.mark.parametrize(
    ("table", "name", "right"), [("exporter", "snapshot_seconds", "shm"), ("collector", "max_jobs", "exporter")]
)
def test_a_key_of_another_table_is_told_where_it_belongs(table: str, name: str, right: str) -> None:
    with pytest.raises(ConfigurationError, match=rf"has no key '{name}'; {name} is a key of \[{right}\]"):
        parse(f"[{table}]\n{name} = 1\n", Path("f.toml"))
