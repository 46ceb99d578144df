"""``python -m tests.siege.emulated.userlands``: make the userlands that ``emulated`` runs in, from Debian's packages.

One of arm64, and a smaller one of s390x, which is big-endian. Needs apt-get, dpkg-deb and qemu's user emulation, and no
privilege: apt-get works with lists and a state of its own, with the system's sources, keys and proxy, and dpkg-deb only
unpacks. Nothing of the system is changed. A userland takes some 180 MB, is made once, in about 15 seconds, and lies in

    $XDG_CACHE_HOME/fogmetrics/MACHINE-RELEASE        XDG_CACHE_HOME is ~/.cache where it is not set

RELEASE is this system's own (bookworm, trixie, …), so the interpreter is the one that the release has for that machine.
This module needs nothing outside the standard library, so that it can run before anything is installed.
"""

from __future__ import annotations

import os
import platform
import shutil
import subprocess
import sys
import tempfile
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Final

HOW_TO_GET_EMULATORS: Final = "apt-get install qemu-user-static"
HOW_TO_MAKE: Final = "python -m tests.siege.emulated.userlands"
_DONE: Final = "made-of"  # names what the folder was made of; written last
_TIMEOUT_SECONDS: Final = 300


class NotPossible(Exception):
    """The userland can't be made here. The message says why, and what to do."""


@dataclass(frozen=True)
class Machine:
    """A machine to emulate, by Debian's name of the architecture.

    ``imported`` is compiled once, here: an emulated interpreter takes 4 s to compile what it then imports in 1.
    """

    name: str
    processor: str
    packages: tuple[str, ...]
    imported: str

    @property
    def emulators(self) -> tuple[str, str]:
        """Debian 12 has the one in qemu-user-static, Debian 13 the other in qemu-user."""
        return f"qemu-{self.processor}-static", f"qemu-{self.processor}"

    def emulator(self) -> str | None:
        """The path of the program that emulates it, None where it is not installed."""
        return next((path for path in map(shutil.which, self.emulators) if path), None)

    def folder(self) -> Path:
        cache = os.environ.get("XDG_CACHE_HOME") or str(Path.home() / ".cache")
        try:
            system = platform.freedesktop_os_release()
        except OSError:
            system = {}
        return Path(cache) / "fogmetrics" / f"{self.name}-{system.get('VERSION_CODENAME', 'unknown')}"


_MODULES: Final = "json, logging, multiprocessing.shared_memory, xxhash"
ARM64: Final = Machine("arm64", "aarch64", ("python3", "python3-numpy", "python3-xxhash"), f"{_MODULES}, numpy")
S390X: Final = Machine("s390x", "s390x", ("python3", "python3-xxhash"), _MODULES)


@dataclass(frozen=True)
class Userland:
    """Where it is, and which program emulates its machine."""

    machine: Machine
    emulator: str
    root: Path

    @property
    def python(self) -> Path:
        """The interpreter, whatever its minor version is."""
        return (self.root / "usr/bin/python3").resolve()

    def command(self, *arguments: str, page_bytes: int = 0) -> list[str]:
        """The command of an emulated interpreter; ``page_bytes``: what it is to take for a page, 0 for the host's."""
        libraries = self.root / "usr/lib" / f"{self.machine.processor}-linux-gnu"
        # Debian chooses between implementations of these two by links that only an installation makes.
        paths = ":".join(str(libraries / name) for name in ("blas", "lapack"))
        pages = ["-p", str(page_bytes)] if page_bytes else []
        emulator = [self.emulator, *pages, "-L", str(self.root), "-E", f"LD_LIBRARY_PATH={paths}"]
        return [*emulator, str(self.python), *arguments]


def userland(machine: Machine) -> Userland | None:
    """The userland that was made before; None where there is none, or one of other packages."""
    done = machine.folder() / _DONE
    emulator = machine.emulator()
    if emulator is None or not done.is_file() or done.read_text() != _made_of(machine):
        return None
    return Userland(machine, emulator, machine.folder() / "root")


