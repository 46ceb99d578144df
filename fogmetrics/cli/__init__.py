"""TODO fogmetrics/cli"""
