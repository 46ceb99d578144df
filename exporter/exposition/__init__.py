"""The latest samples as text.

format writes numbers, labels and headers; template fills prepared lines; conflicts groups series into families; latest
is the page /metrics.
"""
