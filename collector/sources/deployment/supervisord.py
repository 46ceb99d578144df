"""supervisord: every process group is a deployment, its processes in state RUNNING are the replicas.

Asked by XML-RPC, ``supervisor.getAllProcessInfo``, at /RPC2 of its Unix or TCP socket
(http://supervisord.org/api.html#supervisor.rpcinterface.SupervisorNamespaceRPCInterface.getAllProcessInfo), which
answers with one struct a process:

    {'name': 'web_0', 'group': 'web', 'state': 20, 'statename': 'RUNNING', 'pid': 4242, ...}

A group whose processes are all stopped is a deployment with 0 replicas. supervisord sees no requests: rates and
latency are not its to know. The question is always the same; xmlrpc_reply.py reads the answer. xmlrpc.client would
bring 3 MiB of HTTP, mail and TLS with it, the supervisor package its daemon's modules.
"""

from __future__ import annotations

import dataclasses
import os
from collections.abc import Mapping
from typing import Final

from collector.exchange import ExchangeError, Limits, Request, ask, http_request, parse_address
from collector.sources.deployment.provider import MAX_DEPLOYMENTS, Deployment, ProviderError
from collector.sources.deployment.xmlrpc_reply import read_processes

KEY = "[source.deployment] supervisord_url"
# supervisord sets it in each program that it starts.
ENV_URL = "SUPERVISOR_SERVER_URL"
# The names that supervisor's own clients read; supervisord does not hand them down by itself.
ENV_USER, ENV_PASSWORD = "SUPERVISOR_USERNAME", "SUPERVISOR_PASSWORD"

# What xmlrpc.client.dumps((), "supervisor.getAllProcessInfo") gives.
QUESTION = b"""\
<?xml version='1.0'?>
<methodCall>
<methodName>supervisor.getAllProcessInfo</methodName>
<params>
</params>
</methodCall>
"""


class SupervisordProvider:
    """The supervisord at ``url``; empty: the one that ``environ`` says runs us.

    Raises ConfigurationError for an address that can't be one. That there is no supervisord comes out only when
    it is asked: a collector stays up without its target.
    """

    name = "supervisord"

    def __init__(
        self, url: str, timeout_seconds: float, max_reply_bytes: int, environ: Mapping[str, str] | None = None
    ) -> None:
        environ = os.environ if environ is None else environ
        self._request: Request | None = None
        if url or environ.get(ENV_URL):
            address = parse_address(url or environ[ENV_URL], KEY if url else ENV_URL)
            if not address.user:
                address = dataclasses.replace(
                    address, user=environ.get(ENV_USER, ""), password=environ.get(ENV_PASSWORD, "")
                )
            limits = Limits(timeout_seconds, max_reply_bytes, "[source.deployment]")
            headers = {"Content-Type": "text/xml"}
            self._request = http_request(address, limits, "/RPC2", headers=headers, body=QUESTION)

    def deployments(self) -> list[Deployment]:
        """Raises ProviderError."""
        if self._request is None:
            raise ProviderError(
                f"no supervisord is known: {ENV_URL} is not set, so this process was not started by one with a "
                f"[unix_http_server]; set {KEY}, or take supervisord out of [source.deployment] providers"
            )
        shown = self._request.address.shown
        try:
            reply = ask(self._request)
        except ExchangeError as error:
            raise ProviderError(
                f"no supervisord at {shown}: {error}; is [unix_http_server] enabled and may this user "
                f"open it? set {KEY}"
            ) from error
        try:
            return parse_processes(reply.body)
        except ValueError as error:
            if _ENDING in str(error):
                return []  # it stops all its programs, this one too: nothing is known, and nothing is wrong
            raise ProviderError(
                f"what answers at {shown} is no supervisord: {error}; set {KEY} to the address of "
                "[unix_http_server] or [inet_http_server]"
            ) from error


_ENDING: Final = "SHUTDOWN_STATE"  # the fault that it answers with while it ends (supervisor/xmlrpc.py, Faults)


def parse_processes(reply: bytes) -> list[Deployment]:
    """The groups in an answer to getAllProcessInfo, in its order. Raises ValueError. Pure."""
    running: dict[str, int] = {}
    for group, state in read_processes(reply):
        running[group] = running.get(group, 0) + (state == "RUNNING")
        if len(running) > MAX_DEPLOYMENTS:
            raise ValueError(f"its answer has more than {MAX_DEPLOYMENTS} groups")
    return [Deployment(group, replicas=float(count)) for group, count in running.items()]
