"""The text format: what is read, what is refused and how, and that prometheus_client reads the same."""

from __future__ import annotations

import math
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st
from prometheus_client.parser import text_string_to_metric_families

from collector.sources.prometheus_text import BadText, Family, Point, parse, read_samples, to_number
from tests.memory import most_resident

PAGE = r"""# HELP jobs_total Jobs done,\nby "queue", in C:\\jobs.
# TYPE jobs_total counter
jobs_total{queue="a\"b\\c\nd",} 17
  jobs_total { queue = "b" }	1.5e-3
# A remark, and an empty line.

#TYPE up gauge
up{}+Inf
# UNIT up bogus
nothing_said NaN
# TYPE t histogram
t_bucket{le="+Inf"} 2
t_count 2
t_sum -0.5
# HELP unused No samples.
"""


def test_a_page_is_its_families_with_their_lines() -> None:
    jobs, up, nothing, t = parse(PAGE)
    assert jobs == Family(
        "jobs_total", "counter", 'Jobs done,\nby "queue", in C:\\jobs.', "",
        [
            Point("jobs_total", {"queue": 'a"b\\c\nd'}, 17.0, 3),
            Point("jobs_total", {"queue": "b"}, 0.0015, 4),
        ],
        typed=True,
    )  # fmt: skip
    assert (up.kind, up.unit, up.points) == ("gauge", "bogus", [Point("up", {}, math.inf, 8)])
    assert (nothing.kind, nothing.help) == ("untyped", None)
    assert math.isnan(nothing.points[0].value)
    assert [point.name for point in t.points] == ["t_bucket", "t_count", "t_sum"]


def test_names_in_quotes_are_those_beyond_the_classic_characters() -> None:
    text = '# HELP "a.b" A.\n# TYPE "a.b" gauge\n{"a.b"} 1\n { "a.b" , "c d"="2", e = "3", } 4\nx{"é\\n"="5"} 6\n'
    dotted, x = parse(text)
    assert (dotted.name, dotted.kind, dotted.help) == ("a.b", "gauge", "A.")
    assert [(point.labels, point.value) for point in dotted.points] == [({}, 1.0), ({"c d": "2", "e": "3"}, 4.0)]
    assert x.points == [Point("x", {"é\n": "5"}, 6.0, 5)]


def test_an_empty_text_has_no_families() -> None:
    assert parse("") == []
    assert parse("# nothing\n\n") == []


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ("x 1", "line 1: the last line has no newline"),
        ("x 1\ny 2", "line 2: the last line has no newline"),
        ("x 1 2 3\n", "line 1: '2' follows the value of x"),
        ("x 1 # remark\n", "line 1: '#' follows the value of x"),
        ("x\n", "line 1: there is no value after x"),
        ("x{} \n", "line 1: there is no value after x"),
        ("x 1\r\n", r"line 1: the value '1\\r' is not a number"),
        ("1x 1\n", "line 1: it does not begin with a metric name: '1x 1'"),
        ('{"x" 1\n', "line 1: it does not begin with a metric name"),
        ('{a="1"} 1\n', "line 1: it does not begin with a metric name"),
        ('{"x","y"} 1\n', "line 1: its labels can't be read"),
        ('# TYPE "" gauge\n', "line 1: TYPE is of '\"\"', which is not a metric name"),
        ("x-y 1\n", "line 1: '-' follows the metric name x"),
        ("é 1\n", "line 1: it does not begin with a metric name"),
        ('x{a="1"\n', "line 1: its labels can't be read from 'a=\"1\"'"),
        ('x{a="1" b="2"} 1\n', "line 1: its labels can't be read"),
        ("x{,} 1\n", "line 1: its labels can't be read from ',} 1'"),
        ('x{a="1",,} 1\n', "line 1: its labels can't be read"),
        ("x{a='1'} 1\n", "line 1: its labels can't be read"),
        (r'x{a="\t"} 1' + "\n", "line 1: its labels can't be read"),
        ('x{a="1",a="2"} 1\n', "line 1: the label a twice"),
        ("x 0x10\n", "line 1: the value '0x10' is not a number"),
        ("x 1_000\n", "line 1: the value '1_000' is not a number"),
        ("x ١\n", "line 1: the value '١' is not a number"),
        ("x 1e999\n", "line 1: the value '1e999' is beyond float64"),
        ("x ++1\n", r"line 1: the value '\+\+1' is not a number"),
        ("# TYPE x number\n", "line 1: the type of x is 'number'; give one of counter, gauge"),
        ("# TYPE x\n", "line 1: the type of x is ''"),
        ("# TYPE x gauge\n# TYPE x gauge\n", "line 2: a second TYPE of x"),
        ("# HELP x\n# HELP x\n", "line 2: a second HELP of x"),
        ("x 1\n# TYPE x gauge\n", "line 2: the TYPE of x is after its samples"),
        ("# TYPE x-y gauge\n", "line 1: TYPE is of 'x-y', which is not a metric name"),
        ("# HELP x \\t\n", r"line 1: the escape \\t in a HELP"),
        ("# HELP x \\\n", r"line 1: the escape \\ in a HELP"),
    ],
)
def test_what_is_wrong_is_named_with_its_line(text: str, said: str) -> None:
    with pytest.raises(BadText, match=said):
        parse(text)


