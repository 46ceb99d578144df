"""TODO exporter/exposition"""
