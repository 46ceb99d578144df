"""A configuration that is taken over while the exporter serves."""

from __future__ import annotations

import asyncio
import contextlib
import dataclasses
import re
import signal
import sys
from collections.abc import Iterator
from pathlib import Path

import httpx
import pytest

from collector.frame.collector import MetricCollector
from collector.metrics import UP
from exporter.app import Exporter
from exporter.reload import Read, Reload
from shm.metric import Metric
from tests import http_client
from tests.exporter.certificates import Authority
from tests.exporter.scene import TEMPERATURE, Scene, get, samples_of
from tests.exporter.test_main import exporter
from tests.programs import Program

NOTHING = (
    "the configuration was reread\n"
    "nothing that concerns the exporter has changed; fogmetrics reload takes over the rest\n"
)
OFF = "reloading over HTTP is off; [exporter] web_enable_lifecycle = true turns it on\n"


def reloadable(scene: Scene, **keys: object) -> tuple[Exporter, list[Read]]:
    """An exporter, and the configurations that it is to read, from the last on."""
    one = scene.exporter(web_enable_lifecycle=True, **keys)
    to_read: list[Read] = []
    one.reload = Reload(one, scene.config(web_enable_lifecycle=True, **keys), to_read.pop)
    return one, to_read


def take_over(
    scene: Scene, exporter: Exporter, to_read: list[Read], *, off: tuple[str, ...] = (), **keys: object
) -> str:
    to_read.append(Read(scene.config(web_enable_lifecycle=True, **keys), (), off))
    answer = get(exporter, "/-/reload", "POST")
    assert answer.status_code == 200, answer.text
    return answer.text


def test_reloading_over_http_is_off_unless_a_key_turns_it_on(scene: Scene) -> None:
    exporter, to_read = reloadable(scene)
    take_over(scene, exporter, to_read)
    to_read.append(Read(scene.config(), (), ()))
    assert get(exporter, "/-/reload", "POST").text.endswith("[exporter] web_enable_lifecycle: taken over\n")
    answer = get(exporter, "/-/reload", "POST")
    assert (answer.status_code, answer.text) == (403, OFF)


@pytest.mark.parametrize("method", ["GET", "HEAD", "DELETE"])
def test_other_methods_than_post_and_put_are_refused_wherever_it_is_on(scene: Scene, method: str) -> None:
    for on in (False, True):
        answer = get(scene.exporter(web_enable_lifecycle=on), "/-/reload", method)
        assert (answer.status_code, answer.headers["allow"]) == (405, "POST, PUT")


def test_what_the_exporter_goes_by_changes_at_once_and_is_named(scene: Scene) -> None:
    scene.commit("s", ("packets", 7.0))
    exporter, to_read = reloadable(scene)
    assert re.search("^packets_total 7.0 [0-9]+$", get(exporter, "/metrics").text, re.MULTILINE)
    said = take_over(
        scene, exporter, to_read, timestamps="none", window=60.0, max_window=120.0, allowed_hosts=("fog.example",),
        stale_intervals=1.0, gzip_min_bytes=10**9, cache_bytes=1 << 21, max_jobs=2,
    )  # fmt: skip
    assert said == "the configuration was reread\n" + "".join(
        f"[exporter] {key}: taken over\n"
        for key in (
            "window", "max_window", "stale_intervals", "allowed_hosts", "timestamps", "gzip_min_bytes", "cache_bytes",
            "max_jobs",
        )
    )  # fmt: skip
    assert "\npackets_total 7.0\n" in get(exporter, "/metrics").text
    assert "exporter_window_seconds 60.0\n" in get(exporter, "/metrics/aggregated").text
    assert "longer than 2m" in get(exporter, "/metrics/aggregated?window=5m").text
    assert get(exporter, "/", host="fog.example").status_code == 200
    assert "content-encoding" not in get(exporter, "/metrics", **{"accept-encoding": "gzip"}).headers
    scene.advance(20)
    assert get(exporter, "/health").status_code == 503, "stale after one interval, not three"
    assert take_over(scene, exporter, to_read, allowed_hosts=()).count("taken over") == 8
    assert get(exporter, "/", host="fog.example").status_code == 421
    assert take_over(scene, exporter, to_read) == NOTHING