def test_a_name_with_an_ending_belongs_to_its_family_only_where_that_has_such_samples() -> None:
    text = "# TYPE a histogram\n# TYPE b summary\n# TYPE c gauge\na_bucket 1\nb_bucket 1\nb_count 1\nc_count 1\n"
    assert {one.name: [point.name for point in one.points] for one in parse(text)} == {
        "a": ["a_bucket"], "b": ["b_count"], "b_bucket": ["b_bucket"], "c_count": ["c_count"],
    }  # fmt: skip


def _refused(text: str) -> str:
    """Why it is, empty where it is read."""
    try:
        parse(text)
    except BadText as error:
        return str(error)
    return ""


@pytest.mark.parametrize(
    "line",
    ["x{" + 'a="' * 200_000, 'x{a="' + "\\\\" * 200_000, " " * 400_000, "# HELP x " + "\\\\" * 200_000 + "\\",
     "x" * 400_000, "x 1" + " " * 400_000 + "y", "# " * 200_000, "x " + "1" * 400_000 + "x"],
)  # fmt: skip
def test_a_long_line_costs_no_more_than_its_length(line: str) -> None:
    """Patterns that try one thing in two ways would take hours."""
    assert len(_refused(f"{line}\n")) < 1000


# ---- the samples of some names -------------------------------------------------------------------------------

DOCUMENTED = r"""# HELP http_requests_total The total number of HTTP requests.
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


def read(text: str, *wanted: str) -> list[Point]:
    return list(read_samples(text, wanted))


def test_the_wanted_samples_of_a_page_are_read_with_their_lines_and_without_their_timestamps() -> None:
    assert read(DOCUMENTED, "http_requests_total", "msdos_file_access_time_seconds") == [
        Point("http_requests_total", {"method": "post", "code": "200"}, 1027.0, 3),
        Point("http_requests_total", {"method": "post", "code": "400"}, 3.0, 4),
        Point(
            "msdos_file_access_time_seconds",
            {"path": "C:\\DIR\\FILE.TXT", "error": 'Cannot find file:\n"FILE.TXT"'},
            1458255915.0,
            7,
        ),
    ]
    assert read(DOCUMENTED, "metric_without_timestamp_and_labels", "something_weird", "none_such") == [
        Point("metric_without_timestamp_and_labels", {}, 12.47, 10),
        Point("something_weird", {"problem": "division by zero"}, math.inf, 13),
    ]


@pytest.mark.parametrize(
    ("line", "labels", "value"),
    [
        ("a 1", {}, 1.0),
        ("  a\t1\t5", {}, 1.0),
        ("a{} 1", {}, 1.0),
        ('a{b="c",} 1', {"b": "c"}, 1.0),
        ('a { b = "c" , d = "" } 1 ', {"b": "c", "d": ""}, 1.0),
        ('a{b="}"} .5e1', {"b": "}"}, 5.0),
        ('a{b="c"}1.', {"b": "c"}, 1.0),
    ],
)
def test_what_the_format_allows_is_read(line: str, labels: dict[str, str], value: float) -> None:
    assert read(line + "\n", "a") == [Point("a", labels, value, 1)]


@pytest.mark.parametrize(
    "line",
    ["a", "a x", "a 1_0", "a \u0663", "a 0x10", "a 1 2 3", "a 1 x", "a{", "a{b} 1", 'a{b="c} 1', "a 1\r",
     'a{b="c" d="e"} 1', "a{,} 1", 'a{b="c",,} 1', "a{b='c'} 1", 'a{1="c"} 1', 'a{b="c"}', 'a{b="c"} 1 x', "a-b 1",
     "<html>", "{} 1", "1 2", "\x00", "  <p>"],
)  # fmt: skip
def test_a_line_that_is_not_of_the_format_is_refused_with_its_number(line: str) -> None:
    with pytest.raises(BadText, match=r"line 3: "):
        read(f"b 1\n\n{line}\na 1\n", "a")


def test_of_lines_that_are_not_wanted_only_the_beginning_is_looked_at() -> None:
    assert read('b{c="} x\n# TYPE a a a\n\n \n\t# x\na 1\n', "a") == [Point("a", {}, 1.0, 6)]


def test_names_that_only_begin_like_a_wanted_one_are_others() -> None:
    assert read("ab 1\na_total 2\na:b 3\na 4\n", "a") == [Point("a", {}, 4.0, 4)]
    assert [point.name for point in read("a 1\na_total 2\n", "a", "a_total")] == ["a", "a_total"]


def test_a_page_that_breaks_off_in_mid_line_or_has_no_samples_is_refused() -> None:
    with pytest.raises(BadText, match="line 2: it breaks off in mid-line"):
        read("a 1\na 2", "a")
    for text in ("", "\n", "# HELP a A.\n"):
        with pytest.raises(BadText, match="it has no samples"):
            read(text, "a")
    assert read("b 1\n", "a") == []


def test_the_lines_of_a_page_are_bounded() -> None:
    assert read("b 1\n" + "\n" * 199_998, "a") == []
    with pytest.raises(BadText, match="more than 200000 lines"):
        read("b 1\n" + "\n" * 200_000, "a")


_SETUP = "from collector.sources.prometheus_text import BadText, read_samples"
_READ = """
with contextlib.suppress(BadText):
    for _ in read_samples(given.decode(), ["a"]):
        pass
