"""Docker and Podman: containers by label.

Most of it against a server of our own on a Unix socket, which speaks the documented API of the engine (Docker Engine
API v1.43, ContainerList); the last test asks a real engine, where one answers on this host.
"""

from __future__ import annotations

import contextlib
import json
import os
import shutil
import subprocess
import tempfile
from collections.abc import Iterator
from pathlib import Path
from typing import Any
from urllib.parse import parse_qs, urlsplit

import pytest

from collector.sources.deployment import DeploymentOptions
from collector.sources.deployment.docker import DockerProvider, parse_containers
from collector.sources.deployment.provider import MAX_DEPLOYMENTS, Deployment, ProviderError
from collector.sources.http_client import HttpClient
from collector.sources.target import Limits, NoReply, parse_address
from tests.collector import hostile
from tests.collector.served import served
from tests.collector.sources.deployment.test_providers import LIMITS
from tests.programs import running, wait_until

DEFAULT_URL, DEFAULT_LABEL = DeploymentOptions().docker_url, DeploymentOptions().docker_label
PODMAN_URL = "unix:///run/podman/podman.sock"


def container(state: str, labels: object) -> dict[str, Any]:
    return {"Id": "8dfafdbc3a40", "Names": ["/boring_feynman"], "State": state, "Labels": labels, "Mounts": []}


def of(service: str, state: str = "running") -> dict[str, Any]:
    return container(state, {DEFAULT_LABEL: service, "com.docker.compose.project": "shop"})


def test_replicas_are_the_running_containers_of_each_value_of_the_label() -> None:
    containers = [of("web"), of("db", "exited"), of("web"), of("web", "paused"), of("cache", "created"), of("cache")]
    with served(lambda _: hostile.http(json.dumps(containers).encode())) as server:
        assert DockerProvider(server.url, DEFAULT_LABEL, LIMITS).deployments() == [
            Deployment("web", 2.0),
            Deployment("db", 0.0),
            Deployment("cache", 1.0),
        ]
    assert server.targets == [
        "/containers/json?all=true&filters=%7B%22label%22%3A%5B%22com.docker.compose.service%22%5D%7D"
    ]


def test_the_label_can_be_another_one() -> None:
    label = 'my "own" & label'
    with served(
        lambda _: hostile.http(json.dumps([container("running", {label: "web"}), of("db")]).encode())
    ) as server:
        assert DockerProvider(server.url, label, LIMITS).deployments() == [Deployment("web", 1.0)]
    query = parse_qs(urlsplit(server.targets[0]).query)
    assert json.loads(query["filters"][0]) == {"label": [label]}


def test_containers_without_the_label_are_left_out_though_the_engine_named_them() -> None:
    listed = [container("running", labels) for labels in (None, {}, {"other": "x"}, {DEFAULT_LABEL: ""})]
    assert parse_containers(json.dumps([*listed, of("web")]).encode(), DEFAULT_LABEL) == [Deployment("web", 1.0)]


@pytest.mark.parametrize(
    ("answer", "reason"),
    [
        (b"[3]", "it has 3"),
        (b"[{}]", "lacks State"),
        (b'[{"State": 3}]', "lacks State"),
        (b'[{"State": "running", "Labels": []}]', "Labels, an object"),
        (b'[{"State": "running", "Labels": {"com.docker.compose.service": 3}}]', "is 3, not a string"),
        (b'[{"State": "running", "Labels": {"com.docker.compose.service": [[]]}}]', r"is \[\[\]\], not a string"),
    ],
)
def test_an_answer_that_is_no_list_of_containers_is_an_error(answer: bytes, reason: str) -> None:
    with pytest.raises(ValueError, match=reason):
        parse_containers(answer, DEFAULT_LABEL)


def test_more_deployments_than_any_host_has_are_refused() -> None:
    def listed(many: int) -> bytes:
        return json.dumps(
            [{"State": "running", "Labels": {DEFAULT_LABEL: f"d{number}"}} for number in range(many)]
        ).encode()

    assert len(parse_containers(listed(MAX_DEPLOYMENTS), DEFAULT_LABEL)) == MAX_DEPLOYMENTS
    with pytest.raises(ValueError, match="more than 10000 deployments"):
        parse_containers(listed(MAX_DEPLOYMENTS + 1), DEFAULT_LABEL)


@contextlib.contextmanager
def _real_engine(folder: Path) -> Iterator[tuple[str, list[str]] | None]:
    """The url of an engine and its own client: one that answers on this host, or Podman's, started here; else None."""
    for url, client in ((DEFAULT_URL, ["docker", "--host"]), (PODMAN_URL, ["podman", "--remote", "--url"])):
        address = parse_address(url, "test")
        with contextlib.suppress(NoReply):
            HttpClient(address, Limits(5.0, 1_000_000, "")).exchange(f"{address.url}/version").reply()
            yield url, [*client, url]
            return
    podman = shutil.which("podman")
    if podman is None:
        yield None
        return
    # It wants a short path, and none that is shared with others.
    with tempfile.TemporaryDirectory(prefix="podman-") as short:
        path = folder / "podman.sock"
        places = ["--root", f"{short}/root", "--runroot", f"{short}/run", "--storage-driver", "vfs"]
        command = [podman, *places, "system", "service", "--time=0", f"unix://{path}"]
        with running(command, folder / "podman.log") as program:
            # Where this user or this kernel does not let it run, it ends.
            wait_until(lambda: path.exists() or program.process.poll() is not None, 30, "the socket of Podman")
            yield (f"unix://{path}", [podman, "--remote", "--url", f"unix://{path}"]) if path.exists() else None


def test_a_real_engine_is_read_as_its_own_client_reads_it(tmp_path: Path) -> None:
    """Where there is none, that there is none is what the provider must say: there is no skip to hide behind.

    The image holds no program, so that no container runs; one that Docker or Podman can start needs a kernel that lets
    it, which those of continuous integration often do not.
    """
    label, image = "fogmetrics.test", f"fogmetrics-test:{os.getpid()}"
    with _real_engine(tmp_path) as engine_:
        if engine_ is None:
            with pytest.raises(ProviderError, match="no Docker or Podman at"):
                DockerProvider(DEFAULT_URL, label, LIMITS).deployments()
            return
        url, client = engine_

        def say(*arguments: str, stdin: bytes = b"") -> str:
            command = [*client, *arguments]
            return subprocess.run(command, input=stdin, check=True, capture_output=True, timeout=60).stdout.decode()

        (tmp_path / "empty").touch()
        say("import", "-", image, stdin=subprocess.run(
            ["tar", "-c", "-C", tmp_path, "empty"], check=True, capture_output=True
        ).stdout)  # fmt: skip
        made: list[str] = []
        try:
            for service in ("web", "web", "db"):
                made.append(say("create", "--label", f"{label}={service}", image, "/none").strip())
            found = DockerProvider(url, label, LIMITS).deployments()
            assert {one.deployment_id: one.replicas for one in found} == {
                service: len(say("ps", "-q", "--filter", f"label={label}={service}").split())
                for service in ("web", "db")
            }
        finally:
            for one in made:
                say("rm", one)
            say("rmi", image)
