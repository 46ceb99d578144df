"""Two files beside one another: what they may share, and that a family that differs is refused."""

from __future__ import annotations

import pytest

from collector.metrics import OWN, TEXTFILE
from collector.sources.prometheus_text import BadText, parse
from collector.sources.textfile.merge import Merged
from collector.sources.textfile.translation import translate

FIRST = '# TYPE x gauge\nx{a="1",b="1"} 1\n# TYPE h histogram\nh_bucket{le="1"} 1\nh_sum 1\nh_count 1\n'


def merged(*texts: str, most: int = 100) -> Merged:
    found = Merged((*OWN, *TEXTFILE), most)
    for number, text in enumerate(texts, 1):
        take(found, f"{number}.prom", text)
    return found


def take(found: Merged, file: str, text: str) -> None:
    families, errors = translate(parse(text), "Read.")
    assert errors == []
    for family in families:
        found.take(file, family)


def test_files_share_a_metric_and_the_first_help_is_taken() -> None:
    found = merged(FIRST, '# HELP x Said.\n# TYPE x gauge\nx{b="2",a="1"} 2\n')
    assert [sample.value for sample in found.samples] == [1, None, 2]
    assert found.metrics["x"].help == "Read."
    assert found.metrics["x"].label_names == ("a", "b")


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ('x{a="1",b="2"} 2\n', r"line 1: x is of type untyped with the labels \(a, b\), but in 1.prom gauge with"),
        ('# TYPE x gauge\nx{a="1"} 2\n', r"line 2: x is of type gauge with the labels \(a\), but in 1.prom .*b\)"),
        ('# TYPE x gauge\nx{b="1",a="1"} 2\n', "line 2: a series of x is in 1.prom too"),
        ("h_count 2\n", "line 1: the name h_count belongs to the histogram h of 1.prom; rename one"),
        ('# TYPE h histogram\nh_bucket{le="2"} 1\nh_sum 1\nh_count 1\n', "line 2: h is of type .* the buckets 2, but"),
        ("collector_up 1\n", "line 1: the name collector_up belongs to the gauge collector_up of fogmetrics itself"),
        ("node_textfile_scrape_error 1\n", "line 1: the name node_textfile_scrape_error belongs to the gauge"),
        ("# TYPE y_total counter\ny_total 1\ny 1\n", "line 3: the name y belongs to the counter y_total of 2.prom"),
    ],
)  # fmt: skip
def test_a_family_that_differs_is_refused_as_a_whole(text: str, said: str) -> None:
    before = merged(FIRST)
    with pytest.raises(BadText, match=said):
        take(before, "2.prom", text)
    assert set(before.metrics) <= {"x", "h", "y_total"}
    assert [sample.value for sample in before.samples][:2] == [1, None]


def test_of_a_family_with_a_name_that_is_taken_nothing_is_kept() -> None:
    summary = '# TYPE s summary\ns{quantile="0.5"} 1\ns_count 1\ns_sum 1\n'
    before = merged("# TYPE s_sum gauge\ns_sum 1\n")
    with pytest.raises(BadText, match=r"s_sum is of type untyped .* but in 1.prom gauge"):
        take(before, "2.prom", summary)
    assert list(before.metrics) == ["s_sum"]
    take(before, "3.prom", "s 1\n")


def test_samples_of_all_files_are_bounded() -> None:
    assert len(merged("a 1\nb 1\n", "c 1\n", most=3).samples) == 3
    with pytest.raises(BadText, match="there would be more than 3"):
        merged("a 1\nb 1\n", "c 1\nd 1\n", most=3)