"""


def test_a_page_takes_no_more_memory_than_a_few_times_its_size() -> None:
    for text in ("\n" * 1_000_000, "b 1\n" * 250_000, "#" * 1_000_000 + "\n", 'a{b="' + "x" * 1_000_000 + '"} 1\n'):
        assert most_resident(_SETUP, _READ, text.encode()) < 8 * 2**20


def test_a_number_is_decimal_or_infinity_or_nan() -> None:
    assert [to_number(text) for text in ("0.005", "1e3", "+Inf", "x", "", "1_0", " 1")] == [
        0.005, 1000.0, math.inf, None, None, None, None,
    ]  # fmt: skip
    assert math.isnan(to_number("NaN") or 0)


# ---- against prometheus_client -----------------------------------------------------------------------------------

_names = st.from_regex(r"[a-zA-Z_:][a-zA-Z0-9_:]{0,8}", fullmatch=True)
_label_names = st.from_regex(r"[a-zA-Z][a-zA-Z0-9_]{0,5}", fullmatch=True)
# Of control characters the other parser takes some for blanks.
_texts = st.text(st.characters(exclude_categories=("Cs", "Cc", "Zs", "Zl", "Zp"), include_characters='\n"\\{},= '))
_values = st.floats() | st.integers(-(10**6), 10**6).map(float)


@st.composite
def _pages(draw: st.DrawFn) -> str:
    lines = []
    for name in draw(st.lists(_names, unique=True, max_size=4)):
        if draw(st.booleans()):
            text = draw(_texts).strip()
            lines.append(f"# HELP {name} " + text.replace("\\", "\\\\").replace("\n", "\\n"))
        if draw(st.booleans()):
            lines.append(f"# TYPE {name} {draw(st.sampled_from(['gauge', 'untyped']))}")
        for labels in draw(st.lists(st.dictionaries(_label_names, _texts, max_size=3), max_size=3)):
            pairs = (
                '{}="{}"'.format(label, text.replace("\\", "\\\\").replace('"', '\\"').replace("\n", "\\n"))
                for label, text in labels.items()
            )
            value = draw(_values)
            lines.append(f"{name}{{{','.join(pairs)}}} {value!r}" if labels else f"{name} {value!r}")
    return "".join(f"{line}\n" for line in lines)


@given(_pages())
def test_prometheus_client_reads_the_same_of_a_valid_page(page: str) -> None:
    ours: list[Any] = [
        (point.name, tuple(sorted(point.labels.items())), repr(point.value))
        for family in parse(page)
        for point in family.points
    ]
    theirs: list[Any] = [
        (sample.name, tuple(sorted(sample.labels.items())), repr(float(sample.value)))
        for family in text_string_to_metric_families(page)
        for sample in family.samples
    ]
    assert sorted(ours) == sorted(theirs)
    names = {name for name, _, _ in ours}
    assert ours == [] or sorted(ours) == sorted(
        (point.name, tuple(sorted(point.labels.items())), repr(point.value)) for point in read(page, *names)
    )
    helps = {one.name: one.help or "" for one in parse(page)}
    for family in text_string_to_metric_families(page):
        if family.samples:
            assert helps[family.name] == family.documentation


@given(st.text())
def test_whatever_the_text_it_is_read_or_refused_with_a_line(text: str) -> None:
    said = _refused(text)
    assert said == "" or 1 <= int(said.split(":")[0].removeprefix("line ")) <= text.count("\n") + 1
