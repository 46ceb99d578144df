"""Loads and checks the configuration, one TOML file for all processes.

The file is the one given by ``--config``, else by ``FOGMETRICS_CONFIG``, else ``fogmetrics.toml`` in the working
directory (supervisord starts every process in the directory of supervisord.conf). Without a file all keys have their
defaults. Each table is a dataclass in the package that uses it; :class:`Config` has all of them.
"""

from __future__ import annotations

import dataclasses
import os
import tomllib
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

from collector.settings import CollectorTables
from exporter.settings import ExporterTables
from fogmetrics.log import LogConfig
from fogmetrics.settings import ENV_NAMESPACE
from fogmetrics.settings.reader import Where, key, read_table
from shm.errors import ConfigurationError

DEFAULT_FILE = "fogmetrics.toml"
ENV_CONFIG = "FOGMETRICS_CONFIG"


@dataclass(frozen=True)
class Config(CollectorTables, ExporterTables):
    """All tables of the configuration."""

    log: LogConfig = key(LogConfig(), "Logs of every process, to standard error.")


def load(path: str | Path | None = None, environ: Mapping[str, str] | None = None) -> Config:
    """The configuration in force. Raises ConfigurationError."""
    environ = os.environ if environ is None else environ
    chosen = path or environ.get(ENV_CONFIG) or None
    if chosen is None and not Path(DEFAULT_FILE).exists():
        config = Config()
    else:
        config = parse(_read(Path(chosen or DEFAULT_FILE)), Path(chosen or DEFAULT_FILE))
    namespace = environ.get(ENV_NAMESPACE)
    if namespace:
        config = dataclasses.replace(config, shm=dataclasses.replace(config.shm, namespace=namespace))
    return config


def _read(path: Path) -> str:
    try:
        return path.read_text(encoding="utf-8-sig")  # editors on Windows write a byte order mark
    except FileNotFoundError:
        raise ConfigurationError(
            f"there is no configuration file {path}; give --config or {ENV_CONFIG} one that exists"
        ) from None
    except (OSError, UnicodeDecodeError) as error:
        raise ConfigurationError(f"the configuration file {path} can't be read: {error}") from error


def parse(text: str, path: Path) -> Config:
    """Parse the configuration ``text``; ``path`` is for messages. Raises ConfigurationError."""
    try:
        document = tomllib.loads(text)
        repr(document)  # raises here if a later message could not show a value
    except tomllib.TOMLDecodeError as error:
        raise ConfigurationError(f"{path} is not TOML: {error}; see https://toml.io/en/v1.0.0") from None
    except ValueError:  # the interpreter's limit, sys.get_int_max_str_digits()
        raise ConfigurationError(f"{path} has a number of thousands of digits; no key needs one") from None
    except RecursionError:
        raise ConfigurationError(f"{path} nests too deeply to be read; no key needs such nesting") from None
    return read_table(Config, document, Where(str(path)), Config, path=path)
