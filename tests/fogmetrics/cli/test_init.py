from __future__ import annotations

import configparser
import dataclasses
import os
import stat
from collections.abc import Iterator
from pathlib import Path

import pytest

from fogmetrics import config
from fogmetrics.cli import check, programs
from fogmetrics.cli import init as module
from fogmetrics.cli.directory import log_directory, read_conf, run_directory
from fogmetrics.cli.init import main as init
from fogmetrics.settings.tables import ShmConfig
from tests.programs import free_port
from tests.stand_ins.betanet import PATHS, BetanetStandIn

BOTH = pytest.mark.parametrize("options", [[], ["--system"]], ids=["plain", "system"])


@pytest.fixture(autouse=True)
def betanet(monkeypatch: pytest.MonkeyPatch) -> Iterator[BetanetStandIn]:
    with BetanetStandIn() as server:
        monkeypatch.setattr(module, "BETANET_URL", server.url)
        yield server


@BOTH
def test_its_files_are_a_configuration_and_a_supervisord_conf_with_a_program_for_each_source_that_is_on(
    options: list[str], tmp_path: Path
) -> None:
    directory = tmp_path / "new" / "directory"
    assert init([str(directory), *options]) == 0
    loaded = config.load(directory / "fogmetrics.toml", {})
    loaded = dataclasses.replace(loaded, shm=ShmConfig())  # this host may not have the users
    text = programs.programs(directory, read_conf(directory), loaded, programs.all_sources(loaded))
    made = configparser.RawConfigParser()
    made.read_string(text)
    assert made.sections() == [f"program:{name}" for name in ("node", "deployment", "betanet", "system", "exporter")]
    included = read_conf(directory)["include"]["files"].split()
    assert directory / included[0] == run_directory(directory) / programs.FILE
    assert (directory / "conf.d").is_dir()


def test_those_of_a_system_have_a_user_for_the_collectors_and_one_for_the_exporter(tmp_path: Path) -> None:
    assert init([str(tmp_path), "--system"]) == 0
    conf, loaded = read_conf(tmp_path), config.load(tmp_path / "fogmetrics.toml", {})
    assert conf["fogmetrics:collector"]["user"] == loaded.shm.owner == loaded.shm.group == "fogmetrics"
    assert conf["fogmetrics:exporter"]["user"] == "fogmetrics-exporter"
    assert loaded.exporter.listen == "127.0.0.1"


def test_those_of_a_system_are_readable_by_the_users_of_the_programs_whatever_the_umask(tmp_path: Path) -> None:
    before = os.umask(0o077)
    try:
        assert init([str(tmp_path / "new"), "--system"]) == 0
    finally:
        os.umask(before)
    modes = {path.name: stat.S_IMODE(path.stat().st_mode) for path in (tmp_path / "new", *(tmp_path / "new").iterdir())}
    assert (modes["new"], modes["fogmetrics.toml"], modes["supervisord.conf"]) == (0o755, 0o644, 0o644)


