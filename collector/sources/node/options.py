"""The keys of [source.node]. Apart from the source, so that checking them does not import psutil."""

from __future__ import annotations

from dataclasses import dataclass

from fogmetrics.durations import Seconds
from fogmetrics.settings.reader import Glob, key
from shm.errors import ConfigurationError

# Interfaces whose bytes also pass a physical one, and would count twice, as VLANs ("eth0.5"); or never leave the host.
_VIRTUAL = (
    "lo", "veth*", "vnet*", "lxc*", "docker*", "br-*", "virbr*", "bond*", "team*", "dummy*", "ifb*", "tun*", "tap*",
    "wg*", "vxlan*", "cni*", "flannel*", "cali*", "*.*",
)  # fmt: skip


@dataclass(frozen=True, slots=True)
class NodeOptions:
    """[source.node]"""

    node_id: str = key("", "Value of the label node_id; empty: the host's name.")
    disk_path: str = key("/", "Path on the file system that node_disk_usage measures.")
    disk_timeout_seconds: Seconds = key(
        2.0, "Time the file system may take to answer; after it, the sample is absent.", low=0.01, high=60
    )
    network_exclude: tuple[Glob, ...] = key(_VIRTUAL, "Globs of interfaces that node_network_io leaves out.")

    def __post_init__(self) -> None:
        if not self.disk_path.startswith("/"):
            raise ConfigurationError(
                f'[source.node] disk_path is {self.disk_path!r}; give an absolute path, such as "/"'
            )
