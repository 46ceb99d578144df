"""supervisord: every process group is a deployment, its processes in state RUNNING are the replicas.

Asked by XML-RPC, ``supervisor.getAllProcessInfo``, at /RPC2 of its Unix or TCP socket
(http://supervisord.org/api.html#supervisor.rpcinterface.SupervisorNamespaceRPCInterface.getAllProcessInfo), which
answers with one struct a process:

    {'name': 'web_0', 'group': 'web', 'state': 20, 'statename': 'RUNNING', 'pid': 4242, ...}

A group whose processes are all stopped is a deployment with 0 replicas. supervisord sees no requests: rates and
latency are not its to know. The messages are built and read by xmlrpc.client alone; the supervisor package would
bring its daemon's modules into a worker that asks one question.
"""

from __future__ import annotations

import dataclasses
import os
import xmlrpc.client
from collections.abc import Mapping
from xml.parsers.expat import ExpatError

from collector.sources.deployment.exchange import Address, ExchangeError, Limits, ask_http, parse_address
from collector.sources.deployment.provider import Deployment, ProviderError

KEY = "[source.deployment] supervisord_url"
# supervisord sets it in each program that it starts.
ENV_URL = "SUPERVISOR_SERVER_URL"
# The names that supervisor's own clients read; supervisord does not hand them down by itself.
ENV_USER, ENV_PASSWORD = "SUPERVISOR_USERNAME", "SUPERVISOR_PASSWORD"


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
        self._limits = Limits(timeout_seconds, max_reply_bytes)
        self._address: Address | None = None
        if url or environ.get(ENV_URL):
            address = parse_address(url or environ[ENV_URL], KEY if url else ENV_URL)
            if not address.user:
                address = dataclasses.replace(
                    address, user=environ.get(ENV_USER, ""), password=environ.get(ENV_PASSWORD, "")
                )
            self._address = address

    def deployments(self) -> list[Deployment]:
        """Raises ProviderError."""
        if self._address is None:
            raise ProviderError(
                f"no supervisord is known: {ENV_URL} is not set, so this process was not started by one with a "
                f"[unix_http_server]; set {KEY}, or take supervisord out of [source.deployment] providers"
            )
        question = xmlrpc.client.dumps((), "supervisor.getAllProcessInfo").encode()
        try:
            reply = ask_http(self._address, "POST", "/RPC2", self._limits, question)
        except ExchangeError as error:
            raise ProviderError(
                f"no supervisord at {self._address.shown}: {error}; is [unix_http_server] enabled and may this user "
                f"open it? set {KEY}"
            ) from error
        try:
            return parse_processes(reply)
        except ValueError as error:
            raise ProviderError(
                f"what answers at {self._address.shown} is no supervisord: {error}; set {KEY} to the address of "
                "[unix_http_server] or [inet_http_server]"
            ) from error


def parse_processes(reply: bytes) -> list[Deployment]:
    """The groups in an answer to getAllProcessInfo, in its order. Raises ValueError. Pure."""
    running: dict[str, int] = {}
    for process in _process_list(reply):
        group, state = process.get("group"), process.get("statename")
        if not isinstance(group, str) or not isinstance(state, str):
            raise ValueError(f"a process lacks group or statename: {process!r:.200}")
        running[group] = running.get(group, 0) + (state == "RUNNING")
    return [Deployment(group, replicas=float(count)) for group, count in running.items()]


def _process_list(reply: bytes) -> list[dict[str, object]]:
    text = reply.decode("utf-8")  # UnicodeDecodeError is a ValueError
    # No answer of XML-RPC has one; a hostile one declares entities there that unfold into gigabytes.
    if "<!DOCTYPE" in text:
        raise ValueError("its answer has a document type declaration")
    try:
        values, _ = xmlrpc.client.loads(text)
    except xmlrpc.client.Fault as fault:
        raise ValueError(f"it refused: {fault.faultString!s:.200} (fault {fault.faultCode})") from None
    except (ExpatError, xmlrpc.client.Error, ValueError, TypeError, LookupError, AttributeError) as error:
        # xmlrpc.client checks little: what is well-formed XML but no XML-RPC trips over its lists and tables.
        raise ValueError(f"its answer is not XML-RPC ({type(error).__name__}: {error!s:.200})") from error
    processes: object = values[0] if values else None
    if not isinstance(processes, list) or not all(isinstance(one, dict) for one in processes):
        raise ValueError(f"its answer is not a list of processes: {processes!r:.200}")
    return processes