@pytest.mark.parametrize("options", [[], ["--docker"]], ids=["plain", "docker"])
def test_files_that_name_no_user_pass_the_check(
    options: list[str], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.delenv("FOGMETRICS_CONFIG", raising=False)
    assert init([str(tmp_path), *options]) == 0
    toml = tmp_path / "fogmetrics.toml"
    toml.write_text(toml.read_text().replace("/var/lib/fogmetrics", str(tmp_path)))
    assert check.main([str(tmp_path), "--config-only"]) == 0


@BOTH
def test_betanet_is_off_where_it_does_not_answer(
    options: list[str], tmp_path: Path, monkeypatch: pytest.MonkeyPatch, betanet: BetanetStandIn
) -> None:
    def enabled(name: str) -> bool | None:
        assert init([str(tmp_path / name), *options]) == 0
        loaded = config.parse((tmp_path / name / "fogmetrics.toml").read_text(), Path("fogmetrics.toml"))
        return loaded.source["betanet"].enabled

    assert enabled("answers") is None  # as without the key: on
    betanet.answers = lambda: {path: {"another": "service"} for path in PATHS}
    assert enabled("another-service") is False
    url = f"http://127.0.0.1:{free_port()}"
    monkeypatch.setattr(module, "BETANET_URL", url)
    assert enabled("nothing") is False
    assert f"no Betanet answered at {url}" in (tmp_path / "nothing" / "fogmetrics.toml").read_text()


def test_users_and_directories_are_those_that_are_given(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    given = [
        "--user",
        "metrics",
        "--exporter-user",
        "web",
        "--run-dir",
        "/run/a/../a/b/",
        "--log-dir",
        "/srv/var/log/x",
    ]
    assert init([str(tmp_path), "--system", *given, "--state-dir", "/srv/state"]) == 0
    conf, unit = read_conf(tmp_path), (tmp_path / "fogmetrics.service").read_text()
    loaded = config.load(tmp_path / "fogmetrics.toml", {})
    assert (loaded.shm.owner, loaded.shm.group, loaded.shm.snapshot_dir) == ("metrics", "metrics", "/srv/state")
    assert conf["unix_http_server"]["chown"] == "metrics:metrics"
    assert conf["fogmetrics:collector"]["user"] == "metrics"
    assert conf["fogmetrics:exporter"]["user"] == "web"
    assert (run_directory(tmp_path), log_directory(tmp_path)) == (Path("/run/a/b"), Path("/srv/var/log/x"))
    assert "\nRuntimeDirectory=a/b\n" in unit
    assert "\nReadWritePaths=/srv/var/log/x\n" in unit
    assert "\nReadWritePaths=-/srv/state\n" in unit
    assert f" run {tmp_path}\n" in unit
    for name in ("/run/fogmetrics", "/var/log/fogmetrics", "/var/lib/fogmetrics", "fogmetrics-exporter"):
        assert name not in "".join(path.read_text() for path in tmp_path.iterdir() if path.is_file())
    said = capsys.readouterr().out
    assert "useradd --system --user-group --no-create-home metrics\n" in said
    assert f"systemctl enable --now {tmp_path}/fogmetrics.service" in said


def test_a_user_who_is_there_keeps_the_group_that_is_theirs(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert (
        init([str(tmp_path), "--system", "--user", "games", "--exporter-user", "sync"]) == 0
    )  # whose group is nogroup
    assert "useradd" not in capsys.readouterr().out
    assert init([str(tmp_path / "2"), "--system", "--user", "sync", "--exporter-user", "games"]) == 0
    assert read_conf(tmp_path / "2")["unix_http_server"]["chown"] == "sync:nogroup"


@pytest.mark.parametrize(
    ("options", "said"),
    [
        (["--user", "a b"], "--user is 'a b'; give a user's name"),
        (["--exporter-user", ""], "--exporter-user is ''; give a user's name"),
        (["--user", "one", "--exporter-user", "one"], "--user and --exporter-user are both 'one'; give two users"),
        (["--run-dir", "/run/../etc"], "--run-dir is '/etc'; give a directory below /run"),
        (["--run-dir", "/srv/run"], "--run-dir is '/srv/run'; give a directory below /run"),
        (["--log-dir", "logs"], "--log-dir is 'logs'; give an absolute path"),
        (["--log-dir", "/srv/a b"], "--log-dir is '/srv/a b'; give an absolute path"),
        (["--state-dir", "/srv/100%"], "--state-dir is '/srv/100%'; give an absolute path"),
    ],
)
def test_a_wrong_option_is_named_and_nothing_is_written(
    options: list[str], said: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    directory = tmp_path / "new"
    with pytest.raises(SystemExit) as ended:
        init([str(directory), "--system", *options])
    assert ended.value.code == 2
    assert said in capsys.readouterr().err
    assert not directory.exists()


def test_a_directory_that_a_unit_could_not_name_is_refused_for_a_service_alone(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    with pytest.raises(SystemExit):
        init([str(tmp_path / "a b"), "--system"])
    assert "a b'; give an absolute path" in capsys.readouterr().err
    assert init([str(tmp_path / "a b")]) == 0


@pytest.mark.parametrize("options", [["--user", "x"], ["--docker", "--log-dir", "/x"]])
def test_options_of_a_service_need_a_service(
    options: list[str], tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    with pytest.raises(SystemExit) as ended:
        init([str(tmp_path), *options])
    assert ended.value.code == 2
    assert "is for a service; add --system" in capsys.readouterr().err


def test_an_installation_without_the_command_can_have_no_unit(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("sysconfig.get_path", lambda name: str(tmp_path))
    assert init([str(tmp_path / "new"), "--system"]) == 75
    assert f"there is no {tmp_path}/fogmetrics, which the unit would start" in capsys.readouterr().err


@pytest.mark.parametrize("name", ["fogmetrics.toml", "supervisord.conf"])
def test_a_file_that_is_there_is_left_and_named(name: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    (tmp_path / name).write_text("mine")
    assert init([str(tmp_path)]) == 75
    assert f"has {name} already" in capsys.readouterr().err
    assert [(path.name, path.read_text()) for path in tmp_path.iterdir()] == [(name, "mine")]
    (tmp_path / name).unlink()
    (tmp_path / name).symlink_to("nowhere")
    assert init([str(tmp_path)]) == 75
    assert f"has {name} already" in capsys.readouterr().err


@BOTH
def test_the_options_of_the_programs_are_the_same_but_for_users_and_directories(
    options: list[str], tmp_path: Path
) -> None:
    assert init([str(tmp_path), *options]) == 0
    conf = read_conf(tmp_path)
    collector, exporter = dict(conf["fogmetrics:collector"]), dict(conf["fogmetrics:exporter"])
    assert collector.pop("user", "") == exporter.pop("user", "").removesuffix("-exporter")
    assert collector == exporter
    assert int(collector["startsecs"]) > 0
    assert "exitcodes" not in collector
