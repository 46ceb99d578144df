"""Mount points: how they are listed, filtered and named, and that one which hangs takes down no other."""

from __future__ import annotations

import os
import threading
from pathlib import Path

import pytest

from collector.sources.host.files import Files
from collector.sources.host.filesystem import Mount, Space, below, mounts, reader, space
from collector.sources.host.group import Places
from collector.sources.host.options import HostOptions
from tests.failing import raising

GIB = 2**30


def places(directory: Path, text: str | bytes, process: str = "1") -> Places:
    (directory / process).mkdir()
    (directory / process / "mounts").write_bytes(os.fsencode(text))
    return Places(Files(str(directory)), Files(str(directory)))


def by_mount(samples: object, metric: str) -> dict[str, float]:
    return {one.labels["mountpoint"]: one.value for one in samples if one.metric == metric}  # type: ignore[attr-defined]


def test_the_list_is_read_with_its_escapes_and_each_mount_once() -> None:
    text = (
        "/dev/a /mnt/my\\040disk\\134x ext4 rw,noatime 0 0\n/dev/b /b xfs noatime,ro 0 0\n/dev/b /b xfs ro 0 0\n\nodd\n"
    )
    found, [error] = mounts("/proc/1/mounts", text)
    assert found == [
        Mount("/dev/a", "/mnt/my disk\\x", "ext4", False),
        Mount("/dev/b", "/b", "xfs", True),
    ]
    assert error.startswith("line 5 of /proc/1/mounts is 'odd', which can't be read")
    for written, name in (("/a\\011\\012", "/a\t\n"), ("/a\\134040b", "/a\\040b"), ("/\x0cfeed\x85", "/\x0cfeed\x85")):
        assert mounts("", f"/dev/d {written} vfat rw 0 0\n") == ([Mount("/dev/d", name, "vfat", False)], [])
    assert mounts("", "/dev/c /c ext4 rw,errors=remount-ro 0 0\n")[0][0].readonly is False


@pytest.mark.parametrize(
    ("below", "on_top", "readonly"),
    [
        ("/dev/a /srv ext4 rw,relatime 0 0", "/dev/a /srv ext4 ro,relatime 0 0", True),  # a read-only bind mount
        ("/dev/a /srv ext4 ro 0 0", "/dev/a /srv ext4 rw 0 0", False),
        ("/dev/b /srv xfs rw 0 0", "/dev/a /srv ext4 ro 0 0", True),  # another file system covers it
        ("autofs /srv autofs rw 0 0", "/dev/a /srv ext4 rw,emergency_ro 0 0", True),
    ],
)
def test_of_several_mounts_at_a_mount_point_the_last_is_listed_with_its_own_flags(
    tmp_path: Path, below: str, on_top: str, readonly: bool
) -> None:
    table = places(tmp_path, f"{below}\n/dev/r / ext4 rw 0 0\n{on_top}\n")
    reading = reader(table, HostOptions(), lambda _: Space(1, 1, 1, 1, 1))()
    assert by_mount(reading.samples, "node_filesystem_readonly") == {"/": 0, "/srv": readonly}
    assert {one.labels["device"] for one in reading.samples if one.labels["mountpoint"] == "/srv"} == {"/dev/a"}


def test_a_mount_point_is_never_asked_while_a_network_file_system_covers_it(tmp_path: Path) -> None:
    table = places(tmp_path, "/dev/a /srv ext4 rw 0 0\nserver:/x /srv nfs4 rw 0 0\n")
    assert reader(table, HostOptions(), raising(AssertionError("asked")))().samples == []


def test_a_mount_point_below_one_that_was_covered_later_is_left_out(tmp_path: Path) -> None:
    """Its path leads into what covers it. The root is mounted on the first one, and after /run, as by an initramfs."""
    points = (
        "/",
        "/run",
        "/",
        "/data",
        "/data/in",
        "/data",
        "/data/new",
        "/datax",
        "/a\\040b/c",
        "/a\\040b",
        "/data/in/x",
    )
    parents = (1, 3, 1, 3, 4, 4, 6, 3, 3, 3, 5)
    table = places(tmp_path, "".join(f"/dev/a {point} ext4 rw 0 0\n" for point in points))
    info = [
        f"{number} {parent} 8:{number} / {point} rw,relatime shared:1 - ext4 /dev/a rw\n"
        for number, (point, parent) in enumerate(zip(points, parents, strict=True), 1)
    ]
    (tmp_path / "1/mountinfo").write_text("".join(["odd\n", *info]))
    reading = reader(table, HostOptions(), lambda _: Space(1, 1, 1, 1, 1))()
    assert set(by_mount(reading.samples, "node_filesystem_size_bytes")) == {
        "/", "/run", "/data", "/data/new", "/datax", "/a b",
    }  # fmt: skip
    [error] = reading.errors
    assert error.startswith(f"line 1 of {tmp_path}/1/mountinfo is 'odd', which can't be read")


