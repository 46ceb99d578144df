"""``python -m exporter`` as a process: what it serves, and how it ends."""

from __future__ import annotations

import contextlib
import email.utils
import os
import re
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path

import httpx
import pytest

from collector.frame.collector import MetricCollector
from shm.files import ring_path
from shm.metric import Metric
from tests import http_client
from tests.exporter.scene import samples_of
from tests.exporter.wire import has_ipv6
from tests.programs import Program, free_port, running, wait_until
from tests.rings import ROOT

EXPORTER = (sys.executable, "-m", "exporter")


def environ(namespace: str, **more: str) -> dict[str, str]:
    return {"FOGMETRICS_NAMESPACE": namespace, "FOGMETRICS_CONFIG": "", "PYTHONPATH": str(ROOT), **more}


@contextlib.contextmanager
def exporter(
    namespace: str, directory: Path, keys: str = "", *command: str, **more: str
) -> Iterator[tuple[Program, int]]:
    """A running exporter on a free port, and that port."""
    (directory / "fogmetrics.toml").write_text(f"[exporter]\nport = 0\n{keys}")
    with running([*(command or EXPORTER)], directory / "log", env=environ(namespace, **more), cwd=directory) as program:
        program.wait_until(lambda: "event=serving" in program.log(), 30, "the exporter to serve")
        found = re.search(r"url=https?://127\.0\.0\.1:([0-9]+)", program.log())
        assert found is not None, program.log()
        yield program, int(found[1])


def once(namespace: str, directory: Path, text: str) -> subprocess.CompletedProcess[str]:
    """An exporter that is expected to end by itself."""
    (directory / "fogmetrics.toml").write_text(text)
    return subprocess.run(
        EXPORTER, env={**os.environ, **environ(namespace)}, cwd=directory, capture_output=True, text=True, timeout=60
    )


def get(port: int, path: str, method: str = "GET") -> httpx.Response:
    return http_client.request(method, f"http://127.0.0.1:{port}{path}", timeout=20)


def test_the_date_is_that_of_the_answer_also_after_a_while_without_a_request(namespace: str, tmp_path: Path) -> None:
    with exporter(namespace, tmp_path) as (_, port):
        for pause_seconds in (0, 2.5):
            time.sleep(pause_seconds)
            before = int(time.time())
            date = email.utils.parsedate_to_datetime(get(port, "/").headers["date"]).timestamp()
            assert before <= date <= time.time()


@pytest.mark.parametrize(("keys", "added"), [("", 5), ("nice = 0\n", 0), ("nice = 3\n", 3)])
def test_collectors_come_first(namespace: str, tmp_path: Path, keys: str, added: int) -> None:
    with exporter(namespace, tmp_path, keys) as (program, _):
        own = os.getpriority(os.PRIO_PROCESS, 0)
        assert os.getpriority(os.PRIO_PROCESS, program.pid) == min(own + added, 19)


def test_it_serves_the_rings_of_its_namespace_and_ends_well_by_sigterm(namespace: str, tmp_path: Path) -> None:
    with MetricCollector("s", namespace=namespace, capacity=64) as collector:
        collector.register(Metric("x", "gauge", "X."))
        collector.record_metric("x", 42.0)
        collector.commit()
        with exporter(namespace, tmp_path) as (program, port):
            answer = get(port, "/metrics")
            assert samples_of(answer.text)["x", ()] == 42.0
            assert "server" not in answer.headers
            assert get(port, "/health").status_code == 200
            assert 'x{stat="avg"} 42.0' in get(port, "/metrics/aggregated").text
            head = get(port, "/metrics", "HEAD")
            assert (head.status_code, head.content) == (200, b"")
            assert int(head.headers["content-length"]) > 100
            assert get(port, "/nothing").status_code == 404
            assert get(port, "/metrics", "POST").status_code == 405
            program.process.send_signal(signal.SIGTERM)
            assert program.process.wait(30) == 0
            assert program.log().splitlines()[-1].endswith("event=stopped")
            assert "Traceback" not in program.log()


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
def test_a_connection_left_open_does_not_keep_it(namespace: str, tmp_path: Path, number: signal.Signals) -> None:
    with exporter(namespace, tmp_path) as (program, port), http_client.client() as client:
        client.get(f"http://127.0.0.1:{port}/metrics")
        with socket.create_connection(("127.0.0.1", port)) as half:
            half.sendall(b"GET /metrics HTTP/1.1\r\n")
            program.process.send_signal(number)
            assert program.process.wait(30) == 0
            assert program.log().splitlines()[-1].endswith("event=stopped")


