"""The application as a client sees it, without a socket."""

from __future__ import annotations

import asyncio
import contextlib
import dataclasses
import itertools
import re
import threading
from typing import Any
from unittest import mock

import httpx
import pytest

from collector.metrics import UP
from collector.settings import MetricConfig
from exporter import app
from exporter.app import Exporter
from exporter.exposition.latest import MetricsPage
from exporter.http.negotiation import Format
from exporter.window.incremental import rolling
from exporter.window.incremental.bands import Bands
from shm import VERSION
from shm.files import unlink
from shm.metric import Metric
from shm.ring.reader import RingReader
from tests.exporter.scene import INTERVAL, NOW_NS, SECOND, TEMPERATURE, Scene, get, rings_page, samples_of
from tests.exporter.wire import ask

ROOM = {"room": "a"}
pytestmark = pytest.mark.anyio  # runs the tests that are coroutines
OPENMETRICS = "application/openmetrics-text;version=1.0.0,*/*;q=0.1"


def fill(scene: Scene) -> Exporter:
    scene.commit("s", ("temperature", 20.0, ROOM), ("packets", 7.0), ("latency", 2.0, {"path": "/"}))
    return scene.exporter()


# ---- /metrics ----------------------------------------------------------------------------------------------------


def test_metrics_are_those_of_the_rings_and_the_exporter_s_own(scene: Scene) -> None:
    exporter = fill(scene)
    answer = get(exporter, "/metrics")
    assert answer.status_code == 200
    assert answer.headers["content-type"] == "text/plain; version=0.0.4; charset=utf-8"
    assert answer.headers["vary"] == "accept, accept-encoding"
    assert {"packets_total", "exporter_ring_fresh"} <= {name for name, _ in samples_of(answer.text)}
    assert answer.text.endswith("\n")


def test_openmetrics_comes_to_those_who_ask_and_ends_as_it_must(scene: Scene) -> None:
    answer = get(fill(scene), "/metrics", accept=OPENMETRICS)
    assert answer.headers["content-type"] == (
        "application/openmetrics-text; version=1.0.0; charset=utf-8; escaping=underscores"
    )
    assert answer.text.endswith("\n# EOF\n")
    assert answer.text.count("# EOF") == 1
    found = samples_of(answer.text, Format.OPENMETRICS)
    assert found["packets_total", ()] == 7.0
    assert ("process_open_fds", ()) in found


def test_without_rings_there_are_the_own_metrics_alone(scene: Scene) -> None:
    answer = get(scene.exporter(), "/metrics")
    assert answer.status_code == 200
    assert {name.split("_")[0] for name, _ in samples_of(answer.text)} == {"exporter", "process"}


def test_names_choose_from_rings_and_own_metrics_alike(scene: Scene) -> None:
    exporter = fill(scene)
    get(exporter, "/metrics")
    scene.advance(1)  # the exporter's own metrics may be a second old
    answer = get(exporter, "/metrics?name[]=latency_bucket&name[]=exporter_requests_total&name[]=process_open_fds")
    assert {name for name, _ in samples_of(answer.text)} == {
        "latency_bucket", "exporter_requests_total", "process_open_fds"
    }  # fmt: skip


def test_a_source_is_a_ring_and_never_the_exporter(scene: Scene) -> None:
    exporter = fill(scene)
    scene.commit("t", ("packets", 1.0), ("temperature", 1.0, {"room": "t"}))
    assert samples_of(get(exporter, "/metrics?source[]=t").text) == {("temperature", (("room", "t"),)): 1.0}
    assert get(exporter, "/metrics?source[]=nobody").text == ""
    assert get(exporter, "/metrics?source[]=nobody", accept=OPENMETRICS).text == "# EOF\n"


