"""TODO exporter/status"""
