"""The text format, read as Prometheus' own library reads it, within bounds that each refuse what is beyond them."""

from __future__ import annotations

import contextlib
import math

import pytest
from hypothesis import given
from hypothesis import strategies as st
from prometheus_client import CollectorRegistry, Counter, generate_latest
from prometheus_client.parser import text_string_to_metric_families

from collector.sources.deployment.prometheus_text import TextSample, bound, read_samples
from tests.memory import most_resident


def read(text: str, *wanted: str) -> list[TextSample]:
    return list(read_samples(text.encode(), wanted))


def test_the_example_of_the_documentation_is_read() -> None:
    text = r"""# HELP http_requests_total The total number of HTTP requests.
# TYPE http_requests_total counter
http_requests_total{method="post",code="200"} 1027 1395066363000
http_requests_total{method="post",code="400"}    3 1395066363000

# Escaping in label values:
msdos_file_access_time_seconds{path="C:\\DIR\\FILE.TXT",error="Cannot find file:\n\"FILE.TXT\""} 1.458255915e9

# Minimalistic line:
metric_without_timestamp_and_labels 12.47

# A weird metric from before the epoch:
something_weird{problem="division by zero"} +Inf -3982045
"""
    assert read(text, "http_requests_total", "msdos_file_access_time_seconds") == [
        TextSample("http_requests_total", {"method": "post", "code": "200"}, 1027.0),
        TextSample("http_requests_total", {"method": "post", "code": "400"}, 3.0),
        TextSample(
            "msdos_file_access_time_seconds",
            {"path": "C:\\DIR\\FILE.TXT", "error": 'Cannot find file:\n"FILE.TXT"'},
            1458255915.0,
        ),
    ]
    assert read(text, "metric_without_timestamp_and_labels", "something_weird", "none_such") == [
        TextSample("metric_without_timestamp_and_labels", {}, 12.47),
        TextSample("something_weird", {"problem": "division by zero"}, math.inf),
    ]


@given(st.dictionaries(st.text(max_size=8), st.floats(min_value=0), max_size=5))
def test_what_prometheus_client_writes_is_read_as_it_reads_it_itself(values: dict[str, float]) -> None:
    registry = CollectorRegistry()
    counter = Counter("one", "One.", ["name"], registry=registry)
    for name, value in values.items():
        with contextlib.suppress(UnicodeEncodeError):
            name.encode()
            counter.labels(name).inc(value)
    page = generate_latest(registry) + b"other 1\n"
    known = [
        TextSample(sample.name, sample.labels, sample.value)
        for family in text_string_to_metric_families(page.decode())
        for sample in family.samples
        if sample.name == "one_total"
    ]
    assert list(read_samples(page, ["one_total"])) == known


@pytest.mark.parametrize(
    ("line", "labels", "value"),
    [
        ("a 1", {}, 1.0),
        ("a\t1\t5", {}, 1.0),
        ("a{} 1", {}, 1.0),
        ('a{b="c",} 1', {"b": "c"}, 1.0),
        ('a { b = "c" , d = "" } 1 ', {"b": "c", "d": ""}, 1.0),
        ('a{b="}"} .5e1', {"b": "}"}, 5.0),
        ('a{b="c"}1.', {"b": "c"}, 1.0),
        ("a -Inf\r", {}, -math.inf),
        (r'a{b="\d"} +1e-2', {"b": r"\d"}, 0.01),
    ],
)
def test_what_the_format_allows_is_read(line: str, labels: dict[str, str], value: float) -> None:
    assert read(line + "\n", "a") == [TextSample("a", labels, value)]
    [nan] = read("a NaN\n", "a")
    assert math.isnan(nan.value)


@pytest.mark.parametrize(
    "line",
    ["a", "a x", "a 1_0", "a infinity", "a ٣", "a 0x10", "a 1 2 3", "a 1 2.5", "a{", "a{b} 1", 'a{b="c} 1',
     'a{b="c" d="e"} 1', "a{,} 1", 'a{b="c",,} 1', "a{b='c'} 1", 'a{1="c"} 1', 'a{b="c"}', 'a{b="c"} 1 x', "a-b 1",
     "<html>", "{} 1", " a 1", "1 2", "\x00"],
)  # fmt: skip
def test_a_line_that_is_not_of_the_format_is_refused_with_its_number(line: str) -> None:
    with pytest.raises(ValueError, match="line 2 of its answer is not of Prometheus' text format"):
        read(f"b 1\n{line}\n", "a")


def test_bytes_that_are_no_utf_8_are_refused_where_they_are_wanted() -> None:
    with pytest.raises(ValueError, match="line 1"):
        list(read_samples(b'a{b="\xff"} 1\n', ["a"]))
    assert list(read_samples(b'a{b="\xff"} 1\n', ["b"])) == []


def test_a_page_that_breaks_off_in_mid_line_is_refused() -> None:
    with pytest.raises(ValueError, match="breaks off"):
        read("a 1\na 2", "a")


def test_a_page_without_any_sample_is_refused() -> None:
    for text in ("", "\n", "# HELP a A.\n"):
        with pytest.raises(ValueError, match="no samples"):
            read(text, "a")
    assert read("b 1\n", "a") == []


def test_names_that_only_begin_like_a_wanted_one_are_others() -> None:
    assert read("ab 1\na_total 2\na:b 3\na 4\n", "a") == [TextSample("a", {}, 4.0)]


def test_lines_their_length_and_the_samples_that_are_kept_are_bounded() -> None:
    assert read("b 1\n" + "\n" * 199_999, "a") == []
    with pytest.raises(ValueError, match="more than 200000 lines"):
        read("\n" * 200_001, "a")
    assert read("b 1\n#" + "x" * 65_534 + "\n", "a") == []
    with pytest.raises(ValueError, match="line of more than 65536 bytes"):
        read("#" + "x" * 65_536 + "\n", "a")
    assert len(read("a 1\n" * 30_000, "a")) == 30_000
    with pytest.raises(ValueError, match="more than 30000 samples"):
        read("a 1\n" * 30_001, "a")
    assert read("b 1\n" * 30_001, "a") == []


_SETUP = "from collector.sources.deployment.prometheus_text import read_samples"
_READ = """
with contextlib.suppress(ValueError):
    for _ in read_samples(given, ["a"]):
        pass
"""


def test_a_page_takes_no_more_memory_than_a_few_times_its_size() -> None:
    for text in ("\n" * 1_000_000, "b 1\n" * 250_000, "#" * 1_000_000 + "\n", 'a{b="' + "x" * 1_000_000 + '"} 1\n'):
        assert most_resident(_SETUP, _READ, text.encode()) < 4 * 2**20


def test_a_bound_is_a_number_or_infinity() -> None:
    assert [bound(text) for text in ("0.005", "1e3", "+Inf", "x", "", "NaN", "1_0")] == [
        0.005, 1000.0, math.inf, None, None, None, None,
    ]  # fmt: skip