def test_nothing_is_lost_that_stays_right(scene: Scene) -> None:
    scene.commit("s", ("packets", 7.0))
    exporter, to_read = reloadable(scene)
    for page in ("/metrics", "/metrics/aggregated"):
        get(exporter, page)
    kept = [id(found) for _, found, _ in exporter._kept._kept.values()]
    take_over(scene, exporter, to_read, max_jobs=3)
    for page in ("/metrics", "/metrics/aggregated"):
        get(exporter, page)
    assert [id(found) for _, found, _ in exporter._kept._kept.values()] == kept
    scene.advance(2)
    counted = samples_of(get(exporter, "/metrics").text)
    assert counted["exporter_requests_total", (("page", "metrics"), ("status", "200"))] == 2.0


def test_a_source_that_is_off_now_leaves_the_pages_and_comes_back(scene: Scene) -> None:
    scene.commit("s", ("packets", 7.0))
    scene.collector("t", TEMPERATURE, UP)
    scene.commit("t", ("temperature", 1.0, {"room": "t"}), (UP.name, 1.0, {"source": "t"}))
    exporter, to_read = reloadable(scene)
    for off, said in (
        ((), NOTHING),
        (("t",), "the configuration was reread\n[source.t] enabled: taken over\n"),
        ((), "the configuration was reread\n[source.t] enabled: taken over\n"),
    ):
        assert take_over(scene, exporter, to_read, off=off) == said
        assert ("temperature{" in get(exporter, "/metrics").text) is not bool(off)
        assert ("t" in get(exporter, "/health").json()["sources"]) is not bool(off)
        aggregated = get(exporter, "/metrics/aggregated?source[]=t&stat=max").text
        assert "temperature{" in aggregated, "which is history"
        assert ("collector_up{" in aggregated) is not bool(off)


def test_what_only_a_restart_takes_over_is_named_each_time_and_the_rest_is_taken_over(scene: Scene) -> None:
    exporter, to_read = reloadable(scene)
    config = scene.config(web_enable_lifecycle=True, port=1, timestamps="all")
    config = dataclasses.replace(config, shm=dataclasses.replace(config.shm, owner="0"))
    lines = [
        f"{key}: changed, which a restart of the exporter takes over\n" for key in ("[shm] owner", "[exporter] port")
    ]
    for taken in ("[exporter] timestamps: taken over\n", ""):
        to_read.append(Read(config, (), ()))
        assert get(exporter, "/-/reload", "PUT").text == f"the configuration was reread\n{taken}{''.join(lines)}"


def test_reloads_that_come_together_are_done_one_after_the_other(scene: Scene) -> None:
    exporter, to_read = reloadable(scene)
    to_read += [Read(scene.config(max_jobs=number), (), ()) for number in (3, 2)]

    async def both() -> tuple[list[str], list[str]]:
        assert exporter.reload is not None
        return await asyncio.gather(exporter.reload(), exporter.reload())

    assert [len(lines) for lines in asyncio.run(both())] == [2, 1]
    assert exporter._config.max_jobs == 3


# ---- the process -------------------------------------------------------------------------------------------------

KEYS = "web_enable_lifecycle = true\n"


@contextlib.contextmanager
def serving(namespace: str, directory: Path, keys: str = KEYS) -> Iterator[tuple[Program, httpx.Client]]:
    """A running exporter and one connection to it, which no reload drops."""
    with exporter(namespace, directory, keys) as (program, port), http_client.client() as client:
        client.base_url = f"http://127.0.0.1:{port}"
        yield program, client


def write(directory: Path, keys: str) -> None:
    (directory / "fogmetrics.toml").write_text(f"[exporter]\nport = 0\n{keys}")


