"""Incremental statistics of long windows: updated by the frames that enter and leave, not computed from all samples.

Read rolling first; bands keep order statistics, blocks keep sums.
"""
