"""hwmon: temperatures of the chips in /sys/class/hwmon; no samples where there are none.

    hwmon0/name         coretemp           node_hwmon_chip_names{chip="platform_coretemp_0",chip_name="coretemp"} 1
    hwmon0/device    -> ../../../coretemp.0
    hwmon0/temp1_input  49000              node_hwmon_temp_celsius{chip="platform_coretemp_0",sensor="temp1"} 49
    hwmon0/temp1_label  Package id 0       node_hwmon_sensor_label{chip=…,sensor="temp1",label="Package id 0"} 1

https://docs.kernel.org/hwmon/sysfs-interface.html. The number of a hwmon depends on the order in which drivers were
loaded, so the label ``chip`` is the last two parts of its device's path, or else the chip's name. Two chips of one
device have their names appended, or their numbers if the names are the same, as in node_exporter since 1.12.
"""

from __future__ import annotations

import os
import re
from collections import Counter

from collector.source import Collection, Sample
from collector.sources.host.group import Group, Places, gauge, stateless
from shm.safe_repr import said

_CLASS = "class/hwmon"
_TEMP = gauge("node_hwmon_temp_celsius", "Temperature, in degrees Celsius.", "celsius", "chip", "sensor")
_CHIP = gauge("node_hwmon_chip_names", "Always 1; the driver's name of a chip.", "", "chip", "chip_name")
_LABEL = gauge("node_hwmon_sensor_label", "Always 1; the driver's name of a sensor.", "", "chip", "label", "sensor")
_FILE = re.compile(r"temp[0-9]+_(input|label)")
_NOT_IN_A_NAME = re.compile(r"[^a-z0-9:_]")


def clean(text: str) -> str:
    """A name as a label value, as in node_exporter: lower case, ``_`` for characters not allowed in metric names."""
    return _NOT_IN_A_NAME.sub("_", text.strip().lower()).strip("_")


def chip_of(device: str | None, name: str | None, directory: str) -> str:
    """The label of a chip: from the real path of its device, its name, or the last part of its own real path."""
    if device is not None:
        head, _, last = device.rpartition("/")
        kind = clean(head.rpartition("/")[2])
        if clean(last):
            return f"{kind}_{clean(last)}" if kind else clean(last)
    return clean(name or "") or clean(directory.rpartition("/")[2])


def chips(places: Places) -> dict[str, tuple[str, str]]:
    """By the name of its directory, such as hwmon0: the label of a chip, and its cleaned name, "" if it has none."""
    found = {}
    for entry in places.sys.names(_CLASS):
        path = places.sys.path(f"{_CLASS}/{entry}")
        device = os.path.realpath(f"{path}/device") if os.path.exists(f"{path}/device") else None
        name = clean(places.sys.passing(f"{_CLASS}/{entry}/name") or "")
        found[entry] = chip_of(device, name, os.path.realpath(path)), name
    shared = Counter(chip for chip, _ in found.values())
    same = Counter(found.values())
    for entry, (chip, name) in found.items():
        if shared[chip] > 1:
            found[entry] = f"{chip}_{name if name and same[chip, name] == 1 else clean(entry)}", name
    return found


def read(places: Places) -> Collection:
    samples: list[Sample] = []
    errors: list[str] = []
    for entry, (chip, name) in chips(places).items():
        if name:
            samples.append(Sample(_CHIP.name, 1, {"chip": chip, "chip_name": name}))
        found, wrong = _sensors(places, f"{_CLASS}/{entry}", chip)
        samples += found
        errors += wrong
    return Collection(samples, errors)


def _sensors(places: Places, directory: str, chip: str) -> tuple[list[Sample], list[str]]:
    samples, errors, files = [], [], {}
    for place in (directory, f"{directory}/device"):  # before Linux 3.13 drivers used the second
        try:
            files.update({name: f"{place}/{name}" for name in places.sys.names(place) if _FILE.fullmatch(name)})
        except OSError as error:
            errors.append(said(error))
    for name, file in files.items():
        sensor, _, kind = name.partition("_")
        if kind == "input":
            temperatures, wrong = places.sys.passing_number(file)
            labels = {"chip": chip, "sensor": sensor}
            samples += [Sample(_TEMP.name, degrees / 1000.0, labels) for degrees in temperatures]
            errors += wrong
        elif text := places.sys.passing(file):
            samples.append(Sample(_LABEL.name, 1, {"chip": chip, "label": text, "sensor": sensor}))
    return samples, errors


GROUP = Group("hwmon", (_TEMP, _CHIP, _LABEL), stateless(read))
