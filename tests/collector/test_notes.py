"""Settings of sources that are valid and have no effect."""

from __future__ import annotations

from pathlib import Path

import pytest

from collector import registry
from collector.notes import source_notes
from fogmetrics.config import Config, parse
from tests.docs.test_tables import uncommented
from tests.rings import ROOT


def notes_of(name: str, keys: str) -> list[str]:
    config = parse(f"[source.{name}]\n{keys}\n", Path("f.toml"))
    return source_notes(registry.build(name, config), config)


REGULAR = [
    "^lo$",
    "lo$",
    "^veth",
    "veth.*",
    ".*",
    "lo|eth0",
    "(a|b)",
    r"eth\\d",
    "sd[a-z]+",
    "a.+",
    "^(dm-|loop).*$",
    "5..",
    "br-.*",
    "[^a-z]*",
    "sd[a-z]{1,2}",
    "(?i)eth",
    "dm-.+",
]
GLOBS = [
    "lo",
    "veth*",
    "eth0.*",
    "*.*",
    "*@*",
    "[45]*",
    "5[0-9][0-9]",
    "/mnt/a+b",
    "c++",
    "*.example.com",
    "/srv/.snap*",
    "enp3s0?",
    "wg[0-9]*",
    "[!a]*",
    "/mnt/disk (1)",
    "/home/*/.cache",
    "$x",
    "",
]


@pytest.mark.parametrize("text", REGULAR)
def test_a_regular_expression_in_the_place_of_a_glob_is_noted(text: str) -> None:
    [note] = notes_of("node", f'network_exclude = ["lo", "{text}"]')
    value = text.replace("\\\\", "\\")
    assert note.startswith(
        f"[source.node] network_exclude has {value!r}, which looks like a regular expression; give a glob"
    )


@pytest.mark.parametrize("text", GLOBS)
def test_a_glob_is_not_noted(text: str) -> None:
    assert notes_of("node", f'network_exclude = ["{text}"]') == []


@pytest.mark.parametrize(
    ("name", "keys", "begins"),
    [
        ("host", 'enabled = true\ndisk_exclude = ["^sd"]', "[source.host] disk_exclude has '^sd'"),
        ("host", 'enabled = true\nnetwork_exclude = ["^sd"]', "[source.host] network_exclude has '^sd'"),
        ("host", 'enabled = true\nfilesystem_exclude_types = ["^tmp"]', "[source.host] filesystem_exclude_types has"),
        ("host", 'enabled = true\nfilesystem_exclude_mounts = ["^/(a|b)"]', "[source.host] filesystem_exclude_mounts"),
        (
            "deployment", 'providers = ["haproxy"]\nhaproxy_url = "http://h/"\nhaproxy_exclude = ["^stats$"]',
            "[source.deployment] haproxy_exclude has '^stats$'",
        ),
        (
            "deployment",
            'providers = ["prometheus"]\n[source.deployment.prometheus.shop]\nurl = "http://h/"\ndeployment_id = "s"\n'
            'requests = [{name = "a", labels = {code = "5.."}}]',
            "[source.deployment.prometheus.shop.requests.labels] code has '5..'",
        ),
    ],
)  # fmt: skip
def test_each_key_that_is_a_glob_is_looked_at(name: str, keys: str, begins: str) -> None:
    [note] = notes_of(name, keys)
    assert note.startswith(begins)


def test_a_directory_that_is_missing_or_is_none_is_noted(tmp_path: Path) -> None:
    (tmp_path / "file").touch()
    for name, path in (("system", tmp_path / "missing"), ("system", tmp_path / "file")):
        assert notes_of(name, f'proc = "{path}"') == [
            f"[source.system] proc is '{path}', which is not a directory now; make it, or give another path"
        ]
    assert notes_of("system", f'proc = "{tmp_path}"') == []


def test_keys_of_a_source_that_is_off_are_noted() -> None:
    assert notes_of("host", 'enabled = false\nproc = "/host/proc"') == [
        "[source.host] proc without effect, since the source is off: [source.host] enabled is false"
    ]
    [note] = notes_of("textfile", "max_files = 5\nmax_age_seconds = 60")
    assert note.startswith("[source.textfile] max_files, max_age_seconds without effect, since the source is off: ")
    assert notes_of("host", 'enabled = true\nproc = "/proc"') == []


@pytest.mark.parametrize(
    ("key", "name"),
    [("request", "betanet"), ("request", "deployment"), ("disk", "node"), ("group", "host")],
)
def test_a_time_limit_that_is_longer_than_the_collections_is_noted(key: str, name: str) -> None:
    enabled = "enabled = true\n" if name == "host" else ""
    [note] = notes_of(name, f'{enabled}{key}_timeout_seconds = "9s"')
    assert note.startswith(f"[source.{name}] {key}_timeout_seconds is 9, but 8 is used, 80% of the collection's 10 s; ")
    assert notes_of(name, f"{enabled}{key}_timeout_seconds = 8") == []


def test_the_defaults_have_no_notes() -> None:
    for name in registry.BUILT_IN:
        assert source_notes(registry.build(name, Config()), Config()) == []


def test_of_the_configuration_file_with_every_key_only_sources_that_are_off_are_noted() -> None:
    config = parse(uncommented((ROOT / "fogmetrics.toml").read_text()), Path("f.toml"))
    notes = [note for name in registry.BUILT_IN for note in source_notes(registry.build(name, config), config)]
    assert [note.split(" ")[0] for note in notes if "the source is off" not in note] == []
