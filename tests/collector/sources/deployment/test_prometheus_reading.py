"""Pages as their mappings read them: recorded ones, and what two of them say of the time between."""

from __future__ import annotations

import math
from pathlib import Path

import pytest

from collector.frame.histogram import Observations
from collector.sources.deployment.prometheus_mapping import READY, PageMapping, Series
from collector.sources.deployment.prometheus_reading import Reading, deployments, read_page
from collector.sources.deployment.provider import MAX_DEPLOYMENTS, Deployment
from tests.memory import most_resident

OWN = PageMapping(
    "d",
    requests=(Series("req", {"code": "*"}),),
    errors=(Series("req", {"code": "5*"}), Series("bad")),
    latency_seconds=Series("lat"),
    replicas=(Series("up"),),
    replica_series=(Series("on"),),
)


def recorded(name: str, mapping: str) -> tuple[str, PageMapping]:
    return Path(__file__).with_name(f"{name}_recording.txt").read_text(), READY[mapping]


def read(text: str, mapping: PageMapping = OWN) -> Reading:
    return read_page(text.encode(), mapping)


def between(before: str, now: str, mapping: PageMapping = OWN, seconds: float = 10.0) -> dict[str, Deployment]:
    found = deployments(read(now, mapping), read(before, mapping), seconds)
    return {one.deployment_id: one for one in found}


def began(text: str) -> str:
    """The page as it was when its program began: the same series, all 0."""
    return "".join(
        f"{line.rpartition(' ')[0]} 0\n" if line and not line.startswith("#") else f"{line}\n"
        for line in text.splitlines()
    )


# ---- recorded pages ----------------------------------------------------------------------------------------


def told(found: dict[str, Deployment]) -> dict[str, tuple[object, ...]]:
    """Replicas, request rate, error rate and latencies of each, their sum in whole µs: a page has more digits."""
    return {
        name: (
            one.replicas,
            one.request_rate,
            one.error_rate,
            *(
                (one.latency_ms.counts, round(one.latency_ms.total * 1000))
                if isinstance(one.latency_ms, Observations)
                else (None, one.keeps_latency)
            ),
        )
        for name, one in found.items()
    }


def test_the_page_of_traefik_is_read() -> None:
    text, mapping = recorded("traefik", "traefik")
    assert deployments(read(text, mapping), None, 0.0) == [
        Deployment("shop", 2.0, keeps_latency=True),
        Deployment("mail", None, keeps_latency=True),
        Deployment("gone", None, keeps_latency=True),
    ]
    assert told(between(began(text), text, mapping)) == {
        "shop": (2.0, 3.9, 0.5, ((100.0, 29), (300.0, 6), (1200.0, 3), (5000.0, 1)), 4_669_794),
        "mail": (None, 1.0, 0.0, ((100.0, 6), (300.0, 4)), 1_049_258),
        "gone": (None, 0.6, 0.6, ((100.0, 6),), 1_557),  # two requests, six tries
    }


def test_the_page_of_traefik_is_read_by_its_routers() -> None:
    text, mapping = recorded("traefik", "traefik_routers")
    assert told(between(began(text), text, mapping)) == {
        "shop": (2.0, 3.9, 0.5, ((100.0, 29), (300.0, 6), (1200.0, 3), (5000.0, 1)), 4_671_150),
        "mail": (None, 1.0, 0.0, ((100.0, 6), (300.0, 4)), 1_049_558),
        "gone": (None, 0.2, 0.2, ((100.0, 2),), 54_004),
    }


def test_the_hashes_that_some_traefiks_have_for_services_are_no_deployments() -> None:
    """As 3.0.4 says of a server with a health check."""
    page = 'traefik_service_server_up{service="75327ea3b04bcda5",url="http://127.0.0.1:8081"} 1\n'
    assert [read(page, READY[name]) for name in ("traefik", "traefik_routers")] == [{}, {}]


def test_the_page_of_envoy_is_read() -> None:
    text, mapping = recorded("envoy", "envoy")
    assert told(between(began(text), text, mapping)) == {
        "shop": (
            2.0, 3.9, 0.5,
            ((0.5, 17), (1.0, 1), (5.0, 2), (50.0, 9), (250.0, 6), (500.0, 3), (2500.0, 1)), 4_387_864,
        ),
        "mail": (1.0, 1.0, 0.0, ((0.5, 1), (1.0, 1), (5.0, 1), (50.0, 3), (250.0, 4)), 792_967),
        "gone": (1.0, 0.2, 0.2, None, False),
        "idle": (0.0, 0.0, 0.0, None, False),
    }  # fmt: skip


def test_the_page_of_caddy_is_read() -> None:
    text, mapping = recorded("caddy", "caddy")
    found = between(began(text), text, mapping)["srv0"]
    latencies = found.latency_ms
    assert isinstance(latencies, Observations)
    assert (found.request_rate, found.error_rate, latencies.counts) == (0.6, 0.3, ((5.0, 6),))
    assert latencies.total == pytest.approx(0.120023)


# ---- counters and gauges -----------------------------------------------------------------------------------


