"""TODO fogmetrics"""
