"""Take over a changed configuration without a restart: POST /-/reload, SIGHUP, and by that ``fogmetrics reload``.

    [exporter], but for RESTART     taken over; limits of connections hold for those that are opened from then on
    which sources are off           taken over; their rings leave or join the pages
    [log]                           taken over
    what fixed() returns            named, since only a new process takes it over; TLS on or off, too

A mistake anywhere in the file changes nothing. ``fogmetrics reload`` restarts the exporter if what fixed() returns has
changed, and else sends it SIGHUP.
"""

from __future__ import annotations

import asyncio
import dataclasses
import logging
from collections.abc import Callable, Collection, Mapping
from pathlib import Path
from typing import Final, NamedTuple

from exporter.app import Exporter
from exporter.http import address
from exporter.settings import ExporterConfig, ExporterTables
from fogmetrics.settings.reader import mistakes_of
from shm.errors import ConfigurationError

log = logging.getLogger(__name__)

RESTART: Final = ("listen", "port", "nice")  # keys of [exporter]


class Read(NamedTuple):
    """A configuration without mistakes, and the sources that are on and off."""

    config: ExporterTables
    on: Collection[str]
    off: Collection[str]


def mistakes(config: ExporterTables, directory: Path = Path()) -> list[str]:
    """What the exporter would refuse of tables that are valid by themselves. ``directory``: its working directory."""
    checks = (config.ring_owner, config.table_owners, config.application_label)
    found = [*(one for check in checks for one in mistakes_of(check)), *mistakes_of(address.check, config)]
    if config.exporter.web_config:
        from exporter.http.web_config import web_file  # imported only where it is used: it takes 1.7 MiB

        found += mistakes_of(web_file, config, directory)
    return found


def fixed(config: ExporterTables) -> Mapping[str, object]:
    """What only a new process takes over, by the names of keys and tables."""
    return {
        "[shm] namespace": config.shm.namespace,
        "[shm] owner": config.shm.owner,
        "[applications]": config.applications,
        **{f"[exporter] {name}": getattr(config.exporter, name) for name in RESTART},
    }


class Reload:
    """Rereads the configuration of a running exporter.

    ``read``: reads it, or raises ConfigurationError with a message for each mistake. ``rest``: takes over what is not
    the application's, and returns what has changed of it: by name, whether it was taken over or waits for a restart.
    ``off``: the sources that are off by ``config``.
    """

    def __init__(
        self,
        exporter: Exporter,
        config: ExporterTables,
        read: Callable[[], Read],
        rest: Callable[[Read], Mapping[str, bool]] = lambda found: {},
        off: Collection[str] = (),
    ) -> None:
        self._exporter, self._config, self._read, self._rest = exporter, config, read, rest
        self._fixed, self._off = fixed(config), off
        self._turn = asyncio.Lock()

    async def __call__(self) -> list[str]:
        """A line for each change. Raises ConfigurationError; then nothing was changed."""
        async with self._turn:
            try:
                found = await asyncio.to_thread(self._read)
            except ConfigurationError as error:
                log.error("configuration is wrong, the last good one stays", extra={"error": "; ".join(error.args)})
                raise
            changed = [
                *_changed(self._config.exporter, found.config.exporter),
                *(f"[source.{name}] enabled" for name in sorted({*self._off} ^ {*found.off})),
            ]
            self._config, self._off = found.config, found.off
            await self._exporter.take_over(*found)
            rest, now = self._rest(found), fixed(found.config)
            waiting = [name for name, is_taken in rest.items() if not is_taken]
            waiting += [name for name in now if now[name] != self._fixed[name]]
            taken = [name for name in dict.fromkeys([*changed, *rest]) if name not in waiting]
            lines = [
                *(f"{name}: taken over" for name in taken),
                *(f"{name}: changed, which a restart of the exporter takes over" for name in waiting),
            ]
            log.info("configuration reread", extra={"changes": "; ".join(lines) or "none"})
            return lines


def _changed(before: ExporterConfig, now: ExporterConfig) -> list[str]:
    names = [one.name for one in dataclasses.fields(ExporterConfig) if one.name not in RESTART]
    return [f"[exporter] {name}" for name in names if getattr(before, name) != getattr(now, name)]
