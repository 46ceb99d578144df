"""The programs that we are measured beside: each starts on free ports of loopback, in a directory that goes away."""
