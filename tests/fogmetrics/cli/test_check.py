from __future__ import annotations

import errno
import os
import socket
from pathlib import Path

import pytest

from collector.source import MetricSource, Sample
from exporter.http.address import AddressTaken
from fogmetrics.cli.check import (
    InTheWay,
    check_configuration,
    check_port,
    check_rings,
    check_run_directory,
    notes,
    where_to_look,
)
from fogmetrics.cli.check import main as preflight
from fogmetrics.config import Config, parse
from shm.errors import ConfigurationError, FogmetricsError
from shm.files import lock_path, ring_path
from tests.daemon import ROOT
from tests.failing import raising
from tests.rings import become, in_fork


class Ownqueue(MetricSource):
    name = "queue"
    metrics = ()

    def collect(self) -> list[Sample]:
        return []


class Ownqueues(Ownqueue):
    name = "queues"


def config(text: str) -> Config:
    return parse(text, Path("fogmetrics.toml"))


def test_preflight_says_where_to_look(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    toml = tmp_path / "fogmetrics.toml"
    toml.write_text("[exporter]\nport = 0\n")
    assert preflight([str(tmp_path), "--config", str(toml)]) == 0
    said = capsys.readouterr().out
    assert "/metrics/aggregated" in said
    assert str(tmp_path / "run" / "log") in said
    assert "http://localhost:9333/metrics " in where_to_look(config("[exporter]\nport = 9333\n"), tmp_path)


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
    assert capsys.readouterr() == ("", "")
    assert not (tmp_path / "run").exists()
    toml.write_text("[exporter]\nport = -1\n")
    assert preflight([str(tmp_path), "--config-only", "--config", str(toml)]) == 78


def test_what_is_configured_and_does_nothing_is_noted(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    (tmp_path / "conf.d").mkdir()
    for name in ("supervisord.conf", "conf.d/own-source.conf"):
        (tmp_path / name).write_text((ROOT / name).read_text())
    toml = tmp_path / "fogmetrics.toml"
    own = "".join(f'[source.{name}]\nclass = "{__name__}:Own{name}"\n' for name in ("queue", "queues"))
    toml.write_text(f'{own}[source.deployment]\nhaproxy_url = "http://h/"\nprometheus = []\n[source.node]\n')
    (tmp_path / "conf.d" / "own.conf").write_text('[program:x]\ncommand = "python" -m collector queues\n')

    def noted() -> list[str]:
        assert preflight([str(tmp_path), "--config-only", "--config", str(toml)]) == 0
        return capsys.readouterr().err.splitlines()

    assert noted() == [
        f"fogmetrics: note: {toml}: [source.deployment] haproxy_url is set, but providers does not list haproxy, so it "
        "is not read; add it, or remove the key",
        f"fogmetrics: note: {toml}: [source.queue] has no program in {tmp_path / 'supervisord.conf'} or conf.d, so it "
        "is not collected; docs/configuration.md says how one is made",
    ]
    toml.write_text(toml.read_text().replace("haproxy_url", 'providers = ["haproxy"]\nhaproxy_url'))
    (tmp_path / "supervisord.conf").unlink()
    assert noted() == []


def test_a_regular_expression_where_a_glob_is_meant_is_noted(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    toml = tmp_path / "fogmetrics.toml"
    toml.write_text('[source.node]\nnetwork_exclude = ["^lo$"]\n[source.host]\ndisk_exclude = ["sd[a-z]+$"]\n')
    assert preflight([str(tmp_path), "--config-only", "--config", str(toml)]) == 0
    node, host = capsys.readouterr().err.splitlines()
    assert node.startswith(f"fogmetrics: note: {toml}: [source.node] network_exclude has '^lo$', which reads like")
    assert host.startswith(f"fogmetrics: note: {toml}: [source.host] disk_exclude has 'sd[a-z]+$', which reads like")


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
    with pytest.raises(FogmetricsError, match="clone to a directory with a shorter path"):
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


@pytest.mark.skipif(os.geteuid() != 0, reason="gives files to another user: run the tests as root")
def test_rings_of_another_user_are_in_the_way(namespace: str) -> None:
    ours = config(f'[shm]\nnamespace = "{namespace}"\n[source.queue]\nclass = "nothing:Here"\n')
    check_rings(ours)
    for path in (ring_path(namespace, "node"), lock_path(namespace, "queue")):
        path.touch()
        check_rings(ours)
        os.chown(path, 4242, -1)
        with pytest.raises(InTheWay, match=rf"{path} belongs to user 4242, and this is user root: its collector"):
            check_rings(ours)
        path.unlink()
    lock_path(namespace, "somebody").touch()
    os.chown(lock_path(namespace, "somebody"), 4242, -1)
    check_rings(ours)


def test_a_web_configuration_is_checked_before_the_start(tmp_path: Path) -> None:
    path = tmp_path / "web.yml"
    checked = config(f'[exporter]\nweb_config = "{path}"\n')
    path.write_text("http_server_config:\n  http2: true\n")
    assert [one for one in notes(checked, check_configuration(checked), tmp_path) if "HTTP/2 is not served" in one]
    path.write_text("http_server_config:\n  http2: perhaps\n")
    with pytest.raises(ConfigurationError, match="http2 is 'perhaps'; give true or false"):
        check_configuration(checked)


def test_the_place_to_look_is_one_that_a_browser_takes(tmp_path: Path) -> None:
    assert "  http://[::1]:9200/metrics " in where_to_look(config('[exporter]\nlisten = "::1"\n'), tmp_path)
    unix = where_to_look(config('[exporter]\nlisten = ["unix:/run/x", "::1"]\n'), tmp_path)
    assert "  --unix-socket /run/x http://localhost/metrics " in unix
    free = where_to_look(config("[exporter]\nport = 0\n"), tmp_path)
    assert "look at, with the PORT that run/log/exporter.log names\n  http://localhost:PORT/metrics " in free
