"""Provider *docker*, for Docker and Podman: each value of a label is a deployment, its running containers the replicas.

    GET /containers/json?all=true&filters={"label":["com.docker.compose.service"]}

    [{"Id": "8dfafdbc3a40…", "State": "running", "Labels": {"com.docker.compose.service": "web", …}, …}]

(https://docs.docker.com/reference/api/engine/version/v1.43/#tag/Container/operation/ContainerList; Podman answers the
same, https://docs.podman.io/en/latest/_static/api.html, compat). The path has no version, since all versions have these
fields. A value whose containers are all stopped has 0 replicas; containers without the label are ignored. The engine
sees no requests, so it knows no rates and no latency.

A process that may open the engine's socket can become root on this host: docs/deployment.md has ways around that.
"""

from __future__ import annotations

import json
from typing import Final
from urllib.parse import quote

from collector.sources import json_reply
from collector.sources.deployment.provider import MAX_DEPLOYMENTS, Deployment, explained
from collector.sources.http_client import HttpClient
from collector.sources.target import Limits, parse_address
from shm.errors import ConfigurationError
from shm.safe_repr import shown

KEY: Final = "[source.deployment] docker_url"
LABEL_KEY: Final = "[source.deployment] docker_label"


class DockerProvider:
    """The engine at ``url``; deployments are the values of ``label``. Raises ConfigurationError."""

    name = "docker"

    def __init__(self, url: str, label: str, limits: Limits) -> None:
        if not label or "=" in label:
            raise ConfigurationError(
                f'{LABEL_KEY} is {label!r}; give the name of a label, such as "com.docker.compose.service"'
            )
        address = parse_address(url, KEY)
        filters = quote(json.dumps({"label": [label]}, separators=(",", ":")), safe="")
        self._url = f"{address.url.rstrip('/')}/containers/json?all=true&filters={filters}"
        self._shown = address.shown
        self._client = HttpClient(address, limits, {"Accept": "application/json"})
        self._label = label

    def deployments(self) -> list[Deployment]:
        """Raises ProviderError."""
        if_none = f"does it run, and may this user open it? set {KEY}"
        if_other = f"set {KEY} to the engine's socket"
        return explained(
            lambda: parse_containers(self._client.exchange(self._url).reply(), self._label),
            self._shown, "Docker or Podman", if_none, "Docker or Podman", if_other,
        )  # fmt: skip

    def close(self) -> None:
        self._client.close()


def parse_containers(body: bytes, label: str) -> list[Deployment]:
    """The values of ``label`` in a reply to /containers/json, in its order. Raises ValueError. Pure."""
    running: dict[str, int] = {}
    for one in json_reply.objects(json_reply.parse_json(body)):
        state, labels = one.get("State"), one.get("Labels")
        if not isinstance(state, str) or not isinstance(labels, dict | None):
            raise ValueError("a container lacks State, a string, and Labels, an object")
        value = (labels or {}).get(label)
        if value is None or value == "":
            continue  # the filter excludes containers without it; an empty name can't be a deployment
        if not isinstance(value, str):
            raise ValueError(f"the label {label} of a container is {shown(value)}, not a string")
        running[value] = running.get(value, 0) + (state == "running")
        if len(running) > MAX_DEPLOYMENTS:
            raise ValueError(f"its answer has more than {MAX_DEPLOYMENTS} deployments")
    return [Deployment(name, replicas=float(count)) for name, count in running.items()]
