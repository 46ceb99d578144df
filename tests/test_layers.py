"""Modules import downwards only: shm is at the bottom, fogmetrics' ground floor above it, then the parts for
applications, the collectors and the exporter, and on top the modules that know the whole daemon. Imports for types or
in functions count as well.
"""

from __future__ import annotations

import ast
from collections.abc import Iterator
from typing import Final

import pytest

from tests.packages import PRODUCT, ROOT

GROUND: Final = (
    "fogmetrics.settings", "fogmetrics.log", "fogmetrics.exit", "fogmetrics.durations", "fogmetrics.parent",
    "fogmetrics.allocator",
)  # fmt: skip
BELOW: Final = ("shm", *GROUND)
# What modules may import, by the start of their name: the longest one that fits. None: everything.
RULES: Final[dict[str, tuple[str, ...] | None]] = {
    "shm": ("shm",),
    **dict.fromkeys(GROUND, BELOW),
    "fogmetrics.application": (*BELOW, "fogmetrics.application"),
    "collector": (*BELOW, "collector"),
    # The import path of the drop-in, and the method MetricCollector.shared, as applications have known them.
    "collector.drop_in": (*BELOW, "fogmetrics.application"),
    "collector.frame.collector": (*BELOW, "collector", "fogmetrics.application"),
    "exporter": (*BELOW, "exporter"),
    "fogmetrics": None,  # the public names, config and cli
}
MODULES: Final = {
    ".".join(path.relative_to(ROOT).with_suffix("").parts).removesuffix(".__init__"): path
    for package in PRODUCT
    for path in sorted((ROOT / package).rglob("*.py"))
}


def is_below(module: str, packages: tuple[str, ...]) -> bool:
    return any(module == one or module.startswith(f"{one}.") for one in packages)


def imports(text: str) -> Iterator[str]:
    """The modules of the product that a module's text imports."""
    for node in ast.walk(ast.parse(text)):
        names = []
        if isinstance(node, ast.Import):
            names = [one.name for one in node.names]
        elif isinstance(node, ast.ImportFrom):
            assert node.level == 0, "relative imports are not used here"
            names = [
                name if (name := f"{node.module}.{one.name}") in MODULES else f"{node.module}" for one in node.names
            ]
        yield from (name for name in names if is_below(name, PRODUCT))


def breaches(module: str, text: str) -> list[str]:
    """A sentence for each import of the module that its layer does not allow."""
    layer = max((one for one in RULES if is_below(module, (one,))), key=len)
    allowed = RULES[layer]
    if allowed is None or module.endswith(".__main__"):
        return []
    return [
        f"{module} imports {name}, but {layer} may import only {', '.join(allowed)}; move what it needs there, or pass "
        "it as an argument"
        for name in sorted(set(imports(text)))
        if not is_below(name, allowed)
    ]


@pytest.mark.parametrize("module", MODULES)
def test_a_module_imports_only_what_its_layer_may(module: str) -> None:
    assert breaches(module, MODULES[module].read_text()) == []


@pytest.mark.parametrize(
    ("module", "text", "imported"),
    [
        ("shm.files", "import fogmetrics.log", "fogmetrics.log"),
        ("fogmetrics.settings.reader", "from fogmetrics.config import Config", "fogmetrics.config"),
        ("fogmetrics.application.drop_in", "from collector.source import Sample", "collector.source"),
        ("collector.registry", "if TYPE_CHECKING:\n    import exporter.rings", "exporter.rings"),
        ("collector.registry", "def f():\n    from fogmetrics import config", "fogmetrics.config"),
        ("exporter.app", "from collector.frame.collector import MetricCollector", "collector.frame.collector"),
    ],
)
def test_an_import_upwards_is_named_with_its_rule(module: str, text: str, imported: str) -> None:
    [said] = breaches(module, text)
    assert said.startswith(f"{module} imports {imported}, but ")


@pytest.mark.parametrize(
    ("module", "text"),
    [
        ("collector.__main__", "from fogmetrics.config import load"),
        ("fogmetrics.cli.check", "from exporter.http import address"),
        ("collector.registry", "import json\nfrom shm.metric import Metric\nfrom fogmetrics.settings import reader"),
    ],
)
def test_what_is_below_or_the_modules_own_may_be_imported(module: str, text: str) -> None:
    assert breaches(module, text) == []