def test_a_list_that_was_seen_from_a_container_is_told_in_the_hosts_names() -> None:
    def named(*points: str) -> list[Mount]:
        return [Mount("/dev/a", point, "ext4", False) for point in points]

    seen = named("/", "/host", "/host/boot", "/hostess", "/etc/hosts")
    assert [mount.mountpoint for mount in below("/host/", seen)] == ["/", "/boot"]
    hosts = named("/", "/boot")
    assert below("/host", hosts) == hosts
    assert below("/", seen) == seen


def test_file_systems_are_asked_below_rootfs_and_left_out_by_mount_and_type(tmp_path: Path) -> None:
    text = (
        "/dev/a / ext4 rw 0 0\n/dev/b /srv xfs rw 0 0\ntmpfs /dev/shm tmpfs rw 0 0\ntmpfs /run tmpfs rw 0 0\n"
        "server:/x /home nfs4 rw 0 0\nproc /proc proc rw 0 0\n/dev/d /development ext4 rw 0 0\n"
    )
    asked = []

    def ask(path: str) -> Space:
        asked.append(path)
        return Space(5 * GIB, 3 * GIB, 2 * GIB, 100, 60)

    read = reader(places(tmp_path, text), HostOptions(rootfs="/host"), ask)
    reading = read()
    assert asked == ["/host/", "/host/srv", "/host/run", "/host/development"]
    assert set(by_mount(reading.samples, "node_filesystem_size_bytes")) == {"/", "/srv", "/run", "/development"}
    assert by_mount(reading.samples, "node_filesystem_avail_bytes")["/srv"] == 2 * GIB
    assert not reading.errors


def test_a_path_that_is_not_utf8_is_asked_as_it_is_and_shown_with_a_replacement_character(tmp_path: Path) -> None:
    rootfs = os.fsencode(tmp_path) + b"/host\xe8"
    os.makedirs(rootfs + b"/mnt/caf\xe9 au lait")
    text = b"".join(
        b"/dev/\xfc %s%s fuse.\xe4 rw 0 0\n" % (rootfs, path)
        for path in (b"", b"/mnt/caf\xe9\\040au\\040lait", b"/mnt/gone\xe9", b"/mnt/skipped\xe9")
    )
    options = HostOptions(rootfs=os.fsdecode(rootfs), filesystem_exclude_mounts=("/mnt/skipped\ufffd",))
    reading = reader(places(tmp_path, text), options)()
    shown = {"device": "/dev/\ufffd", "fstype": "fuse.\ufffd", "mountpoint": "/mnt/caf\ufffd au lait"}
    assert [one.value for one in reading.samples if one.labels == shown][-1] == 0  # node_filesystem_device_error
    assert by_mount(reading.samples, "node_filesystem_device_error") == {
        "/": 0, "/mnt/caf\ufffd au lait": 0, "/mnt/gone\ufffd": 1,
    }  # fmt: skip
    assert list(reading.errors) == ["/mnt/gone\ufffd: No such file or directory"]


def test_a_mount_that_hangs_has_an_error_and_the_others_their_space(tmp_path: Path) -> None:
    gate = threading.Event()
    asked: list[str] = []

    def ask(path: str) -> Space:
        asked.append(path)
        if path == "/dead":
            gate.wait(60)
        if path == "/gone":
            raise FileNotFoundError(2, "No such file or directory", path)
        if path == "/closed":
            raise PermissionError(13, "Permission denied", path)
        return Space(1, 1, 1, 1, 1)

    text = "".join(f"/dev/x {point} ext4 rw 0 0\n" for point in ("/a", "/dead", "/gone", "/closed", "/b"))
    read = reader(places(tmp_path, text), HostOptions(group_timeout_seconds=0.3), ask)
    try:
        for _ in range(2):
            reading = read()
            errors = by_mount(reading.samples, "node_filesystem_device_error")
            assert errors == {"/a": 0, "/dead": 1, "/gone": 1, "/closed": 1, "/b": 0}
            assert set(by_mount(reading.samples, "node_filesystem_size_bytes")) == {"/a", "/b"}
            assert [error.split(":")[0] for error in reading.errors] == ["/dead", "/gone"]
        assert asked.count("/dead") == 1  # known to hang, it is not asked again
        assert asked.count("/b") == 2
    finally:
        gate.set()


@pytest.mark.parametrize("process", ["1", "self"])
def test_the_list_is_that_of_process_one_or_our_own_where_it_is_hidden(process: str, tmp_path: Path) -> None:
    read = reader(places(tmp_path, "/dev/a / ext4 rw 0 0\n", process), HostOptions())
    assert set(by_mount(read().samples, "node_filesystem_size_bytes")) == {"/"}


def test_space_is_in_bytes() -> None:
    found = space("/")
    assert found.size >= found.free >= found.avail > GIB // 1024
    assert found.size % 512 == 0
