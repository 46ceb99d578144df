"""TODO collector/frame"""
