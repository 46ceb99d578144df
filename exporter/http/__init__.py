"""TODO exporter/http"""
