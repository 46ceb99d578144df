"""TODO fogmetrics/application"""