def test_a_port_that_is_taken_is_said_with_a_status_to_try_again(namespace: str, tmp_path: Path) -> None:
    with socket.socket() as other:
        other.bind(("127.0.0.1", 0))
        other.listen()
        port = other.getsockname()[1]
        done = once(namespace, tmp_path, f"[exporter]\nport = {port}\n")
    assert done.returncode == 75
    assert f"exporter: port {port} of 127.0.0.1 is taken" in done.stderr
    assert f"fogmetrics.toml: [exporter] port = {port + 1}" in done.stderr
    assert "Traceback" not in done.stderr


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ("[exporter]\nprot = 1\n", "did you mean 'port'?"),
        ('[exporter]\nport = 0\nwindow = "soon"\n', "[exporter] window is 'soon'; give a duration, such as"),
        ('[exporter]\nport = 0\nlisten = "no such host"\n', "[exporter] listen is 'no such host'"),
        ('[exporter]\nport = 0\nlisten = ["127.0.0.1", "192.0.2.1:80"]\n', "[exporter] listen is '192.0.2.1:80'"),
        ("[exporter]\nlisten = 9200\n", "[exporter] listen is 9200; give a string"),
        ("[exporter]\nlisten = [9200]\n", "[exporter] listen is 9200; give a string"),
        ('[exporter]\nport = 0\nlisten = "192.0.2.1"\n', "[exporter] listen is '192.0.2.1'"),
        ('[shm]\nowner = "nobody-has-this-name"\n[exporter]\nport = 0\n', "which is not a user of this host"),
        ("[exporter\n", "is not TOML"),
        ('[shm]\nowner = "²"\n[exporter]\nport = 0\n', "fogmetrics.toml: [shm] owner is '²'"),
    ],
)
def test_a_configuration_to_be_mended_is_said_with_a_status_that_nobody_retries(
    namespace: str, tmp_path: Path, text: str, said: str
) -> None:
    done = once(namespace, tmp_path, text)
    assert done.returncode == 78
    assert said in done.stderr
    assert "Traceback" not in done.stderr


def test_a_namespace_that_can_not_be_part_of_a_file_name_is_refused(tmp_path: Path) -> None:
    done = once("a.b", tmp_path, "[exporter]\nport = 0\n")
    assert (done.returncode, done.stderr.count("\n")) == (78, 1)
    assert "$FOGMETRICS_NAMESPACE is 'a.b'; use 1 to 64 letters" in done.stderr


def test_a_segment_that_is_gone_is_not_kept_though_nobody_asks(namespace: str, tmp_path: Path) -> None:
    quick = "import sys, exporter.__main__ as it, exporter.app as app; app._CLOSE_SECONDS = 0.1; sys.exit(it.main())"
    with MetricCollector("s", namespace=namespace, capacity=64) as collector:
        collector.register(Metric("x", "gauge", "X."))
        collector.record_metric("x", 42.0)
        collector.commit()
        with exporter(namespace, tmp_path, "", sys.executable, "-c", quick) as (program, port):
            for page in ("/metrics", "/metrics/aggregated"):
                assert get(port, page).status_code == 200
            assert _opened(program, namespace) == 4  # of each of two sets the ring and its map
            ring_path(namespace, "s").unlink()
            program.wait_until(lambda: _opened(program, namespace) == 0, 20, "it to let go")
            assert get(port, "/metrics/aggregated").status_code == 200


