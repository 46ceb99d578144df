"""The deployments of this host: replicas, request rate, error rate and latency of each.

What can be known of a deployment is spread over programs: supervisord knows which processes run, HAProxy what
passes through it. Each is a provider; :mod:`~collector.sources.deployment.source` asks those that the
configuration lists and merges what they say of one deployment_id.
"""

from collector.sources.deployment.source import DeploymentMetricSource, DeploymentOptions

__all__ = ["DeploymentMetricSource", "DeploymentOptions"]
