"""Users and groups by name or number, as the owners of segments."""

from __future__ import annotations

import grp
import os
import pwd
from typing import Final

from shm.errors import ConfigurationError

_MAX_ID: Final = (1 << 32) - 2  # 2**32 − 1 is no id: chown(2) takes it for "leave as it is"


def user_number(owner: str, where: str = "", key: str = "owner") -> int:
    """The id of the user of that name or number; our own for the empty name. Raises ConfigurationError.

    ``where``, ``key``: how the message names the table and the key.
    """
    if not owner:
        return os.geteuid()
    what = f"{where} {key}".lstrip()
    number = _id(what, owner)
    if number is not None:
        return number
    try:
        return pwd.getpwnam(owner).pw_uid
    except (KeyError, ValueError):  # ValueError: a NUL in it
        raise ConfigurationError(
            f"{what} is {owner!r}, which is no user of this host; name the user that runs the collectors, "
            "or leave the key empty when it is the one that runs the exporter"
        ) from None


def group_number(group: str, where: str = "", key: str = "group") -> int | None:
    """The id of the group of that name or number; None for the empty name. Raises ConfigurationError.

    ``where``, ``key``: how the message names the table and the key.
    """
    if not group:
        return None
    what = f"{where} {key}".lstrip()
    number = _id(what, group)
    if number is not None:
        return number
    try:
        return grp.getgrnam(group).gr_gid
    except (KeyError, ValueError):  # ValueError: a NUL in it
        raise ConfigurationError(
            f"{what} is {group!r}, which is no group of this host; create it (groupadd -r {group}), or leave "
            "the key empty"
        ) from None


def _id(what: str, text: str) -> int | None:
    """The user's or group's id that ``text`` is; None where it is a name. Raises ConfigurationError."""
    if not (text.isascii() and text.isdecimal()):
        return None
    if len(text) > 10 or int(text) > _MAX_ID:
        raise ConfigurationError(f"{what} is {text!r}, which is out of range; give a name, or a number up to {_MAX_ID}")
    return int(text)
