"""The real supervisord, open and with a login, asked through each of its doors."""

from __future__ import annotations

import getpass
import xmlrpc.client
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path

import pytest

from collector.sources.deployment.provider import ProviderError
from collector.sources.deployment.supervisord import SupervisordProvider
from tests.collector.sources.deployment.test_providers import LIMITS
from tests.programs import find_program, free_port, running, wait_until

CONF = """
[unix_http_server]
file = {folder}/s.sock
{login}
[inet_http_server]
port = 127.0.0.1:{port}
{login}
[supervisord]
nodaemon = true
user = {user}
logfile = {folder}/supervisord.log
pidfile = {folder}/supervisord.pid
childlogdir = {folder}
[rpcinterface:supervisor]
supervisor.rpcinterface_factory = supervisor.rpcinterface:make_main_rpcinterface
[program:web]
command = sleep 600
numprocs = 2
process_name = %(program_name)s_%(process_num)d
startsecs = 0
[program:idle]
command = sleep 600
autostart = false
[program:asks]
command = sh -c 'printf %%s "$SUPERVISOR_SERVER_URL" > {folder}/url.new && mv {folder}/url.new {folder}/url'
startsecs = 0
autorestart = false
"""
EXPECTED = {"web": 2.0, "idle": 0.0, "asks": 0.0}


def provider(url: str = "", environ: Mapping[str, str] | None = None) -> SupervisordProvider:
    return SupervisordProvider(url, LIMITS, environ or {})


def replicas(asked: SupervisordProvider) -> dict[str, float | None]:
    return {one.deployment_id: one.replicas for one in asked.deployments()}


@dataclass(frozen=True)
class Real:
    """A supervisord; ``user`` and ``environ`` are how it wants to be asked, in a url and in the environment."""

    folder: Path
    port: int
    user: str
    environ: Mapping[str, str]

    @property
    def socket_url(self) -> str:
        return f"unix://{self.folder}/s.sock"

    @property
    def tcp_url(self) -> str:
        return f"http://{self.user}127.0.0.1:{self.port}"


OPEN: tuple[str, str, Mapping[str, str]] = "", "", {}
LOGIN = (
    "username = joe\npassword = s3:cret",
    "joe:s3%3Acret@",
    {"SUPERVISOR_USERNAME": "joe", "SUPERVISOR_PASSWORD": "s3:cret"},
)


@pytest.fixture(scope="module", params=[OPEN, LOGIN], ids=["open", "login"])
def real(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Real]:
    """Yielded when its programs have settled."""
    login, user, environ = request.param
    real = Real(tmp_path_factory.mktemp("real"), free_port(), user, environ)
    conf = real.folder / "supervisord.conf"
    conf.write_text(CONF.format(folder=real.folder, port=real.port, login=login, user=getpass.getuser()))
    with running([find_program("supervisord"), "-c", conf], real.folder / "out.log") as program:
        asked = provider(real.socket_url, environ)

        def settled() -> bool:
            try:
                return (real.folder / "url").exists() and replicas(asked) == EXPECTED
            except ProviderError:
                return False

        program.wait_until(settled, 30, "supervisord's programs")
        yield real


def test_a_group_of_the_real_supervisord_has_its_running_processes_as_replicas(real: Real) -> None:
    assert replicas(provider(real.socket_url, real.environ)) == EXPECTED
    assert replicas(provider(real.tcp_url)) == EXPECTED


def test_the_url_that_supervisord_hands_its_programs_leads_back_to_it(real: Real) -> None:
    handed = (real.folder / "url").read_text()
    assert replicas(provider(environ={"SUPERVISOR_SERVER_URL": handed, **real.environ})) == EXPECTED


@pytest.mark.parametrize("real", [OPEN], ids=["open"], indirect=True)
def test_a_process_that_stops_is_no_replica_any_more(real: Real) -> None:
    asked = provider(real.socket_url)
    with xmlrpc.client.ServerProxy(f"{real.tcp_url}/RPC2") as client:
        client.supervisor.stopProcess("web:web_0")
        assert replicas(asked) == {**EXPECTED, "web": 1.0}
        client.supervisor.startProcess("web:web_0")
        wait_until(lambda: replicas(asked) == EXPECTED, 30, "both processes of web")


@pytest.mark.parametrize("real", [LOGIN], ids=["login"], indirect=True)
def test_a_login_that_is_refused_is_an_error_that_keeps_the_password(real: Real) -> None:
    with pytest.raises(ProviderError, match=rf"http://127\.0\.0\.1:{real.port}: it answered HTTP 401") as caught:
        provider(f"http://joe:wr0ng@127.0.0.1:{real.port}").deployments()
    assert "wr0ng" not in str(caught.value)
