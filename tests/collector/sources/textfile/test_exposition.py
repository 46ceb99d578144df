"""The parser of text files: what it reads, what it refuses and how, and that prometheus_client reads the same."""

from __future__ import annotations

import math
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st
from prometheus_client.parser import text_string_to_metric_families

from collector.sources.textfile.exposition import BadText, Family, Point, parse

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


def test_an_empty_text_has_no_families() -> None:
    assert parse("") == []
    assert parse("# nothing\n\n") == []


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ("x 1", "line 1: the end of the last line is missing"),
        ("x 1\ny 2", "line 2: the end of the last line is missing"),
        ("\nx 1 1700000000000\n", r"line 2: x has the timestamp '1700000000000'; leave it out"),
        ("x 1 2 3\n", "line 1: behind the value of x stands '2'"),
        ("x 1 # remark\n", "line 1: behind the value of x stands '#'"),
        ("x\n", "line 1: there is no value behind x"),
        ("x{} \n", "line 1: there is no value behind x"),
        ("x 1\r\n", r"line 1: the value '1\\r' is no number"),
        ("1x 1\n", "line 1: it does not begin with a metric name: '1x 1'"),
        ("x-y 1\n", "line 1: behind the metric name x stands '-'"),
        ("é 1\n", "line 1: it does not begin with a metric name"),
        ('x{a="1"\n', "line 1: its labels can't be read from 'a=\"1\"'"),
        ('x{a="1" b="2"} 1\n', "line 1: its labels can't be read"),
        ("x{,} 1\n", "line 1: its labels can't be read from ',} 1'"),
        ('x{a="1",,} 1\n', "line 1: its labels can't be read"),
        ("x{a='1'} 1\n", "line 1: its labels can't be read"),
        (r'x{a="\t"} 1' + "\n", "line 1: its labels can't be read"),
        ('x{a="1",a="2"} 1\n', "line 1: the label a twice"),
        ("x 0x10\n", "line 1: the value '0x10' is no number"),
        ("x 1_000\n", "line 1: the value '1_000' is no number"),
        ("x ١\n", "line 1: the value '١' is no number"),
        ("x 1e999\n", "line 1: the value '1e999' is beyond float64"),
        ("x ++1\n", r"line 1: the value '\+\+1' is no number"),
        ("# TYPE x number\n", "line 1: the type of x is 'number'; give one of counter, gauge"),
        ("# TYPE x\n", "line 1: the type of x is ''"),
        ("# TYPE x gauge\n# TYPE x gauge\n", "line 2: a second TYPE of x"),
        ("# HELP x\n# HELP x\n", "line 2: a second HELP of x"),
        ("x 1\n# TYPE x gauge\n", "line 2: the TYPE of x is behind its samples"),
        ("# TYPE x-y gauge\n", "line 1: TYPE is of 'x-y', which is no metric name"),
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
    """Patterns that try one thing in two ways would take hours, and the limit on each test would end them."""
    assert len(_refused(f"{line}\n")) < 1000


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
    helps = {one.name: one.help or "" for one in parse(page)}
    for family in text_string_to_metric_families(page):
        if family.samples:
            assert helps[family.name] == family.documentation


@given(st.text())
def test_whatever_the_text_it_is_read_or_refused_with_a_line(text: str) -> None:
    said = _refused(text)
    assert said == "" or 1 <= int(said.split(":")[0].removeprefix("line ")) <= text.count("\n") + 1
