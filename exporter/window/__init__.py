"""TODO exporter/window"""
