from __future__ import annotations

import errno
import os
import pwd
import socket
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import pytest

from exporter.http.address import AddressTaken
from fogmetrics.cli import run
from fogmetrics.cli.check import examine, notes
from fogmetrics.cli.check import main as preflight
from fogmetrics.cli.host import (
    InTheWay,
    check_port,
    check_rings,
    check_run_directory,
    check_supervisord,
    check_users,
)
from fogmetrics.cli.run import where_to_look
from fogmetrics.config import Config, parse
from shm.errors import ConfigurationError, FogmetricsError
from shm.files import building_path, lock_path, ring_path
from tests.daemon import ROOT
from tests.failing import raising
from tests.rings import become, in_fork
from tests.rings import namespace as namespace


def config(text: str) -> Config:
    return parse(text, Path("fogmetrics.toml"))


def test_a_check_says_that_it_succeeded_and_a_start_where_to_look(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    toml = tmp_path / "fogmetrics.toml"
    toml.write_text("[exporter]\nport = 0\n")
    assert preflight([str(tmp_path), "--config", str(toml)]) == 0
    assert capsys.readouterr().out.startswith(f"fogmetrics: SUCCESS: {toml} is valid; on: ")
    said = where_to_look(config("[exporter]\nport = 9333\n"), tmp_path)
    assert "http://localhost:9333/metrics " in said
    assert str(tmp_path / "run" / "log") in said


def test_preflight_refuses_what_any_of_the_processes_would(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    toml = tmp_path / "fogmetrics.toml"
    for text, said in (
        ('[shm]\nnamespace = "a.b"\n', "namespace is 'a.b'"),
        ('[shm]\ngroup = "no-such-group"\n', f"{toml}: [shm] group is 'no-such-group'"),
        ('[shm]\nowner = "no-such-user"\n', f"{toml}: [shm] owner is 'no-such-user'"),
        ('[source.deployment]\nproviders = ["k8s"]\n', "providers"),
        ('[source.queue]\nclass = "nothing:Here"\n', "class 'nothing:Here'"),
        ("[metric.node_cpu_usage]\nbuckets = [1]\n", "buckets are for histograms, and node_cpu_usage is a gauge"),
        ("[metric.collector_up]\n", "[metric.collector_up] is the daemon's own metric"),
        ('[exporter]\nlisten = "no such host"\n', "listen is 'no such host'"),
        ('[exporter]\nlisten = "192.0.2.1"\n', "listen is '192.0.2.1', which is not an address of this host"),
        ('[exporter]\nwindow = "abc"\n', "window is 'abc'; give a duration"),
    ):
        toml.write_text(text)
        assert preflight([str(tmp_path), "--config", str(toml)]) == 78
        err = capsys.readouterr().err
        assert err.count("\n") == 1
        assert said in err


def test_the_configuration_alone_can_be_checked(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    toml = tmp_path / "fogmetrics.toml"
    toml.write_text("[exporter]\nport = 9300\n")
    assert preflight([str(tmp_path), "--config-only", "--config", str(toml)]) == 0
    on, off = "on: node, deployment, betanet, system", "off: host, textfile, applications"
    assert capsys.readouterr() == (f"fogmetrics: SUCCESS: {toml} is valid; {on}; {off}\n", "")
    assert not (tmp_path / "run").exists()
    toml.write_text("[exporter]\nport = -1\n")
    assert preflight([str(tmp_path), "--config-only", "--config", str(toml)]) == 78


def test_the_class_of_a_source_that_is_off_may_be_gone(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    (tmp_path / "fogmetrics.toml").write_text('[source.gone]\nclass = "gone:Gone"\nenabled = false\n')
    assert preflight([str(tmp_path), "--config-only"]) == 0
    assert "off: host, textfile, applications, gone\n" in capsys.readouterr().out


def test_a_file_whose_name_is_not_utf_8_is_named_as_it_is(tmp_path: Path) -> None:
    path = os.fsencode(tmp_path) + b"/n\xe9.toml"
    Path(os.fsdecode(path)).touch()
    command = [sys.executable, "-m", "fogmetrics.cli.check", "/", "--config-only", "--config", os.fsdecode(path)]
    assert path + b" is valid; on: " in subprocess.check_output(command, cwd=ROOT, timeout=60)


def test_what_is_configured_and_does_nothing_is_noted(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    toml = tmp_path / "fogmetrics.toml"
    toml.write_text('[source.deployment]\nhaproxy_url = "http://h/"\nprometheus = []\n[source.node]\n')

    def noted() -> list[str]:
        assert preflight([str(tmp_path), "--config-only", "--config", str(toml)]) == 0
        return capsys.readouterr().err.splitlines()

    assert noted() == [
        f"fogmetrics: note: {toml}: [source.deployment] haproxy_url is set, but providers does not list haproxy, so it "
        "is not read; add it, or remove the key",
    ]
    toml.write_text(toml.read_text().replace("haproxy_url", 'providers = ["haproxy"]\nhaproxy_url'))
    assert noted() == []


@pytest.mark.parametrize(
    ("text", "said"),
    [
        (
            "[shm]\nsnapshot_seconds = 60\n",
            "[shm] snapshot_seconds has no effect without snapshot_dir; set it, or remove",
        ),
        (
            "[collector]\nmax_series = 100\nmax_series_per_metric = 150\n",
            "[collector] max_series_per_metric is 150, more than a source may have, whose max_series is 100;",
        ),
        (
            '[shm]\ncapacity = 100\n[exporter]\nwindow = "1h"\n',
            "[exporter] window is 1h, but no ring holds more than 25m; lower it, or raise [shm] capacity",
        ),
        (
            "[metric.node_cpu_usge]\nmax_series = 5\n",
            "[metric.node_cpu_usge] fits no metric of the built-in sources; did you mean 'node_cpu_usage'?",
        ),
        ('[source.node]\nnetwork_exclude = ["^lo$"]\n', "[source.node] network_exclude has '^lo$', which looks like a"),
        ("[shm]\nsnapshot_seconds = 60\nsnapshot_dir = '/var/lib/rings'\n", ""),
        ("[collector]\nmax_series = 100\n", ""),
        ("[metric.my_own]\nmax_series = 5\n", ""),
        ('[metric."node_*"]\nmax_series = 5\n', ""),
    ],
)
def test_each_value_without_effect_is_one_note(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], text: str, said: str
) -> None:
    toml = tmp_path / "f.toml"
    toml.write_text(text)
    assert preflight(["/", "--config-only", "--config", str(toml)]) == 0
    lines = capsys.readouterr().err.splitlines()
    assert len(lines) == bool(said)
    assert [one for one in lines if not one.startswith(f"fogmetrics: note: {toml}: {said}")] == []


def test_an_unwritable_directory_is_named(tmp_path: Path) -> None:
    (tmp_path / "run").write_text("a file where the directory should be")
    with pytest.raises(FogmetricsError, match=r"run.* can't be made"):
        check_run_directory(tmp_path)


@pytest.mark.skipif(os.geteuid() != 0, reason="needs root, to become a user without rights: run the tests as root")
def test_a_directory_that_this_user_may_not_write_to_is_named(tmp_path: Path) -> None:
    tmp_path.chmod(0o755)
    for parent in tmp_path.parents[:2]:
        parent.chmod(0o755)

    def as_another() -> None:
        become(65534, 65534)
        with pytest.raises(InTheWay, match=rf"{tmp_path / 'run'}.*Permission denied"):
            check_run_directory(tmp_path)

    in_fork(as_another)


def test_a_directory_whose_name_is_too_long_for_a_socket_is_named(tmp_path: Path) -> None:
    deep = tmp_path / ("d" * 100)
    deep.mkdir()
    with pytest.raises(FogmetricsError, match="use a directory with a shorter path"):
        check_run_directory(deep)


def test_a_port_that_is_taken_is_in_the_way_and_one_that_is_not_ours_to_have_a_configuration_to_mend(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    with socket.socket() as other:
        other.bind(("127.0.0.1", 0))
        other.listen()
        port = other.getsockname()[1]
        with pytest.raises(AddressTaken, match=f"port {port} of 127.0.0.1 is taken"):
            check_port(config(f"[exporter]\nport = {port}\n"))
    monkeypatch.setattr(socket.socket, "bind", raising(PermissionError(errno.EACCES, "Permission denied")))
    with pytest.raises(ConfigurationError, match="port is 80, which this user may not use"):
        check_port(config("[exporter]\nport = 80\n"))


PROGRAM = """
[program:own]
command = "%(here)s/../.venv/bin/python" -m collector node
startsecs = 1
"""


@pytest.fixture
def clone(tmp_path: Path) -> Callable[[str], Path]:
    """Makes a clone in a directory of that name, with what supervisord reads of it, and a program in conf.d."""

    def make(name: str) -> Path:
        directory = tmp_path / name
        (directory / "conf.d").mkdir(parents=True)
        (directory / "supervisord.conf").write_text((ROOT / "supervisord.conf").read_text())
        (directory / "conf.d" / "own.conf").write_text(PROGRAM)
        (directory / ".venv").symlink_to(sys.prefix)
        (directory / "run" / "log").mkdir(parents=True)
        (directory / "run" / "programs.conf").touch()
        return directory

    return make


@pytest.mark.parametrize(
    ("name", "said"),
    [
        ("a%2Fb", "supervisord can't read .*: Format string .* is badly formatted: .* without % in its path"),
        ("%(here)s", "supervisord can't read .*; use a directory without % in its path"),
        ("100%", "supervisord can't read .*; use a directory without % in its path"),
        ('a"b', r'has the command .*: No closing quotation; use a directory without " in its path'),
        ('a""b', r'starts .*, which is missing or can\'t be run; use a directory without " in its path'),
        ("a\\\\b", r"starts .*, which is missing or can't be run; use a directory without \\ in its path"),
        ("a[x]b", r"supervisord does not find .*/run/programs\.conf, which is there; use .* without \[ \] in its path"),
        (os.fsdecode(b"n\xe9"), r"/n\\xe9 is not UTF-8, .*; use a directory whose path is UTF-8"),
    ],
)
def test_a_directory_whose_name_supervisord_can_not_take_is_in_the_way(
    clone: Callable[[str], Path], name: str, said: str
) -> None:
    with pytest.raises(InTheWay, match=said):
        check_supervisord(clone(name))


def test_the_daemon_does_not_start_in_a_directory_that_supervisord_can_not_take(
    clone: Callable[[str], Path], namespace: str, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr(os, "execve", raising(AssertionError("started")))
    directory = clone("a%2Fb")
    (directory / "fogmetrics.toml").write_text(f'[shm]\nnamespace = "{namespace}"\n[exporter]\nport = 0\n')
    for command in (preflight, run.main):
        assert command([str(directory)]) == 75
        assert "without % in its path" in capsys.readouterr().err


@pytest.mark.parametrize(
    ("written", "instead", "said"),
    [
        ("-m collector node", '-m "collector node', r"^\[program:own\] of .*: No closing quotation; correct it, or"),
        ('"%(here)s/../.venv/bin/python" -m', "/no/python -m", r"^\[program:own\] of .* starts /no/python, which"),
        ('"%(here)s/../.venv/bin/python" -m', "/usr/bin -m", r"^\[program:own\] of .* starts /usr/bin, which is mis"),
        ("startsecs = 1", "startsecs = one", "supervisord can't read .*; correct it, or the file of conf.d"),
        ("startsecs = 1", "user = no-such-user", "supervisord can't read .*; correct it, or the file of conf.d"),
        ("[supervisord]", "[supervisor]", "supervisord can't read .* does not include supervisord section; correct it"),
        ("[program:own]", "own", "supervisord can't read .*; correct it, or the file of conf.d"),
    ],
)
def test_a_mistake_in_supervisord_conf_is_in_the_way(
    clone: Callable[[str], Path], written: str, instead: str, said: str
) -> None:
    directory = clone("clone")
    files = directory / "supervisord.conf", directory / "conf.d" / "own.conf"
    [file] = [one for one in files if written in one.read_text()]
    check_supervisord(directory)
    file.write_text(file.read_text().replace(written, instead, 1))
    with pytest.raises(InTheWay, match=said):
        check_supervisord(directory)


@pytest.mark.skipif(os.geteuid() != 0, reason="needs root, to become another user: run the tests as root")
def test_an_interpreter_that_the_user_of_a_program_cant_run_is_named(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "supervisord.conf").write_text("[fogmetrics:collector]\nuser = nobody\n[fogmetrics:exporter]\n")
    private = tmp_path / "private"
    private.mkdir(mode=0o700)
    (private / "python").symlink_to("/bin/true")
    monkeypatch.setattr("sys.executable", str(private / "python"))
    with pytest.raises(InTheWay, match=rf"user nobody can't run {private / 'python'}.*Permission denied"):
        check_users(tmp_path)
    private.chmod(0o755)
    for parent in [tmp_path, *tmp_path.parents][:-2]:  # all but / and the directory of temporary files
        parent.chmod(0o755)
    assert check_users(tmp_path) == pwd.getpwnam("nobody").pw_uid
    (tmp_path / "supervisord.conf").write_text("")
    assert check_users(tmp_path) is None


@pytest.mark.skipif(os.geteuid() != 0, reason="gives files to another user: run the tests as root")
def test_rings_of_another_user_are_in_the_way(namespace: str) -> None:
    ours = config(f'[shm]\nnamespace = "{namespace}"\n[source.queue]\nclass = "nothing:Here"\n')
    check_rings(ours)
    check_rings(ours, 4242)
    for path in (ring_path(namespace, "node"), lock_path(namespace, "queue"), building_path(namespace, "node")):
        path.touch()
        check_rings(ours)
        os.chown(path, 4242, -1)
        with pytest.raises(InTheWay, match=rf"{path} belongs to user 4242, and this is user root: its collector"):
            check_rings(ours)
        check_rings(ours, 4242)
        path.unlink()
    lock_path(namespace, "somebody").touch()
    os.chown(lock_path(namespace, "somebody"), 4242, -1)
    check_rings(ours)


def test_a_web_configuration_is_checked_before_the_start(tmp_path: Path) -> None:
    path, toml = tmp_path / "web.yml", tmp_path / "fogmetrics.toml"
    for name in (path, path.name):  # a relative one is below the daemon's directory, wherever the command runs
        toml.write_text(f'[exporter]\nweb_config = "{name}"\n')
        path.write_text("http_server_config:\n  http2: true\n")
        assert [one for one in notes(*examine(tmp_path, str(toml)), tmp_path) if "HTTP/2 is not served" in one]
        path.write_text("http_server_config:\n  http2: perhaps\n")
        with pytest.raises(ConfigurationError, match="http2 is 'perhaps'; give true or false"):
            examine(tmp_path, str(toml))


def test_the_place_to_look_is_one_that_a_browser_takes(tmp_path: Path) -> None:
    assert "  http://[::1]:9200/metrics " in where_to_look(config('[exporter]\nlisten = "::1"\n'), tmp_path)
    unix = where_to_look(config('[exporter]\nlisten = ["unix:/run/x", "::1"]\n'), tmp_path)
    assert "  --unix-socket /run/x http://localhost/metrics " in unix
    free = where_to_look(config("[exporter]\nport = 0\n"), tmp_path)
    assert "look at, with the PORT that run/log/exporter.log names\n  http://localhost:PORT/metrics " in free
