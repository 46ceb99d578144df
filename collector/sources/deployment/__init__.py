"""The source *deployment*: replicas, request rate, error rate and latency of each deployment of this host.

Several programs know parts of a deployment: supervisord its processes, HAProxy its requests. Each such program is a
provider; :mod:`~collector.sources.deployment.source` reads the providers that the configuration lists, and merges
their values by deployment_id.
"""

from collector.sources.deployment.source import DeploymentMetricSource, DeploymentOptions

__all__ = ["DeploymentMetricSource", "DeploymentOptions"]