def test_rates_are_differences_by_seconds() -> None:
    before = 'req{d="a",code="200"} 100\nreq{d="a",code="500"} 7\nbad{d="a"} 1\n'
    now = 'req{d="a",code="200"} 150\nreq{d="a",code="500"} 8\nbad{d="a"} 3\n'
    assert between(before, now) == {"a": Deployment("a", None, 5.1, 0.3)}
    assert deployments(read(now), None, 0.0) == [Deployment("a")]


def test_a_counter_that_fell_began_anew() -> None:
    assert between('req{d="a",code="200"} 100\n', 'req{d="a",code="200"} 5\n')["a"].request_rate == 0.5


def test_each_series_is_compared_with_itself() -> None:
    """A sum of them that fell would pass for a program that began anew, and all of it for new requests."""
    before = 'req{d="a",code="200"} 1000000\nreq{d="a",code="404"} 50\n'
    assert between(before, 'req{d="a",code="200"} 1000010\n')["a"].request_rate == 1.0
    # Labels in another order are the same labels.
    assert between('req{d="a",code="200"} 10\n', 'req{code="200",d="a"} 20\n')["a"].request_rate == 1.0


def test_a_new_series_counts_from_zero_where_its_deployment_was_there_before() -> None:
    before, now = 'req{d="a",code="200"} 100\n', 'req{d="a",code="200"} 100\nreq{d="a",code="503"} 4\n'
    assert between(before, now)["a"] == Deployment("a", None, 0.4, 0.4)
    assert between(before, 'req{d="b",code="200"} 100\n') == {"b": Deployment("b")}


def test_without_a_series_of_errors_there_were_none_and_without_a_mapping_they_are_unknown() -> None:
    before, now = 'req{d="a",code="200"} 1\n', 'req{d="a",code="200"} 2\n'
    assert between(before, now)["a"].error_rate == 0.0
    assert between(before, now, PageMapping("d", requests=(Series("req"),)))["a"].error_rate is None
    assert between('up{d="a"} 1\n', 'up{d="a"} 1\n')["a"] == Deployment("a", 1.0)


@pytest.mark.parametrize("value", ["NaN", "+Inf", "-1", "1e20"])
def test_a_value_that_is_no_count_makes_its_sum_unknown(value: str) -> None:
    good = 'req{d="a",code="200"} 100\nup{d="a"} 1\n'
    bad = f'req{{d="a",code="200"}} 100\nreq{{d="a",code="404"}} {value}\nup{{d="a"}} 1\nup{{d="a",i="2"}} {value}\n'
    assert between(good, bad)["a"] == Deployment("a", None, None, None)
    assert between(bad, bad)["a"].request_rate is None
    assert between(bad, good)["a"] == Deployment("a", 1.0, 0.0, 0.0)


def test_replicas_are_gauges_added_up_and_series_above_zero_counted() -> None:
    assert deployments(read('up{d="a",i="1"} 2\nup{d="a",i="2"} 0\n'), None, 0.0) == [Deployment("a", 2.0)]
    assert deployments(read('on{d="a",i="1"} 7\non{d="a",i="2"} 0\non{d="a",i="3"} 1\n'), None, 0.0) == [
        Deployment("a", 2.0)
    ]
    assert deployments(read('on{d="a"} 0\n'), None, 0.0) == [Deployment("a", 0.0)]


def test_a_series_without_a_deployment_is_left_out() -> None:
    assert read('req{code="200"} 1\nreq{d="",code="200"} 1\nother{d="a"} 1\n') == {}


def test_more_deployments_than_any_host_has_are_refused() -> None:
    page = "".join(f'up{{d="{number}"}} 1\n' for number in range(MAX_DEPLOYMENTS))
    assert len(read(page)) == MAX_DEPLOYMENTS
    with pytest.raises(ValueError, match="more than 10000 deployments"):
        read(page + 'up{d="x"} 1\n')


@pytest.mark.parametrize(
    ("body", "reason"),
    [
        (b"\xff 1\n", r"can\'t decode byte 0xff in position 0: invalid start byte"),
        (b'req{d="a",code="1"} x\n', "line 1: the value 'x' is not a number"),
        (b'req{d="a",code="1"} 1\n' * 30_001, "more than 30000 samples"),
    ],
)
def test_what_is_no_page_is_refused(body: bytes, reason: str) -> None:
    with pytest.raises(ValueError, match=reason):
        read_page(body, OWN)


_SETUP = """
from collector.sources.deployment.prometheus_reading import deployments, read_page
from tests.collector.sources.deployment.test_prometheus_reading import OWN
"""
_TWO_PAGES = """
before = read_page(given, OWN)
deployments(read_page(given, OWN), before, 1.0)
"""


