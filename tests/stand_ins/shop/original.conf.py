# What prometheus_client's documentation asks for in multiprocess mode, beside PROMETHEUS_MULTIPROC_DIR.
from prometheus_client import multiprocess


def child_exit(server, worker):
    multiprocess.mark_process_dead(worker.pid)
