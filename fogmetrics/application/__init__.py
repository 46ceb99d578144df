"""Metrics of applications: what runs in other people's processes. Imports shm and the ground floor of fogmetrics alone.

Read shared_collector first; drop_in keeps the metrics of prometheus_client in the same tables.
"""