def test_a_bad_file_changes_nothing_and_the_answer_has_all_its_mistakes(namespace: str, tmp_path: Path) -> None:
    with serving(namespace, tmp_path) as (program, client):
        bad = (
            'window = "9d"\ntimestamp = "all"\nweb_config = "none.yml"\n[source.nod]\n[shm]\nowner = "nobody-has-it"\n'
        )
        write(tmp_path, KEYS + bad)
        answer = client.post("/-/reload")
        assert answer.status_code == 500
        first, *lines = answer.text.splitlines()
        assert first == "the configuration is wrong, and nothing was changed:"
        for said in (
            "[exporter] window is 9d, longer than max_window", "did you mean 'timestamps'?", "none.yml can't be read",
            "[source.nod]", "[shm] owner is 'nobody-has-it'",
        ):  # fmt: skip
            assert any(said in line for line in lines), (said, lines)
        assert "exporter_window_seconds" not in client.get("/metrics/aggregated?window=8d").text
        assert program.log().count("the last good one stays") == 1
        write(tmp_path, KEYS)
        assert client.post("/-/reload").text == NOTHING


def test_sighup_and_post_take_over_without_dropping_a_connection(namespace: str, tmp_path: Path) -> None:
    with MetricCollector("s", namespace=namespace, capacity=64) as collector:
        collector.register(Metric("x_total", "counter", "X."))
        collector.record_metric("x_total", 42.0)
        collector.commit()
        with serving(namespace, tmp_path) as (program, client):
            assert re.search(r"^x_total 42.0 [0-9]+$", client.get("/metrics").text, re.MULTILINE)
            write(tmp_path, f'{KEYS}timestamps = "none"\nmax_request_bytes = 2048\n')
            program.process.send_signal(signal.SIGHUP)
            program.wait_until(lambda: "configuration reread" in program.log(), 20, "the configuration")
            assert "\nx_total 42.0\n" in client.get("/metrics").text
            write(tmp_path, f'{KEYS}web_config = "web.yml"\nrequest_seconds = 9\n[log]\nformat = "json"\n')
            (tmp_path / "web.yml").write_text(
                "basic_auth_users:\n  me: $2b$04$E5z8XcTiP09QKaWgYTz4A.n7z0pjbwOjIX.r55cDtRnqW6HaJBHmC\n"
            )
            said = client.post("/-/reload").text
            assert "[exporter] web_config: taken over\n" in said
            assert "[exporter] timestamps: taken over\n" in said
            assert "[log]: taken over\n" in said
            for method, path in (("POST", "/-/reload"), ("GET", "/metrics"), ("GET", "/-/reload")):
                assert client.request(method, path).status_code == 401, "a password is needed for every page"
            assert '"event": "configuration reread"' in program.log()
            write(tmp_path, KEYS)
            program.process.send_signal(signal.SIGHUP)
            program.wait_until(lambda: program.log().count("configuration reread") == 3, 20, "the configuration")
            assert client.get("/metrics").status_code == 200


def test_turning_tls_on_waits_for_a_restart_and_is_named(namespace: str, tmp_path: Path) -> None:
    Authority(tmp_path).certificate("server")
    (tmp_path / "web.yml").write_text("tls_server_config:\n  cert_file: server.pem\n  key_file: server.key\n")
    with serving(namespace, tmp_path) as (_, client):
        write(tmp_path, f'{KEYS}web_config = "web.yml"\nmax_jobs = 2\n')
        for _ in range(2):
            said = client.post("/-/reload").text
            assert "[exporter] web_config: changed, which a restart of the exporter takes over\n" in said
            assert client.get("/metrics").status_code == 200


def test_a_signal_that_comes_before_it_serves_is_not_lost(namespace: str, tmp_path: Path) -> None:
    early = (
        "import os, signal, sys, exporter.__main__ as it\n"
        "load = it.configuration.load\n"
        "def loaded(path):\n"
        "    found = load(path)\n"
        "    os.kill(os.getpid(), signal.SIGHUP)\n"
        "    return found\n"
        "it.configuration.load = loaded\n"
        "sys.exit(it.main())"
    )
    with exporter(namespace, tmp_path, KEYS, sys.executable, "-c", early) as (program, _):
        program.wait_until(lambda: "configuration reread" in program.log(), 20, "the configuration")
