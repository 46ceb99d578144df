"""Long windows that are asked for again: kept up to date frame by frame instead of computed anew.

Read rolling first; bands keep order statistics, blocks keep sums.
"""
