"""Provider *supervisord*: each process group is a deployment, its processes in state RUNNING are the replicas.

Asked by XML-RPC, ``supervisor.getAllProcessInfo``, at /RPC2 of its Unix or TCP socket
(http://supervisord.org/api.html#supervisor.rpcinterface.SupervisorNamespaceRPCInterface.getAllProcessInfo), which
replies with one struct for each process:

    {'name': 'web_0', 'group': 'web', 'state': 20, 'statename': 'RUNNING', 'pid': 4242, ...}

A group whose processes are all stopped is a deployment with 0 replicas. supervisord does not see requests, so it knows
no rates and no latency. It is trusted, as the parent process: only the time and the size of its reply are limited.
"""

from __future__ import annotations

import dataclasses
import os
import xmlrpc.client
from collections.abc import Mapping
from typing import Any
from urllib.parse import urljoin
from xml.parsers.expat import ExpatError

from collector.sources.deployment.provider import MAX_DEPLOYMENTS, Deployment, ProviderError, explained
from collector.sources.http_client import HttpClient
from collector.sources.target import Limits, parse_address
from shm.safe_repr import shortened, shown

KEY = "[source.deployment] supervisord_url"
# supervisord sets it in each program that it starts.
ENV_URL = "SUPERVISOR_SERVER_URL"
# Names that supervisor's own clients read; supervisord does not set them itself.
ENV_USER, ENV_PASSWORD = "SUPERVISOR_USERNAME", "SUPERVISOR_PASSWORD"

_QUESTION = xmlrpc.client.dumps((), "supervisor.getAllProcessInfo").encode()
_ENDING = "SHUTDOWN_STATE"  # the fault in replies while supervisord ends (supervisor/xmlrpc.py, Faults)


class SupervisordProvider:
    """The supervisord at ``url``; empty: the parent process that ``environ`` names.

    Raises ConfigurationError for a malformed address. A missing supervisord is an error only when it is read: a
    collector stays up without its target.
    """

    name = "supervisord"

    def __init__(self, url: str, limits: Limits, environ: Mapping[str, str] | None = None) -> None:
        environ = os.environ if environ is None else environ
        self._client: HttpClient | None = None
        if url or environ.get(ENV_URL):
            address = parse_address(url or environ[ENV_URL], KEY if url else ENV_URL)
            if not address.user:
                address = dataclasses.replace(
                    address, user=environ.get(ENV_USER, ""), password=environ.get(ENV_PASSWORD, "")
                )
            self._shown, self._url = address.shown, urljoin(address.url, "/RPC2")
            self._client = HttpClient(address, limits, {"Content-Type": "text/xml"})

    def deployments(self) -> list[Deployment]:
        """Raises ProviderError."""
        if self._client is None:
            raise ProviderError(
                f"no supervisord is known: {ENV_URL} is not set, so this process was not started by one with a "
                f"[unix_http_server]; set {KEY}, or remove supervisord from [source.deployment] providers"
            )
        if_none = f"is [unix_http_server] enabled and may this user open it? set {KEY}"
        if_other = f"set {KEY} to the address of [unix_http_server] or [inet_http_server]"
        client = self._client
        return explained(
            lambda: parse_processes(client.exchange(self._url, body=_QUESTION).reply()),
            self._shown, "supervisord", if_none, "supervisord", if_other,
        )  # fmt: skip

    def close(self) -> None:
        if self._client is not None:
            self._client.close()


def parse_processes(reply: bytes) -> list[Deployment]:
    """The process groups in a reply to getAllProcessInfo; none while supervisord ends. Raises ValueError."""
    running: dict[str, int] = {}
    try:
        values: tuple[Any, ...] = xmlrpc.client.loads(reply)[0]
        [processes] = values
        for one in processes:
            running[one["group"]] = running.get(one["group"], 0) + (one["statename"] == "RUNNING")
    except xmlrpc.client.Fault as fault:
        if _ENDING in fault.faultString:
            return []  # supervisord is stopping all its programs, this one too: no error
        raise ValueError(f"it refused: {shortened(fault.faultString)}") from None
    except (ExpatError, xmlrpc.client.Error, ValueError, LookupError, TypeError) as error:
        raise ValueError(f"its answer is not a list of processes ({shown(error)})") from None
    if len(running) > MAX_DEPLOYMENTS:
        raise ValueError(f"its answer has more than {MAX_DEPLOYMENTS} groups")
    return [Deployment(group, replicas=float(count)) for group, count in running.items()]