def test_a_ring_may_add_to_the_exporter_s_families_but_not_take_its_series(scene: Scene) -> None:
    scene.collector(
        "s",
        Metric("process_open_fds", "gauge", "Files of a program.", "files", ("job",)),
        Metric("process_cpu_seconds_total", "counter", "", "seconds", ("job",)),
        Metric("exporter_build_info", "gauge", "", "", ("version",)),
        Metric("process_max_fds", "counter", ""),
    )
    scene.commit(
        "s",
        ("process_open_fds", 7.0, {"job": "web"}),
        ("process_open_fds", -1.0, {"job": ""}),  # the exporter's own series
        ("process_cpu_seconds_total", 3.5, {"job": "web"}),
        ("exporter_build_info", 0.0, {"version": VERSION}),
        ("process_max_fds", 1.0),
    )
    exporter = scene.exporter()
    reasons = {one["metric"]: one["reason"] for one in get(exporter, "/stats").json()["conflicts"]}
    assert reasons == {
        "process_open_fds": "the exporter has the same series",
        "exporter_build_info": "the exporter has the same series",
        "process_max_fds": "it is of type counter here and gauge in the exporter",
    }
    for form, headers in ((Format.TEXT, {}), (Format.OPENMETRICS, {"accept": OPENMETRICS})):
        page = get(exporter, "/metrics", **headers).text
        found = samples_of(page, form)  # which fails for a sample that comes twice
        assert found["process_open_fds", ()] > 0
        assert found["process_open_fds", (("job", "web"),)] == 7.0
        assert found["process_cpu_seconds_total", ()] > 0
        assert found["process_cpu_seconds_total", (("job", "web"),)] == 3.5
        assert found["exporter_build_info", (("version", VERSION),)] == 1.0
        headed = re.findall(r"^# TYPE (\w+)", page, re.MULTILINE)
        assert len(headed) == len(set(headed))
        families = [re.match(r"\w+", line)[0] for line in page.splitlines() if not line.startswith("#")]  # type: ignore[index]
        assert len([name for name, _ in itertools.groupby(families)]) == len(set(families))
    names = get(exporter, "/metrics?name[]=process_cpu_seconds").text.splitlines()[2:]
    assert [line.split(" ")[0] for line in names] == [
        "process_cpu_seconds_total",
        'process_cpu_seconds_total{job="web"}',
    ]
    chosen = get(exporter, "/metrics?source[]=s&name[]=process_open_fds")
    assert samples_of(chosen.text) == {("process_open_fds", (("job", "web"),)): 7.0}


def test_conflicts_are_logged_once_and_served(scene: Scene, caplog: pytest.LogCaptureFixture) -> None:
    scene.commit("one", ("packets", 1.0))
    scene.commit("two", ("packets", 2.0))
    exporter = scene.exporter()
    for _ in range(3):
        found = samples_of(get(exporter, "/metrics").text)
        scene.advance(1)
    assert found["packets_total", ()] == 1.0
    labels = (("metric", "packets"), ("reason", "ring 'one' has the same series"), ("source", "two"))
    assert found["exporter_series_in_conflict", labels] == 1
    assert [record.message for record in caplog.records] == ["series in conflict"]
    scene.commit("three", ("packets", 3.0))
    get(exporter, "/metrics")
    assert [record.__dict__["ring"] for record in caplog.records] == ["two", "three"]


def test_a_page_is_laid_out_anew_only_when_series_come_or_go(scene: Scene, monkeypatch: pytest.MonkeyPatch) -> None:
    exporter = fill(scene)
    scene.commit("t", ("temperature", 1.0, {"room": "t"}))
    made = mock.Mock(wraps=MetricsPage)
    monkeypatch.setattr(app, "MetricsPage", made)

    def text() -> tuple[str, int]:
        before = made.call_count
        return rings_page(exporter), made.call_count - before

    first, new = text()
    assert new == 1
    assert text() == (first, 0)
    scene.commit("t", ("temperature", 2.0, {"room": "t"}))
    second = first.replace('t"} 1.0', 't"} 2.0')
    assert text() == (second, 0)
    scene.commit("t", ("temperature", 2.0, {"room": "t"}), ("temperature", 3.0, {"room": "u"}))  # a new series
    assert text() == (second + 'temperature{room="u"} 3.0\n', 1)
    scene.advance(3 * INTERVAL + 1)  # all stale
    assert text() == ("", 0)
    scene.commit("t", ("temperature", 4.0, {"room": "t"}))
    assert "packets" not in text()[0]
    assert rings_page(exporter, Format.TEXT, "temperature") == text()[0]


