"""Collectors: one process per source, which samples it every interval and appends one frame to a ring."""
