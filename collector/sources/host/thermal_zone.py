"""thermal_zone: temperatures and cooling devices of /sys/class/thermal; no samples on hosts without them.

    thermal_zone0/type  x86_pkg_temp       thermal_zone0/temp     49925      thousandths of a degree
    cooling_device0/type  Processor        cooling_device0/cur_state  0      cooling_device0/max_state  7

https://docs.kernel.org/driver-api/thermal/sysfs-api.html. A sensor that can't be read has no sample.
"""

from __future__ import annotations

from collector.source import Collection, Sample
from collector.sources.host.group import Group, Places, gauge, stateless

_CLASS = "class/thermal"
_ZONE = "thermal_zone"
_COOLING = "cooling_device"
_TEMP = gauge("node_thermal_zone_temp", "Temperature of the zone, in degrees Celsius.", "celsius", "zone", "type")
_STATES = {
    "cur_state": gauge("node_cooling_device_cur_state", "How hard the device cools now.", "", "name", "type"),
    "max_state": gauge("node_cooling_device_max_state", "How hard the device can cool.", "", "name", "type"),
}


def read(places: Places) -> Collection:
    samples, errors = [], []
    for name in places.sys.names(_CLASS):
        kind = places.sys.passing(f"{_CLASS}/{name}/type") or ""
        if name.startswith(_ZONE):
            labels = {"zone": name.removeprefix(_ZONE), "type": kind}
            temperatures, wrong = places.sys.passing_number(f"{_CLASS}/{name}/temp")
            samples += [Sample(_TEMP.name, degrees / 1000.0, labels) for degrees in temperatures]
            errors += wrong
        elif name.startswith(_COOLING):
            labels = {"name": name.removeprefix(_COOLING), "type": kind}
            for file, metric in _STATES.items():
                states, wrong = places.sys.passing_number(f"{_CLASS}/{name}/{file}")
                samples += [Sample(metric.name, state, labels) for state in states]
                errors += wrong
    return Collection(samples, errors)


GROUP = Group("thermal_zone", (_TEMP, *_STATES.values()), stateless(read))
