"""Headers as clients really send them, and as nobody should."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from exporter.http.negotiation import Format, accepts_gzip, negotiate

PROMETHEUS_2 = (
    "application/openmetrics-text;version=1.0.0,application/openmetrics-text;version=0.0.1;q=0.75,"
    "text/plain;version=0.0.4;q=0.5,*/*;q=0.1"
)
PROMETHEUS_3 = (
    "application/openmetrics-text;version=1.0.0;escaping=allow-utf-8;q=0.6,application/openmetrics-text;version=0.0.1;"
    "q=0.5,text/plain;version=1.0.0;escaping=allow-utf-8;q=0.4,text/plain;version=0.0.4;q=0.3,*/*;q=0.2"
)
PROMETHEUS_3_PROTOBUF = (
    "application/vnd.google.protobuf;proto=io.prometheus.client.MetricFamily;encoding=delimited;q=0.6,"
    "application/openmetrics-text;version=1.0.0;escaping=allow-utf-8;q=0.5,application/openmetrics-text;version=0.0.1;"
    "q=0.4,text/plain;version=1.0.0;escaping=allow-utf-8;q=0.3,text/plain;version=0.0.4;q=0.2,*/*;q=0.1"
)
FIREFOX = "text/html,application/xhtml+xml,application/xml;q=0.9,image/avif,image/webp,*/*;q=0.8"
CHROME = FIREFOX + ",application/signed-exchange;v=b3;q=0.7"


@pytest.mark.parametrize(
    "accept",
    [
        PROMETHEUS_2,
        PROMETHEUS_3,
        PROMETHEUS_3_PROTOBUF,
        "application/openmetrics-text",
        "application/openmetrics-text; version=1.0.0; charset=utf-8",
        "application/openmetrics-text;version=0.0.1",
        'Application/OpenMetrics-Text ; Version="1.0.0" ; Q=0.5 , text/plain;q=0.5',
        "application/openmetrics-text;q=0.5,text/plain;q=0.4,*/*;q=0.9",
        "application/openmetrics-text;q=0.5,text/plain;version=9.9.9;q=0.9",
        "application/openmetrics-text;version=2.0.0;q=0.9,application/openmetrics-text;version=1.0.0;q=0.3",
        "application/openmetrics-text;q=0.001",
        "application/openmetrics-text;q=0.6,application/openmetrics-text;version=0.0.1;q=0.1,text/plain;q=0.5",
        ",,application/openmetrics-text,,",
    ],
)
def test_openmetrics_is_for_those_who_name_it_and_do_not_prefer_text(accept: str) -> None:
    assert negotiate(accept).form is Format.OPENMETRICS


@pytest.mark.parametrize(
    "accept",
    [
        "",
        "*/*",
        FIREFOX,
        CHROME,
        "text/plain",
        "application/*",
        "application/json",
        "text/plain;version=0.0.4;q=0.5,application/openmetrics-text;q=0.4",
        "text/*;q=0.5,application/openmetrics-text;q=0.4",
        "*/*;q=0.5,application/openmetrics-text;q=0.4",
        "text/plain;q=0.2,text/plain;q=0.6,application/openmetrics-text;q=0.5",
        "text/plain;q=0.6,text/plain;q=0.2,application/openmetrics-text;q=0.5",
        "application/openmetrics-text;version=2.0.0",
        "application/openmetrics-text;q=0",
        "application/openmetrics-text;q=0.000",
        "application/openmetrics-text;q=2",
        "application/openmetrics-text;q=-1",
        "application/openmetrics-text;q=nan",
        "application/openmetrics-text;q=inf",
        "application/openmetrics-text;q=0.5555",
        "application/openmetrics-text;q=1.5",
        "application/openmetrics-text;q=",
        "application/openmetrics-text;q=0.5\n",
        "application/openmetrics-text;q=٠",
        "application/openmetrics-textual",
        "xapplication/openmetrics-text",
        "application/openmetrics-text/x",
    ],
)
def test_text_is_the_answer_to_silence_wildcards_preference_and_nonsense(accept: str) -> None:
    assert negotiate(accept).form is Format.TEXT


TEXT_1 = "text/plain;version=1.0.0;escaping={};q={}"


@pytest.mark.parametrize(
    ("accept", "content_type"),
    [
        (PROMETHEUS_2, "application/openmetrics-text; version=1.0.0; charset=utf-8; escaping=underscores"),
        (PROMETHEUS_3, "application/openmetrics-text; version=1.0.0; charset=utf-8; escaping=allow-utf-8"),
        (PROMETHEUS_3_PROTOBUF, "application/openmetrics-text; version=1.0.0; charset=utf-8; escaping=allow-utf-8"),
        (
            "application/openmetrics-text;version=0.0.1",
            "application/openmetrics-text; version=0.0.1; charset=utf-8; escaping=underscores",
        ),
        (
            "application/openmetrics-text;escaping=dots",
            "application/openmetrics-text; version=1.0.0; charset=utf-8; escaping=dots",
        ),
        ("", "text/plain; version=0.0.4; charset=utf-8"),
        ("text/plain;version=0.0.4;escaping=underscores", "text/plain; version=0.0.4; charset=utf-8"),
        ("text/plain;escaping=values", "text/plain; version=0.0.4; charset=utf-8; escaping=values"),
        (TEXT_1.format("allow-utf-8", 1), "text/plain; version=1.0.0; charset=utf-8; escaping=allow-utf-8"),
        (TEXT_1.format("ALLOW-UTF-8", 1), "text/plain; version=1.0.0; charset=utf-8; escaping=allow-utf-8"),
        (TEXT_1.format("\x00", 1), "text/plain; version=1.0.0; charset=utf-8; escaping=underscores"),
        ("text/plain;version=1.0.0", "text/plain; version=1.0.0; charset=utf-8; escaping=underscores"),
        (
            TEXT_1.format("values", 0.4) + ",text/plain;version=0.0.4;q=0.3,*/*;q=0.2",
            "text/plain; version=1.0.0; charset=utf-8; escaping=values",
        ),
        (TEXT_1.format("values", 0.3) + ",text/plain;version=0.0.4;q=0.4", "text/plain; version=0.0.4; charset=utf-8"),
        (TEXT_1.format("values", 0), "text/plain; version=0.0.4; charset=utf-8"),
        (
            "application/openmetrics-text;escaping=dots;q=0.1," + TEXT_1.format("values", 0.2),
            "text/plain; version=1.0.0; charset=utf-8; escaping=values",
        ),
        ("text/plain;version=1.0.1;escaping=dots", "text/plain; version=0.0.4; charset=utf-8"),
    ],
)
def test_version_and_escaping_are_those_of_the_element_that_weighs_most(accept: str, content_type: str) -> None:
    assert negotiate(accept).content_type == content_type


@pytest.mark.parametrize(
    ("accept_encoding", "accepted"),
    [
        ("gzip", True),
        ("gzip, deflate, br, zstd", True),
        ("deflate, GZIP;q=0.5", True),
        ("x-gzip", True),
        ("*", True),
        ("*;q=0.1", True),
        ("br;q=1.0, gzip;q=0.001", True),
        ("gzip ; q=1.000", True),
        ("", False),
        ("identity", False),
        ("br, zstd", False),
        ("gzip;q=0", False),
        ("gzip;q=0.000", False),
        ("gzip; q=0", False),
        ("gzip;q=0, *", False),
        ("*, gzip;q=0", False),
        ("*;q=0", False),
        ("gzip;q=x", False),
        ("gzip2", False),
        ("gzip deflate", False),
    ],
)
def test_gzip_needs_a_weight_above_zero_by_name_or_by_star(accept_encoding: str, accepted: bool) -> None:
    assert accepts_gzip(accept_encoding) is accepted


@given(st.text(st.sampled_from('gziptextplain/openmetrics*;=,q01."\\ \t\n\x00é'), max_size=200))
def test_garbage_never_raises(header: str) -> None:
    assert negotiate(header).form in Format
    assert accepts_gzip(header) in (True, False)


@pytest.mark.parametrize("piece", [",", ";", "=", '"', "q=", "*/*;", ";q=0.", "a,", " ", "\\", "text/plain;q=0.0,"])
def test_64_kib_of_garbage_is_text_without_gzip(piece: str) -> None:
    header = piece * (65_536 // len(piece))
    assert negotiate(header).form is Format.TEXT
    assert accepts_gzip(header) is False