def test_two_pages_take_no_more_than_32_mebibytes_of_memory() -> None:
    """As many samples and deployments as may be within 4 MiB; letters that take more as text than in UTF-8."""
    many = "".join(f'req{{d="{number % 10_000}",code="{number}"}} 1\n' for number in range(30_000))
    buckets = "".join(f'lat_bucket{{d="{number % 9_999}",le="{number}"}} 1\n' for number in range(30_000))
    for text in (many, buckets, *(f'req{{d="{letter * 16_000}"}} 1\n' * 64 for letter in "\x01\U000e0001")):
        page = text.encode()[: 4 * 2**20]
        page = page[: page.rindex(b"\n") + 1]
        assert most_resident(_SETUP, _TWO_PAGES, page) < 32 * 2**20


# ---- histograms --------------------------------------------------------------------------------------------


def histogram(*counts: float, total: object = 0.0, code: str = "200") -> str:
    """Buckets at 0.1 s, 1 s and +Inf."""
    lines = [
        f'lat_bucket{{d="a",code="{code}",le="{le}"}} {n}' for le, n in zip(("0.1", "1", "+Inf"), counts, strict=True)
    ]
    return "\n".join(
        [*lines, f'lat_sum{{d="a",code="{code}"}} {total}', f'lat_count{{d="a",code="{code}"}} {counts[-1]}', ""]
    )


def test_the_increase_of_each_bucket_is_what_was_observed() -> None:
    found = between(histogram(10, 20, 30, total=50), histogram(11, 25, 36, total=62))["a"]
    assert found.latency_ms == Observations(((100.0, 1), (1000.0, 4), (math.inf, 1)), 12000.0)
    assert found.keeps_latency


def test_histograms_of_several_series_are_added_up() -> None:
    before = histogram(10, 20, 30, total=50) + histogram(1, 1, 1, total=0.05, code="500")
    now = histogram(12, 22, 32, total=50.25) + histogram(1, 2, 2, total=0.55, code="500")
    assert between(before, now)["a"].latency_ms == Observations(((100.0, 2), (1000.0, 1)), 750.0)


def test_without_an_observation_the_series_is_kept_and_no_more() -> None:
    page = histogram(10, 20, 30, total=50)
    assert between(page, page)["a"] == Deployment("a", keeps_latency=True)
    assert deployments(read(page), None, 0.0) == [Deployment("a", keeps_latency=True)]


def test_a_histogram_that_fell_or_has_other_bounds_began_anew() -> None:
    new = Observations(((100.0, 1), (1000.0, 1), (math.inf, 2)), 3000.0)
    assert between(histogram(10, 20, 30, total=50), histogram(1, 2, 4, total=3))["a"].latency_ms == new
    # As many as before, all in all, but not in the first bucket.
    assert between(histogram(2, 2, 3, total=50), histogram(1, 2, 4, total=3))["a"].latency_ms == new
    other = 'lat_bucket{d="a",code="200",le="0.2"} 1\nlat_count{d="a",code="200"} 1\nlat_sum{d="a",code="200"} 1\n'
    assert between(other, histogram(1, 2, 4, total=3))["a"].latency_ms == new


def test_a_new_histogram_counts_from_zero_where_its_deployment_was_there_before() -> None:
    before = histogram(10, 20, 30, total=50)
    now = before + histogram(0, 1, 1, total=0.5, code="500")
    assert between(before, now)["a"].latency_ms == Observations(((1000.0, 1),), 500.0)


def test_without_a_bucket_of_infinity_the_count_is_taken() -> None:
    def page(low: int, count: int, total: float) -> str:
        return f'lat_bucket{{d="a",le="0.1"}} {low}\nlat_sum{{d="a"}} {total}\nlat_count{{d="a"}} {count}\n'

    found = between(page(1, 2, 1.0), page(2, 4, 3.0))["a"]
    assert found.latency_ms == Observations(((100.0, 1), (math.inf, 1)), 2000.0)


def test_buckets_that_do_not_rise_are_never_counted_below_zero() -> None:
    found = between(histogram(0, 0, 0), histogram(5, 3, 4, total=1))["a"]
    assert found.latency_ms == Observations(((100.0, 4),), 1000.0)


@pytest.mark.parametrize(
    "now",
    [
        histogram(1, 2, 3, total="NaN"),
        histogram(1, 2, 3, total="+Inf"),
        histogram(1, 2, 3, total=-1),
        histogram(1, math.nan, 3, total=1),
        histogram(1, 2, 2.0**41, total=1),
        histogram(1, 2, 3, total=2.0**31),
        "\n".join(line for line in histogram(1, 2, 3, total=1).splitlines() if "_sum" not in line) + "\n",
    ],
)  # fmt: skip
def test_a_histogram_that_makes_no_sense_is_not_observed(now: str) -> None:
    """A sum beyond 2^40 ms, or as many observations, would stay in the histogram for good."""
    found = between(histogram(0, 0, 0), now)["a"]
    assert (found.latency_ms, found.keeps_latency) == (None, True)


def test_bounds_in_seconds_are_whole_milliseconds_where_they_are() -> None:
    page = 'lat_bucket{d="a",le="1.001"} 1\nlat_bucket{d="a",le="x"} 1\nlat_count{d="a"} 1\nlat_sum{d="a"} 1\n'
    assert next(iter(read(page)["a"].latency.values())).buckets.keys() == {1001.0, math.inf}
