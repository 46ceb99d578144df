"""The tables that collectors and exporter share: [shm] and [applications]."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

from fogmetrics.durations import Seconds
from fogmetrics.settings.reader import Where, key
from shm.errors import ConfigurationError, MetricError
from shm.metric import Metric
from shm.owners import user_number


@dataclass(frozen=True, slots=True)
class ShmConfig:
    """[shm]"""

    namespace: str = key("default", "Keeps two instances on one host apart; part of every segment's name.")
    capacity: int = key(
        5760,
        "Frames that a ring holds: 5760 are 24 h at 15 s. Memory is taken for all of them.",
        low=8,
        high=16_777_216,
    )
    group: str = key("", "Group (name or number) that may read the rings; empty: the collector's own group.")
    owner: str = key("", "User (name or number) whose rings readers trust; empty: the reader's own user.")
    snapshot_dir: str = key("", "Directory on disk for snapshots of the rings, restored after a reboot; empty: none.")
    snapshot_seconds: Seconds = key(300.0, "Time from one snapshot of a ring to the next.", low=1, high=86_400)

    @property
    def snapshot_directory(self) -> Path | None:
        return Path(self.snapshot_dir) if self.snapshot_dir else None


@dataclass(frozen=True, slots=True)
class ApplicationsConfig:
    """[applications]"""

    users: tuple[str, ...] = key((), "Users (names or numbers), in addition to [shm] owner, whose tables are trusted.")
    label: str = key("application", "Label of all their series, with the application's name; empty: none.")


@dataclass(frozen=True)
class SharedTables:
    """The tables that every process of the daemon reads. ``path`` is None without a file, when all is default."""

    path: Path | None = None
    shm: ShmConfig = key(ShmConfig(), "Where the rings are and how long they reach.")
    applications: ApplicationsConfig = key(ApplicationsConfig(), "Programs that keep their metrics in tables.")

    @property
    def file(self) -> str:
        """The name of the file in messages."""
        return str(self.path or "defaults")

    def where(self, table: str) -> str:
        """The name of a table in messages, such as ``fog.toml: [source.node]``."""
        return str(Where(self.file, table))

    def ring_owner(self) -> int:
        """The user id whose rings are trusted. Raises ConfigurationError for an unknown user."""
        return user_number(self.shm.owner, self.where("shm"))

    def application_label(self) -> str:
        """[applications] label. Raises ConfigurationError."""
        label = self.applications.label
        if label:
            try:
                Metric("x", "gauge", "", label_names=(label,))
            except MetricError:
                raise ConfigurationError(
                    f"{self.where('applications')} label is {label!r}, which is not a label name; give one such as "
                    '"application", or "" for none'
                ) from None
        return label

    def table_owners(self) -> set[int]:
        """The user ids whose tables are trusted. Raises ConfigurationError for an unknown user."""
        return {
            self.ring_owner(),
            *(user_number(one, self.where("applications"), "users") for one in self.applications.users),
        }