def make(machine: Machine) -> Userland:
    """Make the userland unless there is one. Raises NotPossible."""
    emulator = machine.emulator()
    if emulator is None:
        raise NotPossible(f"{machine.emulators[0]} is not installed: {HOW_TO_GET_EMULATORS}")
    if known := userland(machine):
        return known
    for program in ("apt-get", "dpkg-deb"):
        if shutil.which(program) is None:
            raise NotPossible(f"{program} is not installed; a userland is made of Debian's packages, on Debian")
    place = machine.folder()
    place.parent.mkdir(parents=True, exist_ok=True)
    # Built under another name and renamed when it is whole, so that an interrupted run leaves no userland.
    with tempfile.TemporaryDirectory(dir=place.parent, prefix=f"{place.name}.", ignore_cleanup_errors=True) as building:
        new = Path(building)
        for package in _download(machine, new / "apt"):
            _run(["dpkg-deb", "-x", str(package), str(new / "root")])
        shutil.rmtree(new / "apt")
        _complete(Userland(machine, emulator, new / "root"))
        (new / _DONE).write_text(_made_of(machine))
        shutil.rmtree(place, ignore_errors=True)
        new.rename(place)
    return Userland(machine, emulator, place / "root")


def _made_of(machine: Machine) -> str:
    return " ".join(machine.packages) + "\n"


def _download(machine: Machine, apt: Path) -> list[Path]:
    """The packages and their dependencies, as files below ``apt``."""
    for name in ("lists/partial", "cache/archives/partial", "log"):
        (apt / name).mkdir(parents=True)
    (apt / "status").touch()
    configuration = apt / "apt.conf"
    # Read after the system's own files. With the empty status nothing counts as installed.
    configuration.write_text(
        f"""
        #clear APT::Update::Post-Invoke;
        #clear APT::Update::Post-Invoke-Success;
        Dir::State "{apt}";
        Dir::State::lists "{apt}/lists";
        Dir::State::status "{apt}/status";
        Dir::Cache "{apt}/cache";
        Dir::Cache::archives "{apt}/cache/archives";
        Dir::Log "{apt}/log";
        APT::Architecture "{machine.name}";
        APT::Architectures {{ "{machine.name}"; }};
        APT::Install-Recommends "false";
        APT::Sandbox::User "";
        Acquire::Languages "none";
        """
    )
    _run(["apt-get", "-c", str(configuration), "update", "-qq"])
    _run(["apt-get", "-c", str(configuration), "install", "-qq", "-y", "--download-only", *machine.packages])
    return sorted((apt / "cache/archives").glob("*.deb"))


def _complete(unpacked: Userland) -> None:
    """Do what an installation would have done and the emulated interpreter needs."""
    # Since Debian 13 packages hold /usr/lib alone; the loader is asked for below /lib.
    if not (unpacked.root / "lib").exists():
        (unpacked.root / "lib").symlink_to("usr/lib")
    _run(
        unpacked.command("-c", f"import {unpacked.machine.imported}"),
        environ={"PATH": os.environ.get("PATH", os.defpath)},
    )


def _run(command: Sequence[str], environ: dict[str, str] | None = None) -> None:
    try:
        run = subprocess.run(
            command, env=environ, stdin=subprocess.DEVNULL, capture_output=True, text=True, timeout=_TIMEOUT_SECONDS,
        )  # fmt: skip
    except subprocess.TimeoutExpired:
        raise NotPossible(f"{' '.join(command)} did not end within {_TIMEOUT_SECONDS} s") from None
    if run.returncode:
        raise NotPossible(f"{' '.join(command)} failed ({run.returncode}):\n{run.stdout}{run.stderr}")


def main() -> int:
    """Exit status 0 where there is one of arm64: the check does what it can without the other."""
    failed = []
    for machine in (ARM64, S390X):
        try:
            made = make(machine)
        except NotPossible as why:
            print(f"no userland of {machine.name}: {why}", file=sys.stderr)
            failed.append(machine)
        else:
            print(f"{made.root}: {made.python.name}, emulated by {made.emulator}")
    return 1 if ARM64 in failed else 0


if __name__ == "__main__":
    raise SystemExit(main())
