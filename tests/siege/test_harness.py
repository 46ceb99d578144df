"""A mutant has its fault in the symbol that it names, and says so where it can't have it."""

from __future__ import annotations

import re
from pathlib import Path
from typing import Any

import pytest

from tests.siege.harness import Mutant

MODULE = '''
from math import floor

LIMIT: int = 3


def allowed(number, limit=LIMIT):
    """Whether it is."""
    if number < 0:
        raise ValueError(number)
    return (number <
            limit)  # not the limit itself


class Door:
    @property
    def open(self):
        return self.count() == 0

    def count(self):
        return floor(LIMIT)

    def twice(self):
        return self.count() + self.count()
'''


@pytest.fixture
def tree(tmp_path: Path) -> Path:
    (tmp_path / "package").mkdir()
    (tmp_path / "package" / "module.py").write_text(MODULE)
    return tmp_path


def loaded(mutant: Mutant, tree: Path) -> dict[str, Any]:
    """The names of the module with the fault."""
    names: dict[str, Any] = {}
    exec(mutant.source(tree), names)
    return names


def mutant(name: str, **fault: Any) -> Mutant:
    return Mutant("check", "it is wrong", f"package.module:{name}", says="", **fault)


def test_a_patch_replaces_a_function_a_method_a_property_a_constant_or_an_imported_name(tree: Path) -> None:
    assert loaded(mutant("allowed", patch="def fault(number): return not original(number)"), tree)["allowed"](3)
    doubled = """
        def fault(self):
            return 2 * original(self)
    """
    assert loaded(mutant("Door.count", patch=doubled), tree)["Door"]().count() == 6
    assert loaded(mutant("Door.open", patch="fault = property(lambda self: True)"), tree)["Door"]().open
    assert loaded(mutant("LIMIT", patch="fault = original - 3"), tree)["Door"]().open
    assert loaded(mutant("floor", patch="def fault(number): return original(number) - 3"), tree)["Door"]().open


def test_code_is_found_however_it_is_formatted_and_replaced_by_an_expression_or_by_statements(tree: Path) -> None:
    assert loaded(mutant("allowed", code="number < limit", becomes="number <= limit"), tree)["allowed"](3)
    assert loaded(mutant("allowed", code="raise ValueError( number )", becomes="pass"), tree)["allowed"](-1)
    two = "number -= 1\nreturn number < limit"
    assert loaded(mutant("allowed", code="return number < limit", becomes=two), tree)["allowed"](3)
    assert loaded(mutant("Door.open", code="self.count()", becomes="0"), tree)["Door"]().open


@pytest.mark.parametrize(
    ("fault", "says"),
    [
        (mutant("Window", patch="fault = 1"), "package.module:Window is not defined; name the function, class or"),
        (mutant("Door.close", patch="fault = 1"), "package.module:Door.close is not defined"),
        (Mutant("check", "it is wrong", "moved:allowed", patch="fault = 1", says=""), "moved:allowed is not defined"),
        (mutant("allowed", code="limit < 0", becomes="True"), "package.module:allowed has 'limit < 0' 0 times; quote"),
        (mutant("Door.twice", code="self.count()", becomes="1"), "module:Door.twice has 'self.count()' 2 times; quote"),
    ],
)  # fmt: skip
def test_a_symbol_that_is_not_there_and_code_that_is_not_there_once_are_named(
    fault: Mutant, says: str, tree: Path
) -> None:
    with pytest.raises(LookupError, match=rf"^check: it is wrong: .*{re.escape(says)}"):
        fault.source(tree)
