"""Every top-level package is in each list that names packages."""

from __future__ import annotations

import tomllib

from tests.packages import ALL, PRODUCT, ROOT

PROJECT = tomllib.loads((ROOT / "pyproject.toml").read_text())["tool"]


def test_every_product_package_is_installed_with_its_types() -> None:
    assert sorted(PROJECT["hatch"]["build"]["targets"]["wheel"]["packages"]) == list(PRODUCT)
    for name in PRODUCT:
        assert (ROOT / name / "py.typed").is_file(), f"{name} has no py.typed"


def test_every_package_is_checked_and_every_product_package_measured() -> None:
    assert sorted(PROJECT["mypy"]["packages"]) == sorted(ALL)
    assert sorted(PROJECT["coverage"]["run"]["source"]) == sorted(PRODUCT)
