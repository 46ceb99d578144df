"""The life of a collector process: worker ticks by schedule, bounds its source by timeouts, and ends by stop."""
