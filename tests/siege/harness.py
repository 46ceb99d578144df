"""Effort, counts and mutants of the checks: what a check is given, what it returns, how a mutant of it is tried.

A **check** is a module ``tests.siege.NAME``, or ``tests.siege.NAME.check`` in a package, with a function
``check(effort) -> Counts``. It raises Violation when it sees a promise of docs/reliability.md broken; otherwise it
returns counts of what it did. ``make promises`` runs each check for some seconds; ``make siege``
(``python -m tests.siege --long --write``) runs each for minutes and writes the counts down.

A **mutant** is the program with one fault. A check that does not raise Violation on its mutants proves nothing: each
check lists its mutants in ``MUTANTS``. :func:`refuted` runs the check in a copy of the tree that has the fault, so
that every process of the check has it, daemons included.
"""

from __future__ import annotations

import ast
import contextlib
import itertools
import os
import random
import shutil
import subprocess
import sys
import textwrap
import warnings
from collections.abc import Iterator, Mapping
from dataclasses import KW_ONLY, dataclass
from pathlib import Path
from typing import Final

import pytest

from tests.packages import PRODUCT
from tests.programs import unmeasured
from tests.rings import remove_files_of
from tests.siege.violation import Violation as Violation
from tests.siege.violation import require as require

ROOT: Final = Path(__file__).resolve().parent.parent.parent
VIOLATED: Final = 3  # exit status of a check that saw a promise broken; a check that fails by itself ends with 1
SEEDS: Final = 3  # a mutant that a check with random moments misses is tried again with other seeds

Counts = Mapping[str, int | str]
_namespaces = itertools.count(1)

_COPIED = (*PRODUCT, "tests", "supervisord.conf", "conf.d", "fogmetrics.toml", "pyproject.toml")


@dataclass(frozen=True)
class Effort:
    """How much a check does.

    ``long``: minutes, as in ``make siege``, instead of seconds. ``scale`` multiplies either. ``seed``: of all that is
    random; a violation prints it. ``part``: the one to run of a check that has parts; empty: all.
    """

    long: bool = False
    scale: float = 1.0
    seed: int = 0
    part: str = ""

    def many(self, short: int, long: int) -> int:
        """How many times, at least 1."""
        return max(round((long if self.long else short) * self.scale), 1)

    def seconds(self, short: float, long: float) -> float:
        return (long if self.long else short) * self.scale

    def random(self) -> random.Random:
        return random.Random(self.seed)


@contextlib.contextmanager
def own_namespace() -> Iterator[str]:
    """A namespace that no other process has. Its files in /dev/shm are removed afterwards."""
    name = f"s{os.getpid()}-{next(_namespaces)}"
    try:
        yield name
    finally:
        remove_files_of(name)


@contextlib.contextmanager
def violation_at(where: str, *errors: type[Exception]) -> Iterator[None]:
    """Make of these errors in the block, and of assertions that fail, a Violation that says where."""
    broken: tuple[type[Exception], ...] = (AssertionError, *errors)
    try:
        yield
    except broken as error:
        raise Violation(f"{where}: {error if isinstance(error, Violation) else repr(error)}") from error


@dataclass(frozen=True)
class Mutant:
    """The program with one fault, which ``check`` must report, with ``says`` in its message.

    ``symbol``: where the fault is, as "package.module:name" or "package.module:Class.name". The fault is either

    ``patch``   statements that define ``fault``, which replaces the symbol's object, ``original``. They run at the end
                of the module; what copied the object before (a default, a decorator, a table) keeps the original
    ``code``    one expression or statement that the symbol's source has once, however it is formatted; ``becomes``:
                the expression, or statements, that replace it

    ``scale``: how much of the check's short form is enough to see it, and ``part``: which part of the check.
    """

    check: str
    name: str
    symbol: str
    _: KW_ONLY
    patch: str = ""
    code: str = ""
    becomes: str = ""
    says: str
    scale: float = 1.0
    part: str = ""

    def __str__(self) -> str:
        return f"{self.check}: {self.name}"

    def file(self, tree: Path) -> Path:
        """The file of the symbol's module, in that copy of the program."""
        return tree.joinpath(*self.symbol.partition(":")[0].split(".")).with_suffix(".py")

    def source(self, tree: Path) -> str:
        """What that file must hold for the fault. Raises LookupError where it lacks the symbol or the code."""
        file, name = self.file(tree), self.symbol.partition(":")[2]
        source = file.read_text() if file.exists() else ""
        module = ast.parse(source)
        definition = _definition(module, name)
        if definition is None:
            raise LookupError(f"{self}: {self.symbol} is not defined; name the function, class or constant to change")
        if self.patch:
            return f"{source}\n\noriginal = {name}\n{textwrap.dedent(self.patch)}\n{name} = fault\n"
        replacement = _Replacement(self.code, self.becomes)
        replacement.visit(definition)
        if replacement.times != 1:
            raise LookupError(
                f"{self}: {self.symbol} has {self.code!r} {replacement.times} times; "
                "quote an expression or a statement that it has once"
            )
        return ast.unparse(module)


