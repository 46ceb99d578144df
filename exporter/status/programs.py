"""Programs of the daemon that fail, as its supervisord says."""

from __future__ import annotations

import os
import xmlrpc.client
from collections.abc import Mapping
from typing import Any, Final

# States of supervisord.
FAILING: Final = ("FATAL", "BACKOFF", "EXITED")


def failing(environ: Mapping[str, str] = os.environ) -> list[str]:
    """A sentence for each failing program of the supervisord that started this process. Blocks while it answers.

    None if no supervisord with a Unix socket started this process, or if this user may not ask it.
    """
    url = environ.get("SUPERVISOR_SERVER_URL", "")
    if not url.startswith("unix://"):
        return []
    from supervisor.xmlrpc import SupervisorTransport  # only where the exporter runs under one

    transport = SupervisorTransport(None, None, url)
    try:
        with xmlrpc.client.ServerProxy("http://127.0.0.1", transport) as proxy:
            found: Any = proxy.supervisor.getAllProcessInfo()
    except (OSError, xmlrpc.client.Error):
        return []
    return [
        f"program {one['name']} is {one['statename']}: {one['spawnerr'] or one['description']}; its log, "
        f"{os.path.normpath(one['stdout_logfile'])}, says why"
        for one in found
        if one["statename"] in FAILING
    ]
