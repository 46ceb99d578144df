"""The packages of this repository, as its top level has them: for whatever must treat all of them alike."""

from __future__ import annotations

from pathlib import Path
from typing import Final

ROOT: Final = Path(__file__).resolve().parent.parent
_NOT_INSTALLED: Final = ("benchmarks", "tests")
PRODUCT: Final = tuple(sorted({path.parent.name for path in ROOT.glob("*/__init__.py")} - {*_NOT_INSTALLED}))
ALL: Final = (*PRODUCT, *_NOT_INSTALLED)
