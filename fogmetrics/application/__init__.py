"""Metrics of applications: code that runs in users' processes. It imports only shm and the basic modules of fogmetrics.

Read ``shared_collector`` first; ``drop_in`` stores the metrics of prometheus_client in the same tables.
"""
