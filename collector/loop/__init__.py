"""TODO collector/loop"""
