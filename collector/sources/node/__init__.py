"""TODO collector/sources/node"""
