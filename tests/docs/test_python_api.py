"""The examples of docs/python-api.md print what the page says."""

from __future__ import annotations

import contextlib
import inspect
import io
from typing import Any

import pytest

import fogmetrics
from fogmetrics import MetricAggregator
from tests.docs.markdown import blocks, read, table


def test_every_example_prints_what_stands_below_it(namespace: str) -> None:
    names: dict[str, Any] = {"__name__": "docs"}
    checked = 0
    found = blocks(read("docs/python-api.md"), "python", "text")
    for code, output in zip(found[::2], found[1::2], strict=True):
        assert (code.language, output.language) == ("python", "text")
        printed = io.StringIO()
        with contextlib.redirect_stdout(printed):
            exec(compile(_in(namespace, code.text), "docs/python-api.md", "exec"), names)
        assert printed.getvalue() == output.text
        checked += 1
    assert checked == 4


def _in(namespace: str, code: str) -> str:
    """The example in a namespace of the test's own: the page's may be in use on this host."""
    return code.replace('("queues", ', f'("queues", namespace={namespace!r}, ').replace(
        f'namespace={namespace!r}, "queue_depth", ', f'"queue_depth", namespace={namespace!r}, '
    )


def test_the_table_names_what_the_package_has() -> None:
    rows = table(read("docs/python-api.md"), "name", "what it is")
    named = {name.strip("` ") for row in rows for name in row["name"].split(",")}
    assert named == set(fogmetrics.__all__)
    for name in fogmetrics.__all__:
        assert getattr(fogmetrics, name) is not None


def test_the_methods_take_what_the_table_says() -> None:
    for row in table(read("docs/python-api.md"), "method", "gives"):
        name, _, arguments = row["method"].rstrip(")").partition("(")
        parameters = list(inspect.signature(getattr(MetricAggregator, name)).parameters.values())[1:]
        said = [
            one.name if one.default is one.empty else f"{one.name}={one.default:g}" if isinstance(one.default, float)
            else f"{one.name}={one.default}" for one in parameters
        ]  # fmt: skip
        assert ", ".join(said) == arguments


def test_a_name_that_the_package_lacks_is_an_error_that_lists_what_it_has() -> None:
    with pytest.raises(AttributeError, match=r"has no attribute 'Collector'; it has .*MetricCollector"):
        fogmetrics.Collector  # noqa: B018
