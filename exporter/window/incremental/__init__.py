"""TODO exporter/window/incremental"""
