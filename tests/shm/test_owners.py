"""Users and groups by name and number."""

from __future__ import annotations

import os
from collections.abc import Callable

import pytest

from shm.errors import ConfigurationError
from shm.owners import group_number, user_number

BOTH = pytest.mark.parametrize(("kind", "number_of"), [("user", user_number), ("group", group_number)])


@BOTH
def test_it_is_found_by_name_and_number_and_an_unknown_one_is_refused_by_name(
    kind: str, number_of: Callable[..., int | None]
) -> None:
    assert number_of("") == (os.geteuid() if kind == "user" else None)
    assert number_of("1234") == 1234
    assert number_of("4294967294") == 4294967294
    assert number_of("root") == 0
    with pytest.raises(ConfigurationError, match=rf"'no-such-{kind}', which is not a {kind}"):
        number_of(f"no-such-{kind}")


def test_the_remedy_fits_the_key() -> None:
    for key, remedy in (("owner", "name the user that runs the collectors"), ("users", "correct the name, or create")):
        with pytest.raises(ConfigurationError, match=rf"fog\.toml {key} is 'nobody-here', .*; {remedy}"):
            user_number("nobody-here", "fog.toml", key)


@pytest.mark.parametrize("text", ["²", "a\0b", "١"])
@BOTH
def test_what_only_looks_like_a_number_is_none(kind: str, number_of: Callable[..., int | None], text: str) -> None:
    with pytest.raises(ConfigurationError, match=rf"fog\.toml: \[shm\] \w+ is .*, which is not a {kind}"):
        number_of(text, "fog.toml: [shm]")


@pytest.mark.parametrize("text", ["4294967295", "99999999999999999999", "9" * 5000])
@BOTH
def test_one_beyond_the_last_number_is_refused(kind: str, number_of: Callable[..., int | None], text: str) -> None:
    with pytest.raises(ConfigurationError, match=r"is .*, which is out of range; give a name"):
        number_of(text)
