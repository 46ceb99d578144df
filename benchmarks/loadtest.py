"""``make loadtest``: measure the whole daemon idle, scraped and besieged, against its budgets.

    python -m benchmarks.loadtest [--seconds 120] [--long] [--series 15 1000 10000] [--interval 15 1 0.1]
                                  [--json FILE] [--write]

The real supervisord runs the daemon; the usage of its processes is read from /proc and by psutil. Exit status: 0 if
every budget is kept, else 1. The long form takes half an hour, and shows whether memory grows.
"""

from __future__ import annotations

import argparse
import json
import sys
import time
from collections.abc import Sequence
from pathlib import Path
from typing import Final

from benchmarks import loadtable, report
from benchmarks.loadphases import Found, measure, plan

_SECONDS: Final = 120.0
_LONG_SECONDS: Final = 1800.0
_SERIES: Final = (15, 1000, 10_000)
_INTERVALS: Final = (15.0, 1.0, 0.1)
_RESTARTS: Final = 2
_NAME: Final = "loadtest"

_NOTES: Final = """\
How to read it:

- Each row is one phase of one daemon. 15 series are the default daemon, with Betanet (a stand-in) and HAProxy
  answering. Daemons with more series have an additional source of their own. All rings are full from the start, as
  after a day at 15 s.
- Scraped: two jobs of Prometheus, `/metrics` and `/metrics/aggregated`, every 15 s, or more often in short phases.
  Besieged: two processes of scrapers, six connections each, which request all pages and windows as fast as they are
  answered, on the same two cores.
- CPU is from /proc/PID/task/*/schedstat. The median of collections is that of the slowest of the four sources. The
  PSS of a process contains the part of its ring that it has touched.
- The time of a page is measured by one Python client, and contains the client's own work. While no ring changes, the
  bytes of `/metrics` are reused, and the exporter's own metrics are rendered at most once a second.
- PSS counts shared pages in proportion. The exporter has the largest, because it loads numpy and a web server;
  collectors load neither numpy nor asyncio, and TLS only for https.
- Budgets are those of the four sources, idle and scraped; CPU of collectors at intervals of a second and more."""


def main(arguments: list[str] | None = None) -> int:
    parser = argparse.ArgumentParser(prog="python -m benchmarks.loadtest", description=(__doc__ or "").split("\n")[0])
    parser.add_argument("--seconds", type=float, help=f"how long it may take; {_SECONDS:g} unless --long")
    parser.add_argument("--long", action="store_true", help="half an hour, and every interval for every number")
    parser.add_argument("--series", type=int, nargs="+", help="numbers of series; with --interval: each with each")
    parser.add_argument("--interval", type=float, nargs="+", help="seconds from one frame to the next, 0.1 or more")
    parser.add_argument("--json", type=Path, help="also write all that was measured to this file")
    parser.add_argument("--write", action="store_true", help="put the tables into benchmarks/LOG.md")
    options = parser.parse_args(arguments)
    seconds = options.seconds or (_LONG_SECONDS if options.long else _SECONDS)
    full = bool(options.long or (options.series and options.interval))
    pairs = plan(seconds, options.series or _SERIES, options.interval or _INTERVALS, full=full)
    begun = time.monotonic()
    found: list[Found] = []
    for number, pair in enumerate(pairs):
        print(f"{pair.series:,} series, every {pair.interval_seconds:g} s …", file=sys.stderr, flush=True)
        found.append(measure(pair, 0 if number else _RESTARTS))
    taken = time.monotonic() - begun
    print(loadtable.text(found))
    if options.json:
        options.json.write_text(json.dumps(loadtable.plain(found), indent=2) + "\n")
    if options.write:
        _write(found, taken)
    return 0 if all(budget.met for budget in loadtable.budgets(found)) else 1


def _write(found: Sequence[Found], taken: float) -> None:
    on = report.machine()
    where = f"{on['cpu']}, {on['cpus']} CPUs, Linux {on['kernel']}; Python {on['python']}; {taken:.0f} s in all."
    command = "```console\n$ make loadtest\n```"
    section = "\n\n".join(["## The daemon under load", command, where, loadtable.text(found).rstrip(), _NOTES]) + "\n\n"
    begin = f"<!-- bench {_NAME} -->"
    page = report.LOG.read_text()
    if begin not in page:
        page = f"{page.rstrip()}\n\n{begin}\n<!-- end of bench {_NAME} -->\n"
    report.LOG.write_text(report.with_section(page, _NAME, section))


if __name__ == "__main__":
    sys.exit(main())
