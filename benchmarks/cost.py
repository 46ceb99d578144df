"""What the whole daemon takes from its host: ``make cost SECONDS=300``.

Starts the daemon under supervisord at the default interval of 15 s, in a directory and namespace of its own, with the
Betanet of the tests answering (a stand-in, outside what is measured), lets it settle for two intervals, and then has
psutil read every process at the start and at the end of the time. Afterwards it asks for each page 200 times over
loopback, on one connection as Prometheus does. Prints a Markdown table, and with ``--json FILE`` writes the figures.
"""

from __future__ import annotations

import argparse
import json
import os
import platform
import signal
import statistics
import tempfile
import time
from pathlib import Path
from typing import Any

import httpx
import psutil
from prometheus_client.parser import text_string_to_metric_families

from shm.segment import DIRECTORY
from tests.daemon import PROGRAMS, SOURCES, Daemon
from tests.programs import wait_until
from tests.stand_ins.betanet import BetanetStandIn

_REQUESTS = 200
_RESTARTS = 5
_PAGES = ("/metrics", "/metrics/aggregated", "/metrics/aggregated?window=24h", "/stats", "/health")


def measure(seconds: float, interval: float) -> dict[str, Any]:
    """The figures of one run of ``seconds`` idle seconds at ``interval`` seconds a frame."""
    with tempfile.TemporaryDirectory() as directory, BetanetStandIn() as betanet:
        toml = f'[source.betanet]\nurl = "{betanet.url}"\n'
        with Daemon(Path(directory), interval_seconds=interval, toml=toml) as daemon:
            daemon.wait_until_collected()
            time.sleep(2 * interval)
            processes = {name: psutil.Process(daemon.pid(name)) for name in PROGRAMS}
            processes["supervisord"] = processes["node"].parent() or psutil.Process()
            before = {name: process.cpu_times() for name, process in processes.items()}
            begun = time.monotonic()
            time.sleep(seconds)
            elapsed = time.monotonic() - begun
            cpu = {
                name: process.cpu_times().user + process.cpu_times().system - before[name].user - before[name].system
                for name, process in processes.items()
            }
            memory = {name: process.memory_full_info().pss for name, process in processes.items()}
            duration = {stat: _durations(daemon, stat) for stat in ("p50", "max")}
            rings = {
                path.name.split(".")[2]: os.stat(path).st_blocks * 512
                for path in sorted(DIRECTORY.glob(f"fogmetrics.{daemon.namespace}.*.ring"))
            }
            latency = {page: _latency(daemon.url + page) for page in _PAGES}
            restart = statistics.median(_restart(daemon) for _ in range(_RESTARTS))
    return {
        "seconds": round(elapsed, 1),
        "interval_seconds": interval,
        "python": platform.python_version(),
        "machine": platform.machine(),
        "cpus": os.cpu_count(),
        "cpu_seconds": cpu,
        "pss_bytes": memory,
        "collection_seconds": duration,
        "ring_bytes": rings,
        "latency_seconds": latency,
        "restart_seconds": restart,
    }


def _durations(daemon: Daemon, stat: str) -> dict[str, float]:
    """That statistic of each source's collections since the start, as the daemon itself tells."""
    page = daemon.get(f"/metrics/aggregated?metric=collector_duration_seconds&stat={stat}&window=24h").text
    families = {family.name: family for family in text_string_to_metric_families(page)}
    return {sample.labels["source"]: sample.value for sample in families["collector_duration_seconds"].samples}


def _latency(url: str) -> dict[str, float]:
    times = []
    with httpx.Client(trust_env=False, timeout=30) as client:
        client.get(url)
        for _ in range(_REQUESTS):
            begun = time.perf_counter()
            client.get(url).raise_for_status()
            times.append(time.perf_counter() - begun)
    return {"median": statistics.median(times), "p99": sorted(times)[int(0.99 * (_REQUESTS - 1))]}


def _restart(daemon: Daemon) -> float:
    """Seconds from SIGKILL of the exporter until it answers again; supervisord starts it."""
    wait_until(lambda: daemon.states()["exporter"] == "RUNNING", 20, "the exporter past startsecs")
    begun = time.monotonic()
    os.kill(daemon.pid("exporter"), signal.SIGKILL)
    wait_until(daemon.answers, 30, "the exporter back")
    return time.monotonic() - begun


def table(found: dict[str, Any]) -> str:
    """The figures as Markdown, budgets beside them."""
    share = {name: 100 * used / found["seconds"] for name, used in found["cpu_seconds"].items()}
    mib = {name: size / 2**20 for name, size in found["pss_bytes"].items()}
    lines = [
        f"Python {found['python']}, {found['machine']}, {found['cpus']} CPUs; {found['seconds']:g} s at an interval of "
        f"{found['interval_seconds']:g} s, Betanet answering, nobody scraping.",
        "",
        "| process | CPU, % of a core | PSS, MiB | collection, ms: median | longest |",
        "|---|---|---|---|---|",
    ]
    for name in (*PROGRAMS, "supervisord"):
        median, longest = (found["collection_seconds"][stat].get(name) for stat in ("p50", "max"))
        times = f"{1000 * median:.1f} | {1000 * longest:.1f}" if median and longest else " | "
        lines.append(f"| {name} | {share[name]:.3f} | {mib[name]:.1f} | {times} |")
    lines.append(f"| all | {sum(share.values()):.3f} | {sum(mib.values()):.1f} | | |")
    collectors = sum(share[name] for name in SOURCES)
    median, longest = (1000 * max(found["collection_seconds"][stat].values()) for stat in ("p50", "max"))
    rings = sum(found["ring_bytes"].values()) / 2**20
    lines += [
        "",
        "| budget | limit | measured |",
        "|---|---|---|",
        f"| CPU of all collectors | < 0.1 % of a core | {collectors:.3f} % |",
        f"| CPU of the idle exporter | < 0.1 % of a core | {share['exporter']:.3f} % |",
        f"| collection, the slowest source | < 10 ms | median {median:.1f} ms, longest {longest:.1f} ms |",
        f"| shared memory of all rings, 24 h | < 6 MiB | {rings:.2f} MiB |",
        "",
        "| page | median, ms | p99, ms |",
        "|---|---|---|",
    ]
    for page, times in found["latency_seconds"].items():
        lines.append(f"| `{page}` | {1000 * times['median']:.2f} | {1000 * times['p99']:.2f} |")
    lines += ["", f"The exporter answers again {found['restart_seconds']:.1f} s after SIGKILL (median of {_RESTARTS})."]
    return "\n".join(lines)


def main() -> None:
    parser = argparse.ArgumentParser(prog="python -m benchmarks.cost", description=(__doc__ or "").split("\n")[0])
    parser.add_argument("--seconds", type=float, default=300, help="how long the idle daemon is watched")
    parser.add_argument("--interval", type=float, default=15.0, help="seconds from one frame to the next")
    parser.add_argument("--json", type=Path, help="also write the figures to this file")
    options = parser.parse_args()
    found = measure(options.seconds, options.interval)
    print(table(found))
    if options.json:
        options.json.write_text(json.dumps(found, indent=2) + "\n")


if __name__ == "__main__":
    main()
