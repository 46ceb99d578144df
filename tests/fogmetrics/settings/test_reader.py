from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import pytest

from fogmetrics.durations import Seconds
from fogmetrics.settings.reader import Where, key, other_keys, read_partly, read_table
from shm.errors import ConfigurationError

WHERE = Where("fog.toml", "source.app")


@dataclass(frozen=True)
class Page:
    url: str = key("", "Where to ask.")
    buckets: tuple[float, ...] = key((), "Bounds.", low=0, high=9)


@dataclass(frozen=True)
class Options:
    urls: tuple[str, ...] = key((), "Where to ask.")
    limit: float | None = key(None, "At most.", low=0, high=10)
    ports: tuple[int, ...] | None = key(None, "Ports.", low=1, high=65535)
    order: str = key("up", "Order.", choices=("up", "down"), removed={"random": 'which was removed; give "up"'})
    class_: str = key("", "Class.")
    front: Page = key(Page(), "The first page.")
    page: Mapping[str, Page] = key({}, "Pages by name.")
    cadence: Mapping[str, Seconds] = key({}, "Time by group.", low=0, high=100)
    row: tuple[Page, ...] = key((), "Pages in their order.")


@dataclass(frozen=True)
class Open:
    limit: int = key(1, "At most.")
    options: Mapping[str, Any] = other_keys()


@pytest.mark.parametrize(
    ("table", "options"),
    [
        ({}, Options()),
        ({"urls": ["a", "b"], "limit": 3}, Options(("a", "b"), 3.0)),
        ({"ports": [80], "class": "a:B"}, Options(ports=(80,), class_="a:B")),
        ({"front": {"url": "u"}}, Options(front=Page("u"))),
        (
            {"page": {"a": {"url": "u"}, "b c": {"buckets": [1]}}},
            Options(page={"a": Page("u"), "b c": Page("", (1.0,))}),
        ),
        ({"row": [{"url": "u"}, {}]}, Options(row=(Page("u"), Page()))),
        ({"cadence": {"filesystem": 60, "hwmon": 1.5}}, Options(cadence={"filesystem": 60.0, "hwmon": 1.5})),
    ],
)
def test_each_key_is_read_into_the_field_of_its_name(table: dict[str, Any], options: Options) -> None:
    assert read_table(Options, table, WHERE) == options


@pytest.mark.parametrize(
    ("table", "says"),
    [
        ({"urls": "a"}, """[source.app] urls is 'a'; give a list, such as ["text"]"""),
        ({"urls": [1]}, "urls is 1; give a string"),
        ({"limit": 11}, "limit is 11; give a number from 0 to 10. At most."),
        ({"limit": True}, "limit is true; give a number, such as 1.5"),
        ({"ports": [0]}, "ports is 0; give a number from 1 to 65535"),
        ({"order": "left"}, "order is 'left'; give one of up, down"),
        ({"order": "random"}, """order is 'random', which was removed; give "up\""""),
        ({"url": "x"}, "[source.app] has no key 'url'; did you mean 'urls'?"),
        (
            {"zzz": "x"},
            "[source.app] has no key 'zzz'; the keys are urls, limit, ports, order, class, front, page, cad",
        ),
        ({"front": 1}, "fog.toml: [source.app] front is 1; make it a table: [source.app.front]"),
        ({"front": {"ulr": 1}}, "fog.toml: [source.app.front] has no key 'ulr'; did you mean 'url'?"),
        ({"page": ["a"]}, "fog.toml: [source.app] page is ['a']; make it a table: [source.app.page.NAME]"),
        ({"page": {"a": 1}}, "fog.toml: [source.app.page] a is 1; make it a table: [source.app.page.a]"),
        ({"page": {"a": {"url": 1}}}, "fog.toml: [source.app.page.a] url is 1; give a string"),
        (
            {"page": {"b c": {"buckets": [10]}}},
            'fog.toml: [source.app.page."b c"] buckets is 10; give a number from 0',
        ),
        ({"row": "u"}, "fog.toml: [source.app] row is 'u'; give a list, such as [{name = VALUE}]"),
        ({"row": ["u"]}, "fog.toml: [source.app] row is 'u'; make it a table: [source.app.row]"),
        ({"cadence": ["a=1"]}, "fog.toml: [source.app] cadence is ['a=1']; make it a table: [source.app.cadence]"),
        ({"cadence": {"a": 101}}, "fog.toml: [source.app.cadence] a is 101; give a duration from 0 to 1m40s."),
    ],
)
def test_what_is_wrong_is_refused_with_file_table_key_value_and_remedy(table: dict[str, Any], says: str) -> None:
    with pytest.raises(ConfigurationError, match=re.escape(says)):
        read_table(Options, table, WHERE)


@pytest.mark.parametrize("given", [15, 15.0, "15", "15s", "15000ms", "15.0"])
def test_a_duration_is_a_number_of_seconds_or_a_text(given: object) -> None:
    assert read_table(Options, {"cadence": {"a": given}}, WHERE).cadence == {"a": 15.0}


@pytest.mark.parametrize("given", ["15 s", "1.5h", "", "soon", None, [15], "-1s", "1s1m"])
def test_what_is_no_duration_is_refused_with_the_ways_to_write_one(given: object) -> None:
    says = f'[source.app.cadence] a is {given!r}; give a duration, such as 15, "15s" or "1h30m"'
    with pytest.raises(ConfigurationError, match=re.escape(says)):
        read_table(Options, {"cadence": {"a": given}}, WHERE)


def test_all_mistakes_of_a_table_are_named_at_once_and_the_other_keys_are_read() -> None:
    mistakes: list[str] = []
    table = {"limit": 11, "urls": ["a", 1, 2], "zzz": 0, "front": {"url": 1}, "page": {"a": {"ulr": 1}, "b": 2}}
    found = read_partly(Options, {**table, "class": "a:B", "ports": [80]}, WHERE, mistakes)
    starts = ["limit is 11;", "urls is 1;", "urls is 2;", "has no key 'zzz';"]
    starts = [f"fog.toml: [source.app] {one}" for one in starts]
    starts += ["fog.toml: [source.app.front] url is 1;", "fog.toml: [source.app.page.a] has no key 'ulr';"]
    starts += ["fog.toml: [source.app.page] b is 2;"]
    assert [one for one in starts if sum(said.startswith(one) for said in mistakes) != 1] == []
    assert len(mistakes) == len(starts)
    assert found == Options(class_="a:B", ports=(80,), page={"a": Page()})
    with pytest.raises(ConfigurationError) as raised:
        read_table(Options, table, WHERE)
    assert list(raised.value.args) == mistakes
    assert str(raised.value) == "\n".join(mistakes)


def test_keys_that_no_field_has_are_kept_where_the_class_takes_them() -> None:
    assert read_table(Open, {"limit": 2, "depth": 3}, WHERE) == Open(2, {"depth": 3})
