"""``make demo``: the daemon with stand-ins, so that all 15 metrics can be seen live on a machine that has neither
Betanet nor a HAProxy of its own.

The stand-ins are named as such when they start; they listen on loopback, and end with the demo, whose rings are removed
then.
"""

from __future__ import annotations

import contextlib
import hashlib
import json
import os
import shutil
import signal
import socket
import subprocess
import sys
import threading
import time
import urllib.request
from pathlib import Path

from fogmetrics import config as configuration
from fogmetrics.cli import check
from fogmetrics.cli.clean import clean
from fogmetrics.settings import ENV_NAMESPACE
from tests.stand_ins.betanet import BetanetStandIn, moving
from tests.stand_ins.web import WebServer

ROOT = Path(__file__).parent.parent.parent
DIRECTORY = ROOT / "run" / "demo"
# Rings of its own, by a name that no other daemon has: what stand-ins say must never be in a real history.
NAMESPACE = f"demo-{hashlib.sha256(os.fsencode(DIRECTORY)).hexdigest()[:16]}"
_REQUESTS_EVERY_SECONDS = 0.2

_HAPROXY = """\
global
    stats socket {socket} mode 600 level operator
defaults
    mode http
    timeout connect 2s
    timeout client 10s
    timeout server 10s
frontend demo
    bind 127.0.0.1:{port}
    default_backend demo_web
backend demo_web
    server one 127.0.0.1:{one} check inter 2s
    server two 127.0.0.1:{two} check inter 2s
"""


def main() -> int:
    # Before anything is started: a mistake in the configuration.
    status = check.main([str(ROOT), "--config-only"])
    if status:
        return status
    config = configuration.load()
    DIRECTORY.mkdir(parents=True, exist_ok=True)
    shutil.copy(ROOT / "supervisord.conf", DIRECTORY)
    with contextlib.ExitStack() as stack:
        began = time.monotonic()
        print("demo: STAND-IN for Betanet (no real packets)", flush=True)
        betanet = BetanetStandIn(_free_port(9000), lambda: moving(time.monotonic() - began))
        stack.enter_context(betanet)
        providers, haproxy_url = ["supervisord"], ""
        haproxy = shutil.which("haproxy", path=f"{os.environ.get('PATH', os.defpath)}:/usr/sbin")
        if haproxy:
            haproxy_url = _start_haproxy(stack, haproxy)
            providers.append("haproxy")
        else:
            print("demo: haproxy is not installed, so request rate, error rate and latency of deployments stay absent")
        path = DIRECTORY / "fogmetrics.toml"
        path.write_text(
            f'# Written by make demo.\n[shm]\nnamespace = "{NAMESPACE}"\n'
            f'capacity = {config.shm.capacity}\ngroup = "{config.shm.group}"\nowner = "{config.shm.owner}"\n'
            f"[collector]\ninterval_seconds = {config.collector.interval_seconds}\n"
            f"[exporter]\nlisten = {json.dumps(config.exporter.listen)}\nport = {config.exporter.port}\n"
            f'[source.betanet]\nurl = "{betanet.url}"\n'
            f'[source.deployment]\nproviders = {providers!r}\nhaproxy_url = "{haproxy_url}"\n'.replace("'", '"')
        )
        own = (configuration.ENV_CONFIG, ENV_NAMESPACE)
        environ = {name: value for name, value in os.environ.items() if name not in own}
        daemon = subprocess.Popen([sys.executable, "-m", "fogmetrics", "run", DIRECTORY], cwd=ROOT, env=environ)
        # A terminal sends Ctrl-C to supervisord as well, kill does not; a second signal changes nothing.
        for number in (signal.SIGINT, signal.SIGTERM):
            signal.signal(number, lambda *_: daemon.terminate())
        status = daemon.wait()
        list(clean(NAMESPACE, None))
        return status


def _start_haproxy(stack: contextlib.ExitStack, haproxy: str) -> str:
    """A real HAProxy before two stand-in servers, with light traffic; the URL of its statistics."""
    port = _free_port()
    print("demo: STAND-INS for two web servers", flush=True)
    one, two = (stack.enter_context(WebServer(delay_ms=delay_ms)) for delay_ms in (20, 60))
    stats = DIRECTORY / "haproxy.sock"
    conf = DIRECTORY / "haproxy.cfg"
    conf.write_text(_HAPROXY.format(socket=stats, port=port, one=one.port, two=two.port))
    print(f"demo: a HAProxy on 127.0.0.1:{port}, with {1 / _REQUESTS_EVERY_SECONDS:g} requests per second")
    # A session of its own: Ctrl-C reaches the daemon first, and HAProxy ends after it.
    process = stack.enter_context(subprocess.Popen([haproxy, "-db", "-f", conf], start_new_session=True))
    stack.callback(process.terminate)
    stop = threading.Event()
    traffic = threading.Thread(target=_traffic, args=(f"http://127.0.0.1:{port}/", stop), daemon=True)
    traffic.start()
    stack.callback(stop.set)
    return f"unix://{stats}"


def _traffic(url: str, stop: threading.Event) -> None:
    opener = urllib.request.build_opener(urllib.request.ProxyHandler({}))
    while not stop.wait(_REQUESTS_EVERY_SECONDS):
        with contextlib.suppress(OSError), opener.open(url, timeout=5) as response:
            response.read()


def _free_port(wanted: int = 0) -> int:
    with socket.socket() as probe:
        probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        try:
            probe.bind(("127.0.0.1", wanted))
        except OSError:
            probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])


if __name__ == "__main__":
    sys.exit(main())