def _opened(program: Program, namespace: str) -> int:
    """How many descriptors of the ring the program holds: the memory of a removed file is free at the last one."""
    links = Path(f"/proc/{program.pid}/fd").iterdir()
    return sum(f"fogmetrics.{namespace}.s.ring" in str(link.readlink()) for link in links if link.is_symlink())


@pytest.mark.skipif(not has_ipv6(), reason="this host has no IPv6")
def test_it_serves_on_all_listeners(namespace: str, tmp_path: Path) -> None:
    path, other = tmp_path / "x.sock", free_port()
    keys = f'listen = ["127.0.0.1", "[::1]", "127.0.0.1:{other}", "unix:{path}"]\n'
    with exporter(namespace, tmp_path, keys) as (program, port):
        assert f"event=serving url=unix:{path} " in program.log()
        ipv6 = re.search(r"url=(http://\[::1\]:[0-9]+) ", program.log())
        assert ipv6 is not None
        for url in (f"http://127.0.0.1:{port}", f"http://127.0.0.1:{other}", ipv6[1]):
            assert http_client.get(f"{url}/metrics").status_code == 200
        with httpx.Client(transport=httpx.HTTPTransport(uds=str(path)), timeout=20) as client:
            for _ in range(3):
                assert client.get("http://localhost/metrics").status_code == 200
            program.process.send_signal(signal.SIGTERM)
            assert program.process.wait(30) == 0
        assert not path.exists()
        assert "Traceback" not in program.log()


def test_a_killed_exporter_leaves_a_socket_that_the_next_one_replaces(namespace: str, tmp_path: Path) -> None:
    path = tmp_path / "x.sock"
    keys = f'listen = ["127.0.0.1", "unix:{path}"]\n'
    with exporter(namespace, tmp_path, keys) as (program, _):
        program.process.kill()
        program.process.wait()
        assert path.exists()
    with exporter(namespace, tmp_path, keys), httpx.Client(transport=httpx.HTTPTransport(uds=str(path))) as client:
        assert client.get("http://localhost/metrics", timeout=20).status_code == 200
        assert path.stat().st_mode & 0o777 == 0o660


STARTER = """
import subprocess, sys, time
child = subprocess.Popen([sys.executable, "-m", "exporter"], stdout=subprocess.DEVNULL)
print(f"pid={child.pid}.", flush=True)
time.sleep(60)
"""


@pytest.mark.parametrize("supervised", ["1", ""])
def test_it_ends_with_its_supervisord_and_serves_on_as_the_orphan_of_another(
    namespace: str, tmp_path: Path, supervised: str
) -> None:
    started = exporter(namespace, tmp_path, "", sys.executable, "-c", STARTER, SUPERVISOR_ENABLED=supervised)
    with started as (program, port):
        program.wait_until(lambda: "pid=" in program.log(), 30, "the pid")
        pid = int(program.log().partition("pid=")[2].partition(".")[0])
        try:
            assert get(port, "/metrics").status_code == 200
            program.process.kill()
            program.process.wait()
            if not supervised:
                time.sleep(1.5)  # longer than it takes to look for its parent
                assert get(port, "/metrics").status_code == 200
                os.kill(pid, signal.SIGTERM)
            wait_until(lambda: "event=stopped" in program.log(), 30, "the exporter to end")
            assert ("supervisord is gone" in program.log()) is bool(supervised)
        finally:
            with contextlib.suppress(ProcessLookupError):
                os.kill(pid, signal.SIGKILL)


def test_a_limit_on_open_files_bounds_the_connections_and_is_told(namespace: str, tmp_path: Path) -> None:
    few = "import resource, sys, exporter.__main__ as it; resource.setrlimit(resource.RLIMIT_NOFILE, (256, 256)); "
    command = (sys.executable, "-c", few + "sys.exit(it.main())")
    with exporter(namespace, tmp_path, "", *command) as (program, port), contextlib.ExitStack() as stack:
        assert "fewer connections than configured; raise the limit on open files" in program.log()
        for _ in range(400):
            stack.enter_context(socket.create_connection(("127.0.0.1", port)))
        wait_until(lambda: get(port, "/metrics").status_code == 200, 10, "an answer")
