"""Statistics over windows.

page puts /metrics/aggregated together; statistics and from_buckets compute; coverage says how much of a window its
frames cover; incremental keeps long windows up to date.
"""
