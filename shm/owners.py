"""Resolve the users and groups that own segments from their names or numbers."""

from __future__ import annotations

import grp
import os
import pwd
from typing import Final

from shm.errors import ConfigurationError

_MAX_ID: Final = (1 << 32) - 2  # chown(2) takes 2**32 − 1 for "don't change"


def user_number(owner: str, where: str = "", key: str = "owner") -> int:
    """The id of the user with that name or number; this process's for an empty name. Raises ConfigurationError.

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
            f"{what} is {owner!r}, which is not a user of this host; name the user that runs the collectors, "
            "or leave the key empty if the exporter runs as the same user"
        ) from None


def group_number(group: str, where: str = "", key: str = "group") -> int | None:
    """The id of the group with that name or number; None for an empty name. Raises ConfigurationError.

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
            f"{what} is {group!r}, which is not a group of this host; create it (groupadd -r {group}), or leave "
            "the key empty"
        ) from None


def _id(what: str, text: str) -> int | None:
    """``text`` as a numeric id; None if it is a name. Raises ConfigurationError."""
    if not (text.isascii() and text.isdecimal()):
        return None
    if len(text) > 10 or int(text) > _MAX_ID:
        raise ConfigurationError(f"{what} is {text!r}, which is out of range; give a name, or a number up to {_MAX_ID}")
    return int(text)