# ---- coding, methods, errors -------------------------------------------------------------------------------------


def test_gzip_comes_to_those_who_accept_it_where_the_page_is_worth_it(scene: Scene) -> None:
    exporter = fill(scene)
    answer = get(exporter, "/metrics", **{"accept-encoding": "gzip"})
    assert answer.headers["content-encoding"] == "gzip"
    assert 'temperature{room="a"} 20.0' in answer.text
    assert int(answer.headers["content-length"]) < len(answer.content)
    assert "content-encoding" not in get(exporter, "/metrics").headers
    assert "content-encoding" not in get(exporter, "/metrics", **{"accept-encoding": "gzip;q=0"}).headers
    small = get(exporter, "/metrics?name[]=packets", **{"accept-encoding": "gzip"})
    assert "content-encoding" not in small.headers


def test_from_which_size_pages_are_compressed_is_a_setting(scene: Scene) -> None:
    scene.commit("s", ("packets", 1.0))
    exporter = scene.exporter(gzip_min_bytes=0)
    answer = get(exporter, "/metrics?source[]=s", **{"accept-encoding": "gzip"})
    assert answer.headers["content-encoding"] == "gzip"
    assert answer.text == get(exporter, "/metrics?source[]=s").text


@pytest.mark.parametrize("path", ["/", "/metrics", "/metrics/aggregated", "/stats", "/health"])
def test_head_is_answered_as_get(scene: Scene, path: str) -> None:
    exporter = fill(scene)
    answer = get(exporter, path, "HEAD")
    assert answer.status_code == get(exporter, path).status_code == 200
    assert answer.headers["content-type"] == get(exporter, path).headers["content-type"]


@pytest.mark.parametrize("method", ["POST", "PUT", "DELETE"])
def test_other_methods_are_refused(scene: Scene, method: str) -> None:
    answer = get(fill(scene), "/metrics", method)
    assert answer.status_code == 405
    assert {one.strip() for one in answer.headers["allow"].split(",")} == {"GET", "HEAD"}


@pytest.mark.parametrize("path", ["/-/healthy", "/-/ready"])
def test_the_exporter_says_that_it_answers_also_without_a_ring(scene: Scene, path: str) -> None:
    assert get(scene.exporter(), path).status_code == get(fill(scene), path, "HEAD").status_code == 200


def test_an_unknown_page_is_not_found(scene: Scene) -> None:
    exporter = fill(scene)
    assert get(exporter, "/nothing").status_code == 404
    assert get(exporter, "/metrics/").status_code == 404, "not a redirect to the host that the request claims"
    assert 'exporter_requests_total{page="other",status="404"} 2.0' in get(exporter, "/metrics").text


def test_the_index_leads_to_every_page(scene: Scene) -> None:
    answer = get(fill(scene), "/")
    assert answer.headers["content-type"].startswith("text/html")
    for path in ("/metrics", "/metrics/aggregated", "/stats", "/health"):
        assert f'href="{path}"' in answer.text


@pytest.mark.parametrize(
    ("path", "said"),
    [
        ("/metrics?nam=x", "parameter 'nam' is unknown; use name[], source[], collect[], exclude[], timestamps\n"),
        ("/metrics?name[]=a,b", "name[]='a,b' is not a name; repeat name[] for several, or leave it out\n"),
        (
            "/metrics/aggregated?window=8d",
            "window='8d' is longer than 7d, the longest that [exporter] max_window allows\n",
        ),
        ("/metrics/aggregated?by=le gume", "by='le gume' is not a label name; give one label, such as by=node_id\n"),
    ],
)
def test_a_bad_request_is_told_what_is_wrong(scene: Scene, path: str, said: str) -> None:
    exporter = fill(scene)
    answer = get(exporter, path)
    assert (answer.status_code, answer.text) == (400, said)
    assert answer.headers["content-type"].startswith("text/plain")
    page = "aggregated" if "aggregated" in path else "metrics"
    assert f'exporter_requests_total{{page="{page}",status="400"}} 1.0' in get(exporter, "/metrics").text


