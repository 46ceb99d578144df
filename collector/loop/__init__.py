"""The tick loop of a collector process (worker, schedule, stop), calls with timeouts, and snapshots (disk_copies)."""
