"""Statistics over windows.

page is /metrics/aggregated; compute applies statistics and from_buckets to the windows of rings; coverage reports how
much of a window the frames cover; incremental updates the statistics of long windows.
"""
