"""Users and groups by name and number."""

from __future__ import annotations

import os

import pytest

from shm.errors import ConfigurationError
from shm.owners import group_number, user_number


def test_a_group_is_found_by_name_and_number_and_an_unknown_one_is_refused_by_name() -> None:
    assert group_number("") is None
    assert group_number("1234") == 1234
    assert group_number("root") == 0
    with pytest.raises(ConfigurationError, match="'no-such-group', which is not a group"):
        group_number("no-such-group")


@pytest.mark.parametrize("group", ["²", "a\0b", "١"])
def test_what_only_looks_like_a_number_is_no_group(group: str) -> None:
    with pytest.raises(ConfigurationError, match=r"fog\.toml: \[shm\] group is .*, which is not a group"):
        group_number(group, "fog.toml: [shm]")


@pytest.mark.parametrize("group", ["4294967295", "99999999999999999999", "9" * 5000])
def test_a_group_beyond_the_last_number_is_refused(group: str) -> None:
    with pytest.raises(ConfigurationError, match=r"group is .*, which is out of range; give a name"):
        group_number(group)
    assert group_number("4294967294") == 4294967294


def test_users_are_found_by_name_and_number_and_an_unknown_one_is_refused_by_name() -> None:
    assert user_number("") == os.geteuid()
    assert user_number("4242") == 4242
    assert user_number("root") == 0
    with pytest.raises(ConfigurationError, match="'no-such-user', which is not a user"):
        user_number("no-such-user")


@pytest.mark.parametrize("owner", ["²", "a\0b"])
def test_what_only_looks_like_a_number_is_no_user(owner: str) -> None:
    with pytest.raises(ConfigurationError, match=r"fog\.toml: \[shm\] owner is .*, which is not a user"):
        user_number(owner, "fog.toml: [shm]")


@pytest.mark.parametrize("owner", ["4294967295", "99999999999999999999"])
def test_a_user_beyond_the_last_number_is_refused(owner: str) -> None:
    with pytest.raises(ConfigurationError, match=r"owner is .*, which is out of range; give a name"):
        user_number(owner)
