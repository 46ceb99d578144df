"""``fogmetrics COMMAND``: finds the module of a command and runs it.

Each command has its own parser, and its module is imported only when the command runs. Exit status: that of the
command; 78 in an environment without the extra ``daemon``; 2 for a wrong command line, 130 after Ctrl-C, 141 if the
reader of the output is gone.
"""

from __future__ import annotations

import argparse
import difflib
import errno
import importlib
import os
import sys
from collections.abc import Mapping
from typing import Final

from fogmetrics.exit import EX_CONFIG, EX_TEMPFAIL, piped
from shm import VERSION

# name: (module, what it does). The order is that of --help.
COMMANDS: Final[Mapping[str, tuple[str, str]]] = {
    "run": ("fogmetrics.cli.run", "start the daemon in the foreground"),
    "init": ("fogmetrics.cli.init", "write the files of a new daemon's directory"),
    "check": ("fogmetrics.cli.check", "check the configuration and this host, and start nothing"),
    "status": ("fogmetrics.cli.status", "show programs and sources, and what is wrong"),
    "reload": ("fogmetrics.cli.reload", "have a running daemon take over its configuration"),
    "once": ("fogmetrics.cli.once", "collect one source once and print its samples"),
    "completion": ("fogmetrics.cli.completion", "print the completion script of bash or zsh"),
    "clean": ("fogmetrics.cli.clean", "remove the rings, tables and snapshots of a daemon that does not run"),
}
_EXAMPLES: Final = """\
examples:
  fogmetrics run                      the daemon of the working directory, until Ctrl-C
  fogmetrics once node                what the source node reads on this host
  fogmetrics COMMAND --help           the arguments of a command

DIR is a daemon's directory, with its fogmetrics.toml and supervisord.conf; by default the working directory.
"""
_OWN: Final = ("fogmetrics", "shm", "collector", "exporter")
_INTERRUPTED = 130  # 128 and the number of the signal, as shells have it


def main(arguments: list[str] | None = None) -> int:
    """Run a command; its exit status."""
    parser = argparse.ArgumentParser(
        prog="fogmetrics",
        usage="fogmetrics [--help] [--version] COMMAND [ARGUMENT …]",
        description="Host metrics with a day of history in shared memory.",
        epilog="\n".join(["commands:", *(f"  {name:<12}{what}" for name, (_, what) in COMMANDS.items())])
        + f"\n\n{_EXAMPLES}",
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    parser.add_argument("--version", action="version", version=f"fogmetrics {VERSION}")
    arguments = sys.argv[1:] if arguments is None else arguments
    if not arguments:
        parser.print_help()
        return 0
    name, *rest = arguments
    if name.startswith("-"):
        parser.parse_args(arguments)  # --help and --version end the process
    try:
        os.getcwd()
    except FileNotFoundError:
        print("fogmetrics: the working directory was removed; change to one that exists", file=sys.stderr)
        return EX_TEMPFAIL
    if name not in COMMANDS:
        close = difflib.get_close_matches(name, COMMANDS, n=1)
        hint = f"did you mean {close[0]!r}?" if close else f"the commands are {', '.join(COMMANDS)}"
        parser.error(f"there is no command {name!r}; {hint}")
    try:
        module = importlib.import_module(COMMANDS[name][0])
        status: int = module.main(rest)
    except ModuleNotFoundError as error:
        if str(error.name).partition(".")[0] in _OWN:
            raise
        print(
            f"fogmetrics: this environment lacks {error.name}, which the daemon needs; install the wheel with its "
            f"extra: pip install 'fogmetrics-{VERSION}-py3-none-any.whl[daemon]'",
            file=sys.stderr,
        )
        return EX_CONFIG
    return status


def command() -> int:
    """The console script: :func:`main`, without a traceback when the user or the reader of the output ends it, or when
    the output can't be written."""
    try:
        return piped(main)
    except KeyboardInterrupt:
        return _INTERRUPTED
    except OSError as error:
        if error.errno != errno.ENOSPC or error.filename:
            raise
        # The interpreter flushes standard output once more at its end.
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        print(f"fogmetrics: the output can't be written: {error.strerror}", file=sys.stderr)
        return EX_TEMPFAIL
