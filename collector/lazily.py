"""Modules that others import on top and that a collector hardly ever needs: loaded when something of them is used.

    dataclasses    imports inspect      for classes without a docstring (from Python 3.13: for all): 0.75 MiB, 4 ms
    logging        imports traceback    for records with an exception: 0.4 MiB, 2 ms
    urllib.parse   imports ipaddress    for addresses in URLs, and pathlib imports it: 0.2 MiB, 1 ms

importlib.util.LazyLoader would not do: to it, the second ``import`` of a module is a use of it already.
"""

from __future__ import annotations

import sys
import threading
from importlib import import_module
from types import ModuleType
from typing import Any, Final

HARDLY_NEEDED: Final = ("inspect", "traceback", "ipaddress")
_taking_away = threading.Lock()


def postpone(name: str) -> None:
    """Let ``import name`` bind a stand-in, which loads the module when it is first asked for something of it.

    Whoever imports it later gets the module itself. Does nothing where it is loaded already.
    """
    if name in sys.modules:
        return
    stand_in = ModuleType(name)

    def ask(attribute: str) -> Any:
        with _taking_away:  # two threads that ask in the same instant: only the first may take it away
            if sys.modules.get(name) is stand_in:
                del sys.modules[name]
        return getattr(import_module(name), attribute)

    stand_in.__getattr__ = ask  # type: ignore[method-assign]  # what a module does for names it lacks (PEP 562)
    sys.modules[name] = stand_in
