"""A server whose scrape interval makes rates wrong is named, with both intervals, in the log and on /health."""

from __future__ import annotations

import itertools
import logging

import pytest

from exporter.app import Exporter
from exporter.http.negotiation import TIMEOUT_HEADER
from exporter.scrapers import fits
from tests.exporter.scene import Scene, get


def scraped(scene: Scene, every: float, *, query: str = "", scrapes: int = 6, **keys: object) -> Exporter:
    """The exporter of two sources with frames of 15 s, after so many scrapes."""
    exporter = scene.exporter(**keys)
    for _ in range(scrapes):
        for source in ("one", "two"):
            scene.commit(source, ("temperature", 1.0, {"room": source}))
        get(exporter, f"/metrics{query}", **{TIMEOUT_HEADER: "10"})
        scene.advance(every)
    return exporter


def said(exporter: Exporter) -> list[str]:
    found: list[str] = get(exporter, "/health").json().get("scrape_intervals", [])
    return found


SENTENCE = (
    "127.0.0.1 scrapes every 20 s, but frames of one, two come every 15 s: rate() is wrong there; set its "
    "scrape_interval to 15 s, to less, or to a multiple of it"
)


def test_both_intervals_are_named_in_the_log_once_and_on_health(scene: Scene, caplog: pytest.LogCaptureFixture) -> None:
    caplog.set_level(logging.WARNING)
    exporter = scraped(scene, 20, scrapes=12)
    assert said(exporter) == [SENTENCE]
    assert [record.error for record in caplog.records] == [SENTENCE]  # type: ignore[attr-defined]
    assert get(exporter, "/health").json()["status"] == "ok"  # nothing is wrong with the sources


@pytest.mark.parametrize("every", [5, 10, 15, 30])
def test_with_timestamps_shorter_intervals_and_multiples_fit(scene: Scene, every: float) -> None:
    assert said(scraped(scene, every)) == []


@pytest.mark.parametrize(("every", "fit"), [(5, False), (10, False), (14.999, True), (20, False), (30, True)])
@pytest.mark.parametrize("asked", [True, False])
def test_without_timestamps_only_multiples_fit(scene: Scene, every: float, fit: bool, asked: bool) -> None:
    exporter = scraped(scene, every, query="?timestamps=none") if asked else scraped(scene, every, timestamps="none")
    wrong = f"127.0.0.1 scrapes every {every:g} s, but frames of one, two come every 15 s: rate() and irate() are wrong"
    assert [one.split(" there; leave their timestamps on, or")[0] for one in said(exporter)] == ([] if fit else [wrong])


def test_only_the_sources_that_a_server_asks_for_count(scene: Scene) -> None:
    assert "frames of two come" in said(scraped(scene, 20, query="?source[]=two"))[0]


def test_people_servers_that_are_gone_and_servers_that_have_just_come_are_not_named(scene: Scene) -> None:
    assert said(scraped(scene, 20, scrapes=5)) == []
    exporter = scraped(scene, 20)
    scene.advance(60)
    for _ in range(6):
        scene.commit("one", ("temperature", 1.0, {"room": "one"}))
        get(exporter, "/metrics")  # without the header that a server sends
        assert said(exporter) == []
        scene.advance(20)


def test_a_scrape_that_is_missing_or_comes_twice_changes_nothing(scene: Scene) -> None:
    exporter = scraped(scene, 30)
    for every in (60, 2, 30, 30, 30):
        scene.commit("one", ("temperature", 1.0, {"room": "one"}))
        get(exporter, "/metrics", **{TIMEOUT_HEADER: "10"})
        assert said(exporter) == []
        scene.advance(every)


def test_many_clients_are_not_kept_for_ever(scene: Scene) -> None:
    exporter = scraped(scene, 20)
    for number in range(100):
        get(exporter, f"/metrics?name[]=x{number}", **{TIMEOUT_HEADER: "10"})
    assert said(exporter) == []
    assert len(exporter._scrapers._times) == 32


def predicted(scrape: float, frame: float) -> bool:
    """Whether a server that extrapolates over 1.1 mean intervals reaches the end of each range, sample after sample."""
    scrapes = [scrape * number + 0.4 * frame for number in range(1000)]
    samples = sorted({at // frame * frame for at in scrapes})
    gaps = [later - earlier for earlier, later in itertools.pairwise(samples)]
    return max(gaps) <= 1.1 * sum(gaps) / len(gaps) + 0.02 * frame


@pytest.mark.parametrize("frame", [1.0, 15.0])
@pytest.mark.parametrize(
    "frames", [0.2, 0.5, 0.9, 1, 1.3, 1.5, 1.9, 2, 2.5, 3, 4.5, 4.9, 5.5, 6.2, 7.5, 9.2, 10.3, 25.5]
)
def test_what_fits_is_what_a_server_extrapolates_over(frame: float, frames: float) -> None:
    assert fits(frames * frame, frame, timed=True) is predicted(frames * frame, frame)
