"""Reads the text of a TOML file, and explains why one can't be read."""

from __future__ import annotations

import codecs
import os
import re
import shlex
import stat
import tomllib
from pathlib import Path
from typing import Any

from shm.errors import ConfigurationError
from shm.safe_repr import shown

# The start of a text in another encoding than UTF-8: byte order marks (the longer first), or a NUL beside the first
# character.
_OTHER_ENCODINGS = (
    (codecs.BOM_UTF32_LE, "UTF-32"),
    (codecs.BOM_UTF32_BE, "UTF-32"),
    (codecs.BOM_UTF16_LE, "UTF-16"),
    (codecs.BOM_UTF16_BE, "UTF-16"),
)
_WAY_OUT = "give --config or $FOGMETRICS_CONFIG the path of a TOML file"


def read(path: Path) -> str:
    """The text of a configuration file. Raises ConfigurationError, which says why it can't be read."""
    what = f"the configuration file {path}"
    try:
        kind = path.stat().st_mode
        if not stat.S_ISREG(kind):  # to open a FIFO could take for ever
            raise ConfigurationError(f"{what} is {_kind(kind)}, not a file; {_WAY_OUT}")
        data = path.read_bytes()
    except FileNotFoundError:
        if path.is_symlink():
            raise ConfigurationError(
                f"{what} is a link to {path.readlink()}, which is missing; make that file, or remove the link"
            ) from None
        raise ConfigurationError(f"there is no configuration file {path}; {_WAY_OUT} that exists") from None
    except PermissionError:
        raise ConfigurationError(
            f"{what} can't be read by this user, number {os.geteuid()}; let it read the file and enter the directories "
            "above"
        ) from None
    except (OSError, ValueError) as error:  # ValueError: a NUL in the path
        reason = error.strerror if isinstance(error, OSError) else error
        raise ConfigurationError(f"{what} can't be read: {reason}; {_WAY_OUT}") from None
    return _decoded(data, path)


def _kind(mode: int) -> str:
    names = ((stat.S_ISDIR, "a directory"), (stat.S_ISFIFO, "a FIFO"), (stat.S_ISSOCK, "a socket"))
    return next((name for fits, name in names if fits(mode)), "a device")


def _decoded(data: bytes, path: Path) -> str:
    encoding = next((name for mark, name in _OTHER_ENCODINGS if data.startswith(mark)), "")
    if not encoding and 0 in data[:2]:
        encoding = "UTF-16BE" if data[0] == 0 else "UTF-16LE"
    if encoding:
        raise ConfigurationError(
            f"{path} is in {encoding}, and TOML is in UTF-8; convert it: {_converting(encoding, path)}"
        )
    try:
        return data.decode("utf-8-sig")  # editors on Windows write a byte order mark
    except UnicodeDecodeError as error:
        line = data.count(b"\n", 0, error.start) + 1
        raise ConfigurationError(
            f"{path} has the byte 0x{data[error.start]:02x} in line {line}, which is not UTF-8, the encoding of TOML; "
            f"save the file as UTF-8, or convert it, if it is in Latin-1: {_converting('ISO-8859-1', path)}"
        ) from None


def _converting(encoding: str, path: Path) -> str:
    return f"iconv -f {encoding} -t UTF-8 {shlex.quote(str(path))}"


def parse(text: str, path: Path) -> dict[str, Any]:
    """The document in ``text``; ``path`` is for messages. Raises ConfigurationError."""
    try:
        document = tomllib.loads(text)
        repr(document)  # raises here if a later message could not show a value
    except tomllib.TOMLDecodeError as error:
        number = re.search(r"line (\d+)", str(error))  # none at the end of the document
        line = text.split("\n")[int(number[1]) - 1] if number else text.rstrip().rpartition("\n")[2]
        raise ConfigurationError(
            f"{path} is not TOML: {error}, {shown(line.strip())}; write each table and key once, and texts in quotes: "
            "https://toml.io/en/v1.0.0"
        ) from None
    except ValueError:  # the interpreter's limit, sys.get_int_max_str_digits()
        raise ConfigurationError(f"{path} has a number of thousands of digits; no key needs one") from None
    except RecursionError:
        raise ConfigurationError(f"{path} nests too deeply to be read; no key needs such nesting") from None
    return document
