r"""What more than one source reads of proc(5): its lines, taken apart. Pure.

/proc/PID/mounts    /dev/sda1 /mnt/my\040disk ext4 rw,relatime 0 0        device, mount point, type, options
/proc/net/dev       two lines of head, then  ``  eth0: 1234 7 0 0 0 0 0 0 5678 …``, sixteen counts
"""

from __future__ import annotations

from collections.abc import Iterator

# getmntent(3): what would part or end a field is written in octal, and the backslash, too; that one last.
_OCTAL = (("\\040", " "), ("\\011", "\t"), ("\\012", "\n"), ("\\134", "\\"))


def mount_lines(text: str) -> Iterator[tuple[str, str, str, str]]:
    """Device, mount point, type and options of each line of a mount table; the mount point decoded."""
    for line in text.split("\n"):  # not splitlines(), which parts at characters that a path may hold
        fields = line.split(" ")
        if len(fields) < 4:
            continue
        device, mountpoint, fstype, options = fields[:4]
        if "\\" in mountpoint:
            for octal, character in _OCTAL:
                mountpoint = mountpoint.replace(octal, character)
        yield device, mountpoint, fstype, options


def interface_counts(text: str) -> dict[str, list[int]]:
    """By the name of an interface, what it received and sent: bytes first and ninth."""
    found = {}
    for line in text.split("\n")[2:]:
        name, separator, rest = line.rpartition(":")  # the last: an alias has one in its name
        if separator:
            found[name.strip()] = [int(word) for word in rest.split()]
    return found