def _definition(module: ast.Module, name: str) -> ast.AST | None:
    """The statement that binds the name; of a dotted name, in the body of the class."""
    found: ast.AST | None = module
    for part in name.split("."):
        found = next((one for one in getattr(found, "body", ()) if part in _bound_by(one)), None)
    return found


def _bound_by(statement: ast.stmt) -> list[str]:
    match statement:
        case ast.FunctionDef(name=name) | ast.AsyncFunctionDef(name=name) | ast.ClassDef(name=name):
            return [name]
        case ast.Assign(targets=[ast.Name(id=name)]) | ast.AnnAssign(target=ast.Name(id=name)):
            return [name]
        case ast.ImportFrom(names=aliases):
            return [alias.asname or alias.name for alias in aliases]
    return []


class _Replacement(ast.NodeTransformer):
    """Replaces an expression or a statement wherever it occurs below the visited node, and counts the occurrences."""

    def __init__(self, code: str, becomes: str) -> None:
        self.times = 0
        self._new: ast.expr | list[ast.stmt]
        match ast.parse(code).body, ast.parse(becomes).body:
            case [ast.Expr(value=old)], [ast.Expr(value=new)]:
                self._old, self._new = ast.dump(old), new
            case [statement], statements:
                self._old, self._new = ast.dump(statement), statements

    def visit(self, node: ast.AST) -> object:
        if ast.dump(node) != self._old:
            return self.generic_visit(node)
        self.times += 1
        return self._new


def refuted(mutant: Mutant, directory: Path, *, timeout: float = 100.0) -> None:
    """Fails unless the mutant's check, run on the mutant in a copy of the tree below ``directory``, sees it.

    A check that draws the moments of its faults can miss a mutant by chance, and on a busy machine see another effect
    of it first. It then runs again, with up to :data:`SEEDS` seeds in all, and each miss is a warning.
    """
    tree = copy_of_the_tree(directory)
    mutant.file(tree).write_text(mutant.source(tree))
    # Mutants die before their coverage could be of any use, and must not be measured as the program.
    environ = {**unmeasured(), "PYTHONPATH": str(tree)}
    command = [sys.executable, "-m", "tests.siege", mutant.check, "--scale", str(mutant.scale), "--part", mutant.part]
    for seed in range(SEEDS):
        run = subprocess.run(
            [*command, "--seed", str(seed)], cwd=tree, env=environ, capture_output=True, text=True, timeout=timeout
        )
        said = run.stdout + run.stderr
        if run.returncode == 0 and f"{mutant.check}: not run: " in said:
            pytest.skip(said.strip())
        if run.returncode == VIOLATED and mutant.says in said:
            return
        warnings.warn(f"{mutant} was not seen with seed {seed}: {said}", stacklevel=2)
    reason = f" for the reason {mutant.says!r}" if run.returncode == VIOLATED else ""
    pytest.fail(f"{mutant} was not seen{reason} (exit status {run.returncode}):\n{said}")


def copy_of_the_tree(directory: Path) -> Path:
    """Copy the program and its tests, with their byte code: copied sources keep the times that validate it."""
    tree = directory / "tree"
    for name in _COPIED:
        if (ROOT / name).is_dir():
            shutil.copytree(ROOT / name, tree / name)
        else:
            tree.mkdir(exist_ok=True)
            shutil.copy(ROOT / name, tree / name)
    return tree