def test_a_fault_of_ours_is_a_500_logged_counted_and_over(
    scene: Scene, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    exporter = fill(scene)
    monkeypatch.setattr(exporter, "metrics_parts", lambda *arguments: 1 // 0)
    answer = get(exporter, "/metrics?name[]=x")
    assert answer.status_code == 500
    assert answer.text == "internal error; see the exporter's log\n"
    [record] = caplog.records
    assert record.message == "request failed"
    assert "ZeroDivisionError" in str(record.exc_info)
    monkeypatch.undo()
    answer = get(exporter, "/metrics")
    assert answer.status_code == 200
    assert 'exporter_requests_total{page="metrics",status="500"} 1.0' in answer.text


# ---- /metrics/aggregated, /stats, /health ------------------------------------------------------------------------


def test_a_page_of_a_long_window_is_the_same_from_an_exporter_that_was_asked_before(
    scene: Scene, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Of all three types, while series come and go, a catalog grows, and the ring is replaced."""
    scene.collector("s", capacity=300)
    exporter, path = scene.exporter(), "/metrics/aggregated?window=2400s"
    filled = mock.create_autospec(Bands.fill, side_effect=Bands.fill)
    monkeypatch.setattr(Bands, "fill", filled)
    monkeypatch.setattr(rolling, "LEAST_FRAMES", 128)

    def commit(i: int) -> None:
        count = 1 if i < 200 else 2
        rooms = [("temperature", float(i * 7 % 23), {"room": str(room)}) for room in range(count) if i % 9 != room]
        scene.commit("s", *rooms, ("packets", float(3 * i)), ("latency", i % 11 / 2, {"path": "/"}))
        scene.advance(INTERVAL)

    for i in range(400):
        commit(i)
        if i > 150 and i % 3 == 0:
            filled.reset_mock()
            page = get(exporter, path).text
            again = filled.call_count
            assert page == get(scene.exporter(), path).text
            assert filled.call_count > again, "a new exporter begins with all samples"
    assert again == 0, "the other one had nothing to fill"
    scene.collectors.pop("s").close()
    unlink(scene.namespace, "s")
    scene.collector("s", capacity=300)
    for i in range(9, 409):  # other samples of the same sequences and series
        commit(i)
    assert get(exporter, path).text == get(scene.exporter(), path).text


def test_aggregated_covers_five_minutes_unless_asked_otherwise(scene: Scene) -> None:
    for value, seconds in ((1.0, 100), (2.0, 250), (3.0, 0)):
        scene.commit("s", ("temperature", value, ROOM))
        scene.advance(seconds)
    exporter = scene.exporter()

    def least(query: str = "") -> float:
        found = samples_of(get(exporter, f"/metrics/aggregated{query}").text)
        return found["temperature", (("room", "a"), ("stat", "min"))]

    assert least() == 2.0
    assert least("?window=15m") == 1.0
    assert least("?window=1") == 3.0
    assert least() == 2.0
    answer = get(exporter, "/metrics/aggregated", accept=OPENMETRICS)
    assert answer.text.endswith("# EOF\n")
    assert answer.headers["content-type"].startswith("application/openmetrics-text")


def test_the_default_window_and_the_longest_are_settings(scene: Scene) -> None:
    scene.commit("s", ("temperature", 1.0, ROOM))
    scene.advance(20)
    exporter = scene.exporter(window=10.0, max_window=60.0)
    nothing = get(exporter, "/metrics/aggregated").text
    assert "stat=" not in nothing
    assert "exporter_window_seconds 10.0\n" in nothing
    assert 'stat="avg"' in get(exporter, "/metrics/aggregated?window=1m").text
    assert get(exporter, "/metrics/aggregated?window=61s").status_code == 400


def test_only_windows_of_the_rings_that_a_page_is_of_are_looked_at(scene: Scene) -> None:
    exporter = fill(scene)
    scene.commit("t", ("temperature", 1.0, {"room": "t"}))
    for query, sources in (("source[]=t", ["t"]), ("metric=packets", ["s"]), ("", ["s", "t"]), ("source[]=none", [])):
        with mock.patch.object(RingReader, "choose", autospec=True, side_effect=RingReader.choose) as looked:
            assert get(exporter, f"/metrics/aggregated?{query}").status_code == 200
        assert [call.args[0].source for call in looked.call_args_list] == sources


def test_stats_are_json_and_name_the_configuration_s_tables_that_are_of_no_metric(scene: Scene) -> None:
    fill(scene)
    tables = {"packets": MetricConfig(), "pakets": MetricConfig()}
    with contextlib.closing(Exporter(dataclasses.replace(scene.config(), metric=tables))) as exporter:
        answer = get(exporter, "/stats")
        assert answer.headers["content-type"] == "application/json"
        assert answer.json()["unused_tables"] == ["[metric.pakets]"]


def test_health_is_200_while_a_source_is_fresh_else_503(scene: Scene) -> None:
    exporter = scene.exporter()
    assert get(exporter, "/health").status_code == 503
    scene.commit("s", ("packets", 1.0))
    answer = get(exporter, "/health")
    assert (answer.status_code, answer.json()["sources"]["s"]["status"]) == (200, "fresh")
    scene.advance(46)
    answer = get(exporter, "/health")
    assert (answer.status_code, answer.json()["status"]) == (503, "failing")


def test_a_broken_ring_costs_no_page_anything_but_itself(scene: Scene) -> None:
    exporter = fill(scene)
    scene.path("bad").write_bytes(b"no ring" * 1000)
    for path in ("/metrics", "/metrics/aggregated", "/stats", "/health"):
        assert get(exporter, path).status_code == 200
    assert get(exporter, "/stats").json()["errors"].keys() == {"bad"}
    scene.advance(1)
    found = samples_of(get(exporter, "/metrics").text)
    assert found["exporter_ring_errors_total", (("source", "bad"),)] >= 4
    scene.path("bad").unlink()


def test_a_source_that_is_off_has_a_history_and_nothing_else(scene: Scene) -> None:
    scene.commit("on", ("packets", 7.0))
    scene.collector("gone", TEMPERATURE, UP)
    scene.commit("gone", ("temperature", 20.0, ROOM), ("collector_up", 0.0, {"source": "gone"}))
    exporter = Exporter(scene.config(), ["on"], ["gone"], lambda: scene.wall_ns, lambda: scene.monotonic_ns)
    with contextlib.closing(exporter):
        assert "gone" not in get(exporter, "/metrics").text
        assert "temperature" not in get(exporter, "/metrics").text
        assert list(get(exporter, "/health").json()["sources"]) == ["on"]
        windows = get(exporter, "/metrics/aggregated").text
        assert 'temperature{room="a",stat="max"} 20.0\n' in windows
        assert "collector_up" not in windows
        assert get(exporter, "/stats").json()["rings"]["gone"]["frames"] == 1


def test_health_names_a_source_that_is_on_and_has_no_ring(scene: Scene) -> None:
    scene.commit("one", ("packets", 7.0))
    exporter = Exporter(scene.config(), ["one", "two"], [], lambda: scene.wall_ns, lambda: scene.monotonic_ns)
    with contextlib.closing(exporter):
        answer = get(exporter, "/health")
        assert answer.status_code == 200
        assert answer.json()["sources"]["one"]["status"] == "fresh"
        assert answer.json()["sources"]["two"] == {"status": "missing"}


# ---- the worker --------------------------------------------------------------------------------------------------


async def test_a_burst_is_told_to_come_again_and_a_scrape_does_not_wait_for_it(
    scene: Scene, monkeypatch: pytest.MonkeyPatch
) -> None:
    fill(scene)
    exporter = scene.exporter(max_jobs=3)
    go = threading.Event()
    whole = exporter.aggregated_parts

    def held(*arguments: Any) -> tuple[bytes, ...]:
        assert go.wait(60)
        return whole(*arguments)

    monkeypatch.setattr(exporter, "aggregated_parts", held)

    waiting = [asyncio.create_task(ask(exporter.app, "GET", "/metrics/aggregated")) for _ in range(3)]
    while exporter._jobs < 3:
        await asyncio.sleep(0)
    exporter._config = dataclasses.replace(exporter._config, max_jobs=4)
    late = await ask(exporter.app, "GET", "/stats", {"X-Prometheus-Scrape-Timeout-Seconds": "0.05"}.items())
    assert late.text == "requests before this one took longer than its timeout; ask less often, or for less\n"
    assert late.status_code == 503
    exporter._config = dataclasses.replace(exporter._config, max_jobs=3)
    refused = await ask(exporter.app, "GET", "/stats")
    scraped = await ask(exporter.app, "GET", "/metrics")
    go.set()
    assert {answer.status_code for answer in await asyncio.gather(*waiting)} == {200}
    assert (refused.status_code, refused.headers["retry-after"]) == (503, "1")
    assert refused.text == "3 requests are waiting already; try again in 1 s\n"
    assert scraped.status_code == 200
    assert (await ask(exporter.app, "GET", "/stats")).status_code == 200


async def test_a_page_that_nobody_waits_for_any_more_is_not_made(scene: Scene, monkeypatch: pytest.MonkeyPatch) -> None:
    exporter = fill(scene)
    made = mock.Mock(wraps=exporter.aggregated_parts)
    monkeypatch.setattr(exporter, "aggregated_parts", made)

    async def left() -> dict[str, str]:
        return {"type": "http.disconnect"}

    async def send(message: Any) -> None:
        pass

    scope = {"type": "http", "method": "GET", "path": "/metrics/aggregated", "query_string": b"", "headers": []}
    await exporter.app(scope, left, send)
    assert made.call_count == 0
    assert (await ask(exporter.app, "GET", "/metrics/aggregated")).status_code == 200
    assert made.call_count == 1


def test_a_page_that_is_not_ready_when_the_server_ends_is_given_up_without_a_fault(
    scene: Scene, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    exporter = fill(scene)
    go = threading.Event()
    monkeypatch.setattr(exporter, "aggregated_parts", lambda *arguments: (b"%d" % go.wait(60),))

    async def work() -> httpx.Response:
        waiting = asyncio.create_task(ask(exporter.app, "GET", "/metrics/aggregated"))
        while not exporter._jobs:
            await asyncio.sleep(0)
        waiting.cancel()
        return await waiting

    answer = asyncio.run(work())
    go.set()
    assert (answer.status_code, answer.text) == (503, "the exporter is shutting down\n")
    assert caplog.records == []


async def test_segments_that_can_t_be_looked_through_once_are_looked_through_the_next_time(
    scene: Scene, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    monkeypatch.setattr(app, "_CLOSE_SECONDS", 0.001)
    exporter = scene.exporter()
    outcomes = itertools.chain([RuntimeError("can't start new thread")], itertools.repeat(None))
    crowded = mock.AsyncMock(side_effect=outcomes)
    monkeypatch.setattr(exporter, "close_replaced", crowded)
    async with asyncio.timeout(20), exporter.app.router.lifespan_context(exporter.app):
        while crowded.await_count < 3:
            await asyncio.sleep(0.001)
    [said] = [record for record in caplog.records if record.message == "replaced segments not closed"]
    assert said.__dict__["error"] == "RuntimeError: can't start new thread"


def test_a_job_that_fails_frees_its_place(scene: Scene, monkeypatch: pytest.MonkeyPatch) -> None:
    exporter = fill(scene)
    monkeypatch.setattr(exporter, "aggregated_parts", lambda *arguments: 1 // 0)
    for _ in range(17):
        assert get(exporter, "/metrics/aggregated").status_code == 500
    monkeypatch.undo()
    assert get(exporter, "/metrics/aggregated").status_code == 200


def test_what_the_worker_counts_reaches_the_scrape_as_a_copy(scene: Scene) -> None:
    exporter = fill(scene)
    before = exporter._history_counts
    assert get(exporter, "/stats").status_code == 200
    after = exporter._history_counts
    assert after is not before
    exporter._history.error_counts["s"] += 5
    exporter._history.rings["s"].reader.skipped_frames += 7
    assert after.errors["s"] == after.skipped_frames["s"] == 0
    assert ("exporter_ring_errors_total", (("source", "s"),)) not in samples_of(get(exporter, "/metrics").text)
    scene.advance(1)
    get(exporter, "/stats")
    scene.advance(1)
    found = samples_of(get(exporter, "/metrics").text)
    assert found["exporter_ring_errors_total", (("source", "s"),)] == 5
    assert found["exporter_ring_skipped_frames_total", (("source", "s"),)] == 7


def test_scrapes_and_aggregations_run_beside_a_growing_ring(scene: Scene) -> None:
    """Each of many rings comes, grows and goes while both threads read: no request fails."""
    exporter = fill(scene)
    stop = threading.Event()
    broke: list[Exception] = []

    def write() -> None:
        try:
            i = 0
            while not stop.is_set():
                source = f"r{i % 5}"
                scene.commit(source, *(("temperature", 1.0, {"room": f"{source}-{i}-{n}"}) for n in range(12)))
                if i % 3 == 2:
                    scene.collectors.pop(source).close()
                    unlink(scene.namespace, source)
                i += 1
        except Exception as error:  # noqa: BLE001 - whatever it is, the test says it
            broke.append(error)

    writer = threading.Thread(target=write)
    writer.start()
    try:
        for _ in range(60):
            for path in ("/metrics", "/stats", "/metrics/aggregated", "/health"):
                assert get(exporter, path).status_code == 200
            scene.wall_ns += SECOND
            scene.monotonic_ns += SECOND
    finally:
        stop.set()
        writer.join(60)
    assert broke == []


# ---- times, and whose samples are current ------------------------------------------------------------------------


def test_counters_have_timestamps_unless_the_configuration_or_the_request_wants_none(scene: Scene) -> None:
    scene.commit("one", ("temperature", 21.5, {"room": "a"}), ("packets", 5000.0))
    time = NOW_NS // 10**6
    asked = "/metrics?name[]=packets&name[]=temperature&name[]=exporter_build_info"
    for keys, parameter, timed in (
        ({}, "", ["packets_total"]),
        ({"timestamps": "none"}, "", []),
        ({"timestamps": "none"}, "&timestamps=all", ["packets_total", "temperature"]),
        ({}, "&timestamps=none", []),
    ):
        exporter = scene.exporter(**keys)
        scene.advance(1)  # the exporter's own metrics are collected anew; those of the ring are of the same frame
        text = get(exporter, asked + parameter).text
        assert [line.split("{")[0].split(" ")[0] for line in text.splitlines() if line.endswith(f" {time}")] == timed
    assert get(exporter, "/metrics?timestamps=some").text == "timestamps='some' is unknown; use counters, all, none\n"
    assert f" {time}" not in get(exporter, "/metrics/aggregated").text


OLD, NEW = Metric("jobs", "gauge", "Jobs."), Metric("jobs_total", "counter", "Jobs.")


def names_on(exporter: Exporter, path: str) -> set[str]:
    return {line.split("{")[0].split(" ")[0] for line in get(exporter, path).text.splitlines() if "jobs" in line} - {
        "#"
    }


def test_a_metric_that_changed_its_type_is_on_the_pages_by_its_present_name(scene: Scene) -> None:
    exporter = scene.exporter()
    one = scene.collector("text", OLD, NEW)
    for _ in range(3):
        one.record_metric("jobs", 4)
        one.commit(scene.wall_ns, scene.monotonic_ns)
        scene.advance(INTERVAL)
    assert names_on(exporter, "/metrics") == {"jobs"}
    for count in range(3):
        one.record_metric("jobs_total", count)
        one.commit(scene.wall_ns, scene.monotonic_ns)
        scene.advance(INTERVAL)
    assert names_on(exporter, "/metrics") == {"jobs_total"}
    assert get(exporter, "/stats").json()["conflicts"] == []
    assert 'stat="rate"' in get(exporter, "/metrics/aggregated?metric=jobs_total&window=5m").text
    one.record_metric("jobs", 5)
    one.commit(scene.wall_ns, scene.monotonic_ns)
    assert names_on(exporter, "/metrics") == {"jobs"}, "and back"
    # Both have samples in a window of 5 minutes; one of 20 seconds has only the present one's.
    assert 'stat="avg"' in get(exporter, "/metrics/aggregated?metric=jobs&window=20s").text


def test_a_source_that_was_renamed_is_on_the_pages_once_the_old_one_is_stale(scene: Scene) -> None:
    exporter = scene.exporter()
    for _ in range(4):
        scene.commit("a_old", ("packets", 1.0))
        scene.advance(INTERVAL)
    scene.commit("b_new", ("packets", 100.0))
    assert samples_of(get(exporter, "/metrics?name[]=packets").text) == {("packets_total", ()): 1.0}
    scene.advance(INTERVAL)
    for _ in range(4):
        scene.commit("b_new", ("packets", 100.0))
        scene.advance(INTERVAL)
    page = "/metrics?name[]=packets"
    assert samples_of(get(exporter, page).text) == {("packets_total", ()): 100.0}
    scene.commit("a_old", ("packets", 2.0))
    assert samples_of(get(exporter, page).text) == {("packets_total", ()): 100.0}, "both are fresh: it stays"
    [conflict] = get(exporter, "/stats").json()["conflicts"]
    assert (conflict["source"], conflict["reason"]) == ("a_old", "ring 'b_new' has the same series")


def test_a_window_shows_what_it_covers_when_nobody_has_samples_now(scene: Scene) -> None:
    exporter = scene.exporter()
    one = scene.collector("text", OLD, NEW)
    for value in (4, 5):
        one.record_metric("jobs", value)
        one.commit(scene.wall_ns, scene.monotonic_ns)
        scene.advance(INTERVAL)
    scene.advance(600)
    assert names_on(exporter, "/metrics") == set()
    text = get(exporter, "/metrics/aggregated?metric=jobs&stat=max&window=1h").text
    assert samples_of(text)["jobs", (("stat", "max"),)] == 5


def test_the_daemons_own_metrics_and_the_host_are_aggregated_only_if_they_are_chosen(scene: Scene) -> None:
    up, load = Metric("collector_up", "gauge", "Up.", "", ("source",), own=True), Metric("node_load1", "gauge", "Load.")
    exporter = scene.exporter()
    for name in ("host", "one"):
        one = scene.collector(name, up, load, TEMPERATURE)
        one.record_metric("collector_up", 1, {"source": name})
        one.record_metric("node_load1" if name == "host" else "temperature", 2, {} if name == "host" else {"room": "a"})
        one.commit(scene.wall_ns, scene.monotonic_ns)

    def names(query: str) -> set[str]:
        page = samples_of(get(exporter, f"/metrics/aggregated?{query}").text)
        return {name for name, _ in page if not name.startswith("exporter_")}

    assert names("") == names("by=room") == {"temperature"}
    assert names("metric=node_load1") == {"node_load1"}
    assert names("match[]=collector_up") == {"collector_up"}
    assert names("source=host") == {"collector_up", "node_load1"}
