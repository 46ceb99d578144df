"""One application for each library that instruments web frameworks with prometheus_client, with the drop-in.

Each module has an application ``app`` that answers ``/`` and serves its library's own page at ``/metrics``.
"""

from fogmetrics import drop_in

drop_in.install("shop")
