"""Loads and checks the configuration, one TOML file for all processes.

The file is the one given by ``--config``, else by ``FOGMETRICS_CONFIG``, else ``fogmetrics.toml`` in the working
directory (supervisord starts every process in the directory of supervisord.conf). Without a file all keys have their
defaults. Each table is a dataclass in the package that uses it; :class:`Config` has all of them.

Every process checks all tables, its own and those of others, and ends if there is a mistake in any. What depends on the
host, or on a source's class, is checked by the processes concerned, and before them by ``fogmetrics.cli.check``.
"""

from __future__ import annotations

import dataclasses
import os
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

from collector import registry
from collector.settings import CollectorTables, metric_mistakes
from exporter.settings import ExporterTables, host_mistakes, windows_ns
from fogmetrics.log import LogConfig
from fogmetrics.settings import ENV_NAMESPACE, toml_file
from fogmetrics.settings.reader import Where, key, keys_of, mistakes_of, read_partly
from shm.errors import ConfigurationError
from shm.files import check_name

DEFAULT_FILE = "fogmetrics.toml"
ENV_CONFIG = "FOGMETRICS_CONFIG"
WORKING_DIRECTORY = Path()


@dataclass(frozen=True)
class Config(CollectorTables, ExporterTables):
    """All tables of the configuration."""

    log: LogConfig = key(LogConfig(), "Logs of every process, to standard error.")


def load(
    path: str | Path | None = None, environ: Mapping[str, str] | None = None, directory: Path = WORKING_DIRECTORY
) -> Config:
    """The configuration in force. Raises ConfigurationError with a message for each mistake."""
    config, mistakes = examine(path, environ, directory)
    if mistakes:
        raise ConfigurationError(*mistakes)
    return config


def examine(
    path: str | Path | None = None, environ: Mapping[str, str] | None = None, directory: Path = WORKING_DIRECTORY
) -> tuple[Config, list[str]]:
    """The configuration in force, with defaults where it has mistakes, and a message for each mistake.

    ``directory``: where DEFAULT_FILE is, if it is there. Raises ConfigurationError for a file that can't be read.
    """
    environ = os.environ if environ is None else environ
    chosen = path or environ.get(ENV_CONFIG) or None
    config, mistakes = Config(), list[str]()
    if chosen is not None or os.path.lexists(directory / DEFAULT_FILE):
        file = Path(chosen or directory / DEFAULT_FILE)
        config, mistakes = examine_text(toml_file.read(file), file)
    if namespace := environ.get(ENV_NAMESPACE):
        mistakes += mistakes_of(check_name, f"${ENV_NAMESPACE}", namespace)
        config = dataclasses.replace(config, shm=dataclasses.replace(config.shm, namespace=namespace))
    return config, mistakes


def parse(text: str, path: Path) -> Config:
    """Parse and check the configuration ``text``; ``path`` is for messages. Raises ConfigurationError."""
    config, mistakes = examine_text(text, path)
    if mistakes:
        raise ConfigurationError(*mistakes)
    return config


def examine_text(text: str, path: Path) -> tuple[Config, list[str]]:
    """parse(), with defaults where the text has mistakes, and a message for each mistake."""
    document = toml_file.parse(text, path)
    mistakes = [
        f"{path} has no table {name!r}; write [source.{name}]"
        for name in registry.BUILT_IN
        if name not in keys_of(Config) and document.pop(name, None) is not None
    ]
    config = read_partly(Config, document, Where(str(path)), mistakes, Config, path=path)
    mistakes += mistakes_of(check_name, f"{config.where('shm')} namespace", config.shm.namespace)
    mistakes += mistakes_of(windows_ns, config)
    mistakes += [*host_mistakes(config), *registry.mistakes(config), *metric_mistakes(config)]
    return config, list(dict.fromkeys(mistakes))
