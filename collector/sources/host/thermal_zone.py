"""thermal_zone: temperatures and cooling devices of /sys/class/thermal; no samples on hosts without them.

    thermal_zone0/type  x86_pkg_temp       thermal_zone0/temp     49925      thousandths of a degree
    cooling_device0/type  Processor        cooling_device0/cur_state  0      cooling_device0/max_state  7

https://docs.kernel.org/driver-api/thermal/sysfs-api.html. A sensor that can't be read has no sample.
"""

from __future__ import annotations

from collector.source import Sample
from collector.sources.host.group import Group, Places, gauge, stateless

_CLASS = "class/thermal"
_ZONE = "thermal_zone"
_COOLING = "cooling_device"
_TEMP = gauge("node_thermal_zone_temp", "Temperature of the zone, in degrees Celsius.", "celsius", "zone", "type")
_STATES = {
    "cur_state": gauge("node_cooling_device_cur_state", "How hard the device cools now.", "", "name", "type"),
    "max_state": gauge("node_cooling_device_max_state", "How hard the device can cool.", "", "name", "type"),
}


def number(text: str | None) -> int | None:
    """The number in the text of a sysfs file; None if it has none."""
    try:
        return int(text) if text else None
    except ValueError:
        return None


def read(places: Places) -> list[Sample]:
    samples = []
    for name in places.sys.names(_CLASS):
        kind = places.sys.passing(f"{_CLASS}/{name}/type") or ""
        if name.startswith(_ZONE):
            degrees = number(places.sys.passing(f"{_CLASS}/{name}/temp"))
            if degrees is not None:
                samples.append(Sample(_TEMP.name, degrees / 1000.0, {"zone": name.removeprefix(_ZONE), "type": kind}))
        elif name.startswith(_COOLING):
            labels = {"name": name.removeprefix(_COOLING), "type": kind}
            for file, metric in _STATES.items():
                state = number(places.sys.passing(f"{_CLASS}/{name}/{file}"))
                if state is not None:
                    samples.append(Sample(metric.name, state, labels))
    return samples


GROUP = Group("thermal_zone", (_TEMP, *_STATES.values()), stateless(read))
