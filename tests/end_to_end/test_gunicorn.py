"""An application of four workers under gunicorn, its metrics kept by the drop-in, loaded and restarted in every way."""

from __future__ import annotations

import os
import signal
import subprocess
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from shm.table.dead import fold
from tests import http_client
from tests.programs import exporting, promtool_says
from tests.rings import files_of
from tests.rings import namespace as namespace
from tests.shop import Load, Shop, Watch, get, samples_of, shop

pytestmark = pytest.mark.real

SETUPS = pytest.mark.parametrize(
    "options",
    [(), ("--preload",), ("--worker-class", "gthread", "--threads", "4")],
    ids=["imported by each worker", "preloaded", "threads"],
)
_ROUNDS = 3
_MOST_BYTES = 400_000  # of twelve processes with two dozen series each, and of what the dead had


def ended_gently(running: Shop) -> None:
    """By reloads, and by more and fewer workers; more are ended by --max-requests meanwhile."""
    for _ in range(_ROUNDS):
        running.reload(4)
        for number in (5, 6):
            running.signal(signal.SIGTTIN)
            running.wait_for_workers(number)
        for number in (5, 4):
            running.signal(signal.SIGTTOU)
            running.wait_for_workers(number)


def ended_by_force(running: Shop) -> None:
    for _ in range(_ROUNDS):
        for _ in range(6):
            running.kill_one(4)
        running.reload(4)


@pytest.fixture
def page(namespace: str) -> Iterator[Callable[[], str]]:
    """The page of an exporter of the namespace."""
    with exporting(namespace, '[applications]\nlabel = ""') as (_, port):  # the same page as the application's own

        def asked() -> str:
            reply = http_client.get(f"http://127.0.0.1:{port}/metrics?source[]=shop", timeout=20)
            assert reply.status_code == 200, reply.text
            return reply.text

        yield asked


# A command whose /dev/shm has room for one page of memory.
FULL = ("unshare", "-rm", "sh", "-c", 'mount -t tmpfs -o size=4k tmpfs /dev/shm && exec "$0" "$@"')


@SETUPS
def test_gunicorn_starts_and_answers_with_a_full_shared_memory_and_says_so(
    namespace: str, tmp_path: Path, options: tuple[str, ...]
) -> None:
    if subprocess.run([*FULL, "true"], capture_output=True).returncode:
        pytest.skip("unshare can't mount a tmpfs here")
    environ = {"FOGMETRICS_NAMESPACE": namespace, "PROMETHEUS_MULTIPROC_DIR": str(tmp_path)}
    with shop(tmp_path, "gunicorn.conf.py", environ, *options, workers=2, within=FULL) as running:
        assert get(running.port, "/?n=1") == b"answered\n"
        running.kill_one(2)
        assert get(running.port, "/?n=1") == b"answered\n"
        own = samples_of(get(running.port, "/metrics").decode())
        assert own["shop_requests_total", 'path="/"'] == 2, "prometheus_client's files have them"
        assert running.program.log().count("the metrics of application 'shop' are not exported by fogmetrics") == 1


@SETUPS
@pytest.mark.parametrize(
    ("end", "more"),
    [(ended_gently, ("--max-requests", "100", "--max-requests-jitter", "30")), (ended_by_force, ())],
    ids=["gently", "by force"],
)
def test_workers_may_end_in_any_way_and_nothing_is_lost_falls_or_haunts(
    namespace: str, page: Callable[[], str], tmp_path: Path, end: Callable[[Shop], None], more: tuple[str, ...],
    options: tuple[str, ...],
) -> None:  # fmt: skip
    environ = {"FOGMETRICS_NAMESPACE": namespace}
    with shop(tmp_path, "gunicorn.conf.py", environ, *options, *more) as running:
        with Watch(page, running.processes) as watch, Load(running.port) as load:
            end(running)
        assert load.answered > 100
        assert watch.scrapes > 20
        assert not watch.falls
        assert not watch.ghosts
        assert not watch.failed
        samples = watch.look()
        assert not load.wrong(samples)
        if end is ended_gently:
            assert not load.doubtful, running.program.log()
        # The application's own page says the same.
        assert not load.wrong(samples_of(get(running.port, "/metrics").decode()))
        assert samples["shop_busy", ""] == 0.0
        assert samples["shop_build_info", 'version="1"'] == 1.0
        assert samples["shop_state", 'shop_state="serving"'] == 1.0
        assert samples["shop_largest_number", ""] <= load.answered + sum(load.doubtful.values())
        assert sum(path.stat().st_size for path in files_of(namespace)) <= _MOST_BYTES
        assert promtool_says(page()) == []
    left = samples_of(page())
    assert not load.wrong(left)
    assert not [key for key in left if "pid=" in key[1]]
    if end is ended_by_force:
        # Who is killed while its table is built leaves it half-built, for whoever folds a minute later.
        for path in [path for path in files_of(namespace) if path.suffix == ".new"]:
            os.utime(path, (0, 0))
        fold(namespace, "shop")
    assert {path.name.split(".")[3] for path in files_of(namespace)} == {"retired"}
