"""Programs of the daemon, as its supervisord knows them: which there are, and which fail."""

from __future__ import annotations

import os
import re
import xmlrpc.client
from collections import Counter
from collections.abc import Collection, Mapping
from typing import Any, Final, NamedTuple

# States of supervisord.
FAILING: Final = ("FATAL", "BACKOFF", "EXITED")

_STARTED: Final = re.compile(r"supervisord started with pid|spawned: '([^']+)' with pid")
_LOG_BYTES: Final = 1 << 20  # of supervisord's log, from its end


class Programs(NamedTuple):
    """``names``: of all programs, None if supervisord can't be asked; ``failing``: a sentence for each that fails."""

    names: Collection[str] | None = None
    failing: Collection[str] = ()


def programs(environ: Mapping[str, str] = os.environ) -> Programs:
    """The programs of the supervisord that started this process. Blocks while it answers.

    It can't be asked if it has no Unix socket, or if this user may not open that.
    """
    url = environ.get("SUPERVISOR_SERVER_URL", "")
    if not url.startswith("unix://"):
        return Programs()
    from supervisor.xmlrpc import SupervisorTransport  # only where the exporter runs under one

    transport = SupervisorTransport(None, None, url)
    try:
        with xmlrpc.client.ServerProxy("http://127.0.0.1", transport) as proxy:
            found: Any = proxy.supervisor.getAllProcessInfo()
            failing = [one for one in found if one["statename"] in FAILING]
            starts = count_starts(proxy.supervisor) if failing else {}
    except (OSError, xmlrpc.client.Error):
        return Programs()
    sentences = [
        f"program {one['name']} is {one['statename']} after {_times(starts.get(one['name'], 0))}: "
        f"{one['spawnerr'] or one['description']}; its log, {os.path.normpath(one['stdout_logfile'])}, says why"
        for one in failing
    ]
    return Programs([one["name"] for one in found], sentences)


def count_starts(supervisor: Any) -> Mapping[str, int]:
    """How often each program was started since supervisord was, as far as its log reaches back."""
    try:
        log = supervisor.readLog(-_LOG_BYTES, 0)
    except xmlrpc.client.Fault:  # no log file
        return {}
    counts: Counter[str] = Counter()
    for started in _STARTED.finditer(log):
        if started[1]:
            counts[started[1]] += 1
        else:
            counts.clear()
    return counts


def _times(starts: int) -> str:
    return f"{starts} start{'s' * (starts != 1)}" if starts else "an unknown number of starts"
