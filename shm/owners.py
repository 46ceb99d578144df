"""Resolve the users and groups that own segments from their names or numbers."""

from __future__ import annotations

import grp
import os
import pwd
from collections.abc import Callable
from typing import Final

from shm.errors import ConfigurationError

_MAX_ID: Final = (1 << 32) - 2  # chown(2) takes 2**32 − 1 for "don't change"


def user_number(owner: str, where: str = "", key: str = "owner") -> int:
    """The id of the user with that name or number; this process's for an empty name. Raises ConfigurationError.

    ``where``, ``key``: how the message names the table and the key.
    """
    if not owner:
        return os.geteuid()
    if key == "owner":
        remedy = "name the user that runs the collectors, or leave the key empty if the exporter runs as the same user"
    else:
        remedy = "correct the name, or create the user"
    return _number(where, key, owner, lambda name: pwd.getpwnam(name).pw_uid, f"a user of this host; {remedy}")


def group_number(group: str, where: str = "", key: str = "group") -> int | None:
    """The id of the group with that name or number; None for an empty name. Raises ConfigurationError.

    ``where``, ``key``: how the message names the table and the key.
    """
    if not group:
        return None
    remedy = f"create it (groupadd -r {group}), or leave the key empty"
    return _number(where, key, group, lambda name: grp.getgrnam(name).gr_gid, f"a group of this host; {remedy}")


def _number(where: str, key: str, text: str, id_of: Callable[[str], int], wanted: str) -> int:
    what = f"{where} {key}".lstrip()
    if text.isascii() and text.isdecimal():
        if len(text) > 10 or int(text) > _MAX_ID:
            raise ConfigurationError(
                f"{what} is {text!r}, which is out of range; give a name, or a number up to {_MAX_ID}"
            )
        return int(text)
    try:
        return id_of(text)
    except (KeyError, ValueError):  # ValueError: a NUL in it
        raise ConfigurationError(f"{what} is {text!r}, which is not {wanted}") from None
